import Crypto
import Raster

/// Writes a shard front to back: blocks, then sample records, then ``finish()``.
package struct ShardWriter {
    private var file: [UInt8]
    private var blockHeaders: [UInt8] = []
    private var blockCount = 0
    private var records: [UInt8] = []
    private var sampleCount = 0
    private var history = RecordHistory()

    package init(modelID: Digest) {
        file = ShardFormat.header(modelID: modelID)
    }

    /// Appends a flow block: the coded images of one size, or a band of an image.
    ///
    /// - Parameters:
    ///   - continuesImage: Whether this is a band, and not the first, of the image that the block
    ///     before has a band of.
    ///   - count: The number of images.
    ///   - width: Of every image, in pixels.
    ///   - height: Of every image, in pixels.
    ///   - payload: The coded images.
    /// - Returns: The block's number.
    package mutating func appendFlowBlock(
        continuesImage: Bool = false,
        count: Int,
        width: Int,
        height: Int,
        payload: [UInt8]
    ) -> Int {
        append(
            BlockHeader(
                kind: .flow,
                continuesImage: continuesImage,
                count: count,
                width: width,
                height: height,
                payload: payload
            ),
            payload
        )
    }

    /// Appends a stored block: files, one behind the other.
    ///
    /// - Returns: The block's number.
    package mutating func appendStoredBlock(count: Int, payload: [UInt8]) -> Int {
        append(
            BlockHeader(kind: .stored, count: count, width: 0, height: 0, payload: payload),
            payload
        )
    }

    private mutating func append(_ header: BlockHeader, _ payload: [UInt8]) -> Int {
        let bytes = header.bytes()
        file += bytes
        file += payload
        blockHeaders += bytes
        defer { blockCount += 1 }
        return blockCount
    }

    /// Appends the record of the next sample; samples of one block come in their order in it.
    package mutating func append(_ record: SampleRecord) {
        precondition(SampleRecord.isValidName(record.name), "a sample's name is a relative path")
        records += record.bytes(after: history)
        history.note(record)
        sampleCount += 1
    }

    /// Ends the shard.
    ///
    /// - Returns: The whole file, and its SHA-256.
    package consuming func finish() -> (bytes: [UInt8], sha256: Digest) {
        let index = blockHeaders + records
        let footer = ShardFooter(
            index: file.count..<(file.count + index.count),
            blockCount: blockCount,
            sampleCount: sampleCount,
            indexChecksum: CRC32.castagnoli.checksum(index)
        )
        file += index
        file += footer.head()
        var hash = SHA256()
        hash.update(data: file)
        let tail = footer.bytes(digest: Digest(hash)).dropFirst(ShardFormat.footerDigestOffset)
        hash.update(data: tail)
        file += tail
        return (file, Digest(hash))
    }
}
