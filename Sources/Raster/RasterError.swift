/// Why bytes are no image that can be read, and where.
package struct RasterError: Error, Equatable, Sendable {
    package enum Reason: Equatable, Sendable {
        /// The signature of the format is missing.
        case badSignature
        /// The bytes end before the image does.
        case truncated
        /// The CRC of the named PNG chunk does not fit its content.
        case checksumMismatch(chunk: String)
        /// A chunk or header field breaks the format; the text names it.
        case malformed(String)
        /// Valid, but not known here; the text names what.
        case unsupported(String)
        /// The image is larger than ``RasterLimits``; in pixels.
        case tooLarge(width: Int, height: Int)
        /// The compressed pixels cannot be decoded; the text is the library's.
        case corruptPixels(String)
    }

    package let reason: Reason
    /// Of the header field or chunk at fault, from the start of the file.
    package let byteOffset: Int

    package init(_ reason: Reason, at byteOffset: Int) {
        self.reason = reason
        self.byteOffset = byteOffset
    }
}

extension RasterError: CustomStringConvertible {
    package var description: String {
        let text =
            switch reason {
            case .badSignature: "the signature of the format is missing"
            case .truncated: "the file is truncated"
            case .checksumMismatch(let chunk): "the CRC of chunk \(chunk) does not match"
            case .malformed(let what): "malformed \(what)"
            case .unsupported(let what): "unsupported \(what)"
            case .tooLarge(let width, let height): "\(width)×\(height) pixels are too large"
            case .corruptPixels(let message): "corrupt pixel data (\(message))"
            }
        return "\(text), at byte \(byteOffset)"
    }
}

/// What a reader allocates at most; checked against the header before anything is allocated.
package struct RasterLimits: Equatable, Sendable {
    /// Width × height, in pixels.
    package var maximumPixels = 1 << 28
    /// Width and height, in pixels.
    package var maximumSide = 1 << 18
    /// Width × height × channels × bytes per sample, in bytes.
    package var maximumSampleBytes = 1 << 30

    package init() {}

    func check(
        width: Int,
        height: Int,
        bytesPerPixel: Int,
        at byteOffset: Int
    ) throws(RasterError) {
        guard
            width <= maximumSide, height <= maximumSide,
            width <= maximumPixels / height,
            width * height <= maximumSampleBytes / bytesPerPixel
        else { throw RasterError(.tooLarge(width: width, height: height), at: byteOffset) }
    }
}
