import Crypto
import Raster

/// Opens a shard: which samples and blocks it has, checked as `Format.md` says.
///
/// Payloads are read and checked when they are asked for, so opening costs only as much as the index
/// is long, and a sample only as much as its blocks.
package struct ShardReader: Sendable {
    /// SHA-256 of the model file that flow blocks need.
    package let modelID: Digest
    package let samples: [SampleRecord]
    package let blocks: [BlockHeader]
    /// For each block, the numbers of the samples in it, in their order.
    package let members: [[Int]]

    private let source: ShardSource
    /// For each block, of its header, from the start of the file.
    private let blockOffsets: [Int]
    /// For each sample, of its record, from the start of the file.
    private let recordOffsets: [Int]
    private let contentDigest: Digest
    /// Keyed by the bytes of the names: two names that Unicode holds for one are two names here.
    private let numbersByName: [[UInt8]: Int]

    /// Opens a shard in memory.
    ///
    /// - Parameter bytes: The whole file.
    /// - Throws: What breaks the format, and where.
    package init(_ bytes: [UInt8]) throws(ArchiveError) {
        try self.init(ShardSource(bytes))
    }

    /// Opens a shard file, which stays open as long as the reader lives.
    ///
    /// - Parameters:
    ///   - path: Of the file.
    ///   - name: What errors call the file.
    /// - Throws: What breaks the format, and where; what the operating system says.
    package init(path: String, name: String) throws(ArchiveError) {
        try self.init(ShardSource(path: path, name: name))
    }

    /// Reads the header, the footer and the index.
    init(_ source: ShardSource) throws(ArchiveError) {
        let footerStart = source.count - ShardFormat.footerBytes
        guard footerStart >= ShardFormat.headerBytes else {
            throw ArchiveError(.truncated, in: .header, at: source.count)
        }
        let (version, modelID) = try ShardFormat.readHeader(
            try source.read(0..<ShardFormat.headerBytes, in: .header)
        )
        let (footer, digest) = try ShardFooter.read(
            try source.read(footerStart..<source.count, in: .footer),
            at: footerStart
        )
        contentDigest = digest
        let index = try source.read(footer.index, in: .index)
        guard CRC32.castagnoli.checksum(index) == footer.indexChecksum else {
            throw ArchiveError(.checksumMismatch, in: .index, at: footer.index.lowerBound)
        }
        var cursor = ByteCursor(index, at: footer.index.lowerBound, in: .index)
        (blocks, blockOffsets) = try Self.readBlocks(&cursor, footer)
        (samples, recordOffsets) = try Self.readSamples(&cursor, version, footer, blocks)
        numbersByName = try Self.numberNames(samples, recordOffsets)
        members = try Self.placeSamples(samples, recordOffsets, blocks)
        self.modelID = modelID
        self.source = source
    }

    /// The number of the sample with a name; nil when there is none.
    package func sample(named name: String) -> Int? {
        numbersByName[Array(name.utf8)]
    }

    /// The payload of a block, its header and checksum checked.
    package func payload(ofBlock number: Int) throws(ArchiveError) -> [UInt8] {
        let offset = blockOffsets[number]
        let header = blocks[number]
        let start = offset + BlockHeader.byteCount
        guard
            try source.read(offset..<start, in: .block(number)).elementsEqual(header.bytes())
        else {
            throw ArchiveError(.malformed("block header"), in: .block(number), at: offset)
        }
        let payload = try source.read(start..<(start + header.payloadBytes), in: .block(number))
        guard CRC32.castagnoli.checksum(payload) == header.payloadChecksum else {
            throw ArchiveError(.checksumMismatch, in: .block(number), at: start)
        }
        return payload
    }

    /// Of the whole file.
    package var byteCount: Int { source.count }

    /// Bytes of the file that are hashed at a time.
    private static let hashedBytes = 1 << 20

    /// Checks the SHA-256 that the footer has of the file.
    ///
    /// - Returns: The SHA-256 of the whole file.
    @discardableResult
    package func checkDigest() throws(ArchiveError) -> Digest {
        let end = source.count - ShardFormat.footerBytes + ShardFormat.footerDigestOffset
        var hash = SHA256()
        for start in stride(from: 0, to: end, by: Self.hashedBytes) {
            hash.update(
                data: try source.read(start..<min(start + Self.hashedBytes, end), in: .footer)
            )
        }
        guard Digest(hash) == contentDigest else {
            throw ArchiveError(.digestMismatch, in: .footer, at: end)
        }
        hash.update(data: try source.read(end..<source.count, in: .footer))
        return Digest(hash)
    }

    /// Of a block's payload, from the start of the file, for errors.
    func payloadOffset(ofBlock number: Int) -> Int {
        blockOffsets[number] + BlockHeader.byteCount
    }

    /// Of a sample's record, from the start of the file, for errors.
    func recordOffset(ofSample number: Int) -> Int {
        recordOffsets[number]
    }

    private static func readBlocks(
        _ cursor: inout ByteCursor,
        _ footer: ShardFooter
    ) throws(ArchiveError) -> ([BlockHeader], [Int]) {
        var blocks: [BlockHeader] = []
        var offsets: [Int] = []
        blocks.reserveCapacity(footer.blockCount)
        offsets.reserveCapacity(footer.blockCount)
        var offset = ShardFormat.headerBytes
        var imageHeight = 0
        for _ in 0..<footer.blockCount {
            let start = cursor.offset
            let block = try BlockHeader(&cursor)
            let space = footer.index.lowerBound - offset - BlockHeader.byteCount
            guard block.payloadBytes <= space else {
                throw cursor.error(.malformed("block length"), at: start)
            }
            imageHeight = block.height + (block.continuesImage ? imageHeight : 0)
            if block.continuesImage {
                guard
                    let previous = blocks.last, previous.kind == .flow, previous.count == 1,
                    previous.width == block.width,
                    imageHeight <= ShardFormat.imagePixelLimit / block.width
                else { throw cursor.error(.malformed("band"), at: start) }
            }
            blocks.append(block)
            offsets.append(offset)
            offset += BlockHeader.byteCount + block.payloadBytes
        }
        guard offset == footer.index.lowerBound else {
            throw cursor.error(.malformed("block lengths: a gap before the index"))
        }
        return (blocks, offsets)
    }

    private static func readSamples(
        _ cursor: inout ByteCursor,
        _ version: ShardFormat.Version,
        _ footer: ShardFooter,
        _ blocks: [BlockHeader]
    ) throws(ArchiveError) -> ([SampleRecord], offsets: [Int]) {
        var samples: [SampleRecord] = []
        var history = RecordHistory()
        var freePlaces = blocks.map(\.count)
        var offsets: [Int] = []
        samples.reserveCapacity(footer.sampleCount)
        offsets.reserveCapacity(footer.sampleCount)
        for _ in 0..<footer.sampleCount {
            let start = cursor.offset
            let sample = try SampleRecord(&cursor, version, after: history, in: blocks)
            if let first = sample.blocks.first {
                freePlaces[first] -= 1
                guard freePlaces[first] >= 0 else {
                    throw ArchiveError(
                        .malformed("number or length of samples"),
                        in: .block(first),
                        at: start
                    )
                }
            }
            samples.append(sample)
            offsets.append(start)
            history.note(sample)
        }
        guard cursor.remaining == 0 else { throw cursor.error(.malformed("index length")) }
        return (samples, offsets)
    }

    private static func numberNames(
        _ samples: [SampleRecord],
        _ offsets: [Int]
    ) throws(ArchiveError) -> [[UInt8]: Int] {
        var numbers: [[UInt8]: Int] = [:]
        numbers.reserveCapacity(samples.count)
        for (number, sample) in samples.enumerated() {
            guard numbers.updateValue(number, forKey: Array(sample.name.utf8)) == nil else {
                throw ArchiveError(
                    .malformed("name: not unique"),
                    in: .sample(sample.name),
                    at: offsets[number]
                )
            }
        }
        return numbers
    }

    /// Gives every place of every block to its sample.
    private static func placeSamples(
        _ samples: [SampleRecord],
        _ offsets: [Int],
        _ blocks: [BlockHeader]
    ) throws(ArchiveError) -> [[Int]] {
        var members = [[Int]](repeating: [], count: blocks.count)
        var storedBytes = [Int](repeating: 0, count: blocks.count)
        for (number, sample) in samples.enumerated() {
            for block in sample.blocks {
                members[block].append(number)
                let (sum, overflow) = storedBytes[block].addingReportingOverflow(sample.sourceBytes)
                storedBytes[block] = overflow ? .max : sum
            }
        }
        for (number, block) in blocks.enumerated() {
            guard
                members[number].count == block.count,
                block.kind == .flow || storedBytes[number] == block.payloadBytes
            else {
                throw ArchiveError(
                    .malformed("number or length of samples"),
                    in: .block(number),
                    at: offsets.first ?? ShardFormat.headerBytes
                )
            }
        }
        return members
    }
}
