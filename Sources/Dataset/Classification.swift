package import Raster

/// What a file of the source was found to be.
package struct Classification: Equatable, Sendable {
    package enum Content: Equatable, Sendable {
        /// An image that its samples and metadata restore (``Raster/DecodedImage/isRGB8``).
        case image(DecodedImage)
        /// Anything else, to be kept byte by byte.
        case stored(StoredReason)
    }

    /// What the first bytes say; nil for no image format that is known.
    package let format: ImageFormat?
    package let content: Content
}

/// Why a file is not a candidate for the model.
package enum StoredReason: Equatable, Sendable {
    /// An image that 8-bit red, green and blue samples alone do not restore.
    case restricted(DecodedImage.Restriction)
    /// An image in a format that is not decoded.
    case otherFormat(ImageFormat)
    /// An image with a feature that is not known here, or larger than the limits.
    case unsupported(RasterError)
    /// An image that cannot be decoded.
    case damaged(RasterError)
    /// The name's ending promises this format, the content is of none that is known.
    case unrecognised(promised: ImageFormat)
    /// No image: a label, a text, anything.
    case sideFile

    /// Whether the owner of the data should look at the file.
    package var isProblem: Bool {
        switch self {
        case .damaged, .unrecognised: true
        case .restricted, .otherFormat, .unsupported, .sideFile: false
        }
    }
}

extension StoredReason: CustomStringConvertible {
    package var description: String {
        switch self {
        case .restricted(.grey): "grey"
        case .restricted(.alpha): "alpha channel"
        case .restricted(.palette): "palette"
        case .restricted(.sixteenBit): "16 bits per sample"
        case .restricted(.animated): "animated"
        case .restricted(.trailingBytes): "bytes behind the image"
        case .restricted(.plainText): "samples as text"
        case .restricted(.sampleRange): "sample maximum is not 255"
        case .restricted(.tupleType): "tuple type is not RGB"
        case .otherFormat(let format): format.rawValue
        case .unsupported(let error): "\(error)"
        case .damaged(let error): "damaged: \(error)"
        case .unrecognised(let format): "damaged: not a \(format.rawValue) file as its name says"
        case .sideFile: "side file"
        }
    }
}

/// Finds out what a file is, by its content; its name decides only what counts as damage.
///
/// - Parameters:
///   - name: Of the file.
///   - bytes: The whole file.
///   - limits: Images above them are not decoded.
/// - Returns: What the file is; never an error, for damage is an answer too.
package func classify(
    name: String,
    bytes: [UInt8],
    limits: RasterLimits = RasterLimits()
) -> Classification {
    let format = ImageFormat.sniff(bytes)
    let promised = ImageFormat.promised(byName: name)
    switch format {
    case .png, .pnm:
        // "P1 " also begins texts: only a name makes a broken PNM out of one.
        let isText = format == .pnm && promised != .pnm
        do {
            let image =
                format == .png
                ? try PNG.read(bytes, limits: limits) : try PNM.read(bytes, limits: limits)
            let content: Classification.Content =
                image.restriction.map { .stored(.restricted($0)) } ?? .image(image)
            return Classification(format: format, content: content)
        } catch {
            let reason: StoredReason =
                switch error.reason {
                case _ where isText: .sideFile
                case .unsupported, .tooLarge: .unsupported(error)
                default: .damaged(error)
                }
            return Classification(format: isText ? nil : format, content: .stored(reason))
        }
    case let format?:
        return Classification(format: format, content: .stored(.otherFormat(format)))
    case nil:
        let reason = promised.map { StoredReason.unrecognised(promised: $0) } ?? .sideFile
        return Classification(format: nil, content: .stored(reason))
    }
}
