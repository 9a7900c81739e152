import Archive
import Codec
import EntropyCoding
import Raster

/// A codec that tells of every block it has coded.
struct ObservedCodec: BlockCoding {
    let codec: BlockCodec
    let onBlock: @Sendable () -> Void

    var modelID: Digest { codec.modelID }
    var paddingMultiple: Int { codec.paddingMultiple }

    func encode(
        _ images: [Image],
        keeping isKept: (_ index: Int, _ costBytes: Int) -> Bool
    ) -> [UInt8] {
        defer { onBlock() }
        return codec.encode(images, keeping: isKept)
    }

    func decode(
        _ payload: [UInt8],
        count: Int,
        width: Int,
        height: Int
    ) throws(BitstreamError) -> [Image] {
        defer { onBlock() }
        return try codec.decode(payload, count: count, width: width, height: height)
    }
}
