package import Codec
package import EntropyCoding
import Flow
package import Raster

/// Codes blocks: 8-bit RGB images of one size to a payload and back.
///
/// Every implementation gives the same bytes for the same model.
package protocol BlockCoding: Sendable {
    /// SHA-256 of the model file.
    var modelID: Digest { get }

    /// Images are padded to a multiple of this many rows and columns; bands are cut at multiples.
    var paddingMultiple: Int { get }

    /// Codes the images of a block that are worth it.
    ///
    /// - Parameters:
    ///   - images: 1 to 64 images of one size.
    ///   - isKept: Called once for each image, in order, with its cost in bytes, rounded up; says
    ///     whether the image stays in the block.
    /// - Returns: The payload of the images that stay, in order; empty when none does.
    func encode(
        _ images: [Image],
        keeping isKept: (_ index: Int, _ costBytes: Int) -> Bool
    ) -> [UInt8]

    /// The mirror of ``encode(_:keeping:)``.
    ///
    /// - Parameters:
    ///   - payload: The payload of a block.
    ///   - count: The number of images, 1 to 64.
    ///   - width: Of every image, in pixels.
    ///   - height: Of every image, in pixels.
    /// - Returns: The images.
    /// - Throws: When no encoder writes such a payload.
    func decode(
        _ payload: [UInt8],
        count: Int,
        width: Int,
        height: Int
    ) throws(BitstreamError) -> [Image]
}

extension BlockCodec: BlockCoding {
    package var modelID: Digest {
        guard let id = Digest(hex: model.id) else {
            preconditionFailure("a model's id is a SHA-256 in hexadecimal digits")
        }
        return id
    }

    package var paddingMultiple: Int { model.paddingMultiple }

    package func encode(
        _ images: [Image],
        keeping isKept: (_ index: Int, _ costBytes: Int) -> Bool
    ) -> [UInt8] {
        let analysis = analyse(images)
        return analysis.encode { isKept($0, (analysis.cost(ofImage: $0) + 7) / 8) }
    }
}
