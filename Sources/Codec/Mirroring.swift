package import EntropyCoding
package import Raster

/// How an image is mirrored before it is coded, along any of its three axes.
///
/// A flow takes context from above and from the left and codes luma around green, so that an image
/// and its mirror images cost different numbers of bits. Where the model asks for it
/// (`FlowModel.mirrors`) the encoder takes the cheapest of the eight, for half a byte an image and
/// no time in decoding; see `Codec.md` for the layout.
package struct Mirroring: OptionSet, CaseIterable, Hashable, Sendable {
    package let rawValue: UInt8

    package init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// Left and right are exchanged.
    package static let columns = Mirroring(rawValue: 1)
    /// Top and bottom are exchanged.
    package static let rows = Mirroring(rawValue: 2)
    /// Red and blue are exchanged.
    package static let channels = Mirroring(rawValue: 4)

    /// The largest image that an encoder tries all mirror images of, in pixels; in larger ones what
    /// is cheaper here is dearer there.
    package static let searchedPixels = 1 << 14

    package static let allCases = (0..<8).map { Mirroring(rawValue: $0) }

    // MARK: - Use

    /// Returns the mirror image; that of the mirror image is the image.
    package func applied(to image: Image) -> Image {
        if isEmpty { return image }
        let (width, height) = (image.width, image.height)
        let samples = [UInt8](unsafeUninitializedCapacity: image.samples.count) { mirrored, count in
            for channel in 0..<image.channels {
                let source = contains(.channels) ? image.channels - 1 - channel : channel
                for y in 0..<height {
                    let sourceRow = source * height + (contains(.rows) ? height - 1 - y : y)
                    let row = image.samples[sourceRow * width..<(sourceRow + 1) * width]
                    let place = mirrored[(channel * height + y) * width..<image.samples.count]
                    if contains(.columns) {
                        _ = UnsafeMutableBufferPointer(rebasing: place).update(from: row.reversed())
                    } else {
                        _ = UnsafeMutableBufferPointer(rebasing: place).update(from: row)
                    }
                }
            }
            count = image.samples.count
        }
        return Image(width: width, height: height, channels: image.channels, samples: samples)
    }

    // MARK: - Payload

    /// The section of a payload: half a byte for each image, the low half first.
    package static func bytes(_ mirrorings: [Mirroring]) -> [UInt8] {
        stride(from: 0, to: mirrorings.count, by: 2).map { index in
            let high = index + 1 < mirrorings.count ? mirrorings[index + 1].rawValue : 0
            return mirrorings[index].rawValue | high << 4
        }
    }

    /// Returns the bytes of the section of so many images.
    package static func sectionSize(count: Int) -> Int { (count + 1) / 2 }

    /// Reads the section of a payload.
    ///
    /// - Parameters:
    ///   - payload: The payload from the section on.
    ///   - count: The number of images.
    /// - Returns: The mirroring of each image.
    /// - Throws: `BitstreamError` if the payload does not begin with a section of an encoder.
    package static func read(
        _ payload: ArraySlice<UInt8>,
        count: Int
    ) throws(BitstreamError) -> [Mirroring] {
        let section = payload.prefix(sectionSize(count: count))
        guard section.count == sectionSize(count: count) else {
            throw BitstreamError(.truncated, byteOffset: payload.endIndex)
        }
        let halves = section.flatMap { [$0 & 15, $0 >> 4] }
        if let wrong = halves.indices.first(where: { halves[$0] > (($0 < count) ? 7 : 0) }) {
            throw BitstreamError(.invalidSection, byteOffset: section.startIndex + wrong / 2)
        }
        return halves.prefix(count).map(Mirroring.init)
    }
}
