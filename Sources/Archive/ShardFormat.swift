import Codec
import Raster

/// Constants and fixed-size sections of the shard file; `Format.md` is the definition.
enum ShardFormat {
    /// Those that a reader knows; a writer writes the last.
    enum Version: Int {
        case one = 1
        case two = 2

        /// Of the digests in the records.
        var sampleDigestBytes: Int {
            switch self {
            case .one: 16
            case .two: SampleDigest.byteCount
            }
        }
    }

    static let version = Version.two
    static let headerMagic: [UInt8] = [0x46, 0x50, 0x4B, 0x1A]
    static let footerMagic: [UInt8] = [0x1A, 0x4B, 0x50, 0x46]
    static let headerBytes = 64
    static let footerBytes = 72
    /// Of the footer's digest of everything before it, from the start of the footer.
    static let footerDigestOffset = 32
    static let nameLimitBytes = 4096
    static let reasonLimitBytes = 1024
    /// Width × height of an image in mode flow.
    static let imagePixelLimit = 1 << 28
    /// The head, and one byte for each number of the name.
    static let recordMinimumBytes = 4

    static func header(modelID: Digest) -> [UInt8] {
        var bytes = headerMagic
        bytes.append(version.rawValue, bytes: 2)
        bytes.append(0, bytes: 2)
        bytes += modelID.bytes
        bytes += [UInt8](repeating: 0, count: 20)
        bytes.append(Int(CRC32.castagnoli.checksum(bytes)), bytes: 4)
        return bytes
    }

    /// Reads the header.
    ///
    /// - Parameter bytes: The first 64 bytes of the file.
    /// - Returns: The version, and the id of the model.
    /// - Throws: What breaks the format.
    static func readHeader(_ bytes: [UInt8]) throws(ArchiveError) -> (Version, Digest) {
        var cursor = ByteCursor(bytes, at: 0, in: .header)
        guard try cursor.take(4).elementsEqual(headerMagic) else {
            throw cursor.error(.badMagic, at: 0)
        }
        let found = try cursor.integer(bytes: 2)
        guard let version = Version(rawValue: found) else {
            throw cursor.error(.unsupportedVersion(found), at: 4)
        }
        try cursor.reserved(2)
        let modelID = try cursor.digest()
        try cursor.reserved(20)
        try cursor.checkCRC(of: bytes[..<(headerBytes - 4)])
        return (version, modelID)
    }
}

/// Where the sections of a shard lie.
struct ShardFooter: Equatable {
    var index: Range<Int>
    var blockCount: Int
    var sampleCount: Int
    var indexChecksum: UInt32

    /// The fields before the digest.
    func head() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(index.lowerBound, bytes: 8)
        bytes.append(index.count, bytes: 8)
        bytes.append(blockCount, bytes: 4)
        bytes.append(sampleCount, bytes: 4)
        bytes.append(Int(indexChecksum), bytes: 4)
        bytes.append(0, bytes: 4)
        return bytes
    }

    /// The whole footer, given the digest of everything before that field.
    func bytes(digest: Digest) -> [UInt8] {
        var bytes = head() + digest.bytes
        bytes.append(Int(CRC32.castagnoli.checksum(bytes)), bytes: 4)
        return bytes + ShardFormat.footerMagic
    }

    /// Reads and checks the footer.
    ///
    /// - Parameters:
    ///   - bytes: The last 72 bytes of the file.
    ///   - start: Where they begin, at least at the end of the header.
    /// - Returns: The footer, and the digest of everything before that field.
    /// - Throws: What breaks the format.
    static func read(
        _ bytes: [UInt8],
        at start: Int
    ) throws(ArchiveError) -> (ShardFooter, digest: Digest) {
        var cursor = ByteCursor(bytes, at: start, in: .footer)
        guard bytes.suffix(4).elementsEqual(ShardFormat.footerMagic) else {
            throw cursor.error(.badMagic, at: start + bytes.count - 4)
        }
        let offset = try cursor.integer(bytes: 8)
        let length = try cursor.integer(bytes: 8)
        let blockCount = try cursor.integer(bytes: 4)
        let sampleCount = try cursor.integer(bytes: 4)
        let checksum = UInt32(try cursor.integer(bytes: 4))
        try cursor.reserved(4)
        let digest = try cursor.digest()
        try cursor.checkCRC(of: bytes.dropLast(8))
        guard
            offset >= ShardFormat.headerBytes, offset <= start, length == start - offset,
            blockCount * BlockHeader.byteCount + sampleCount * ShardFormat.recordMinimumBytes
                <= length
        else { throw cursor.error(.malformed("section offsets"), at: start) }
        return (
            ShardFooter(
                index: offset..<start,
                blockCount: blockCount,
                sampleCount: sampleCount,
                indexChecksum: checksum
            ),
            digest
        )
    }
}

/// The 32 bytes before the payload of a block.
package struct BlockHeader: Equatable, Sendable {
    package enum Kind: UInt8, Sendable {
        case flow = 0
        case stored = 1
    }

    static let byteCount = 32

    package let kind: Kind
    /// Whether the image of the block before continues in this one, its only one.
    package let continuesImage: Bool
    /// Images or files, at least 1.
    package let count: Int
    /// Of every image, in pixels; 0 when stored.
    package let width: Int
    /// Of every image, in pixels; 0 when stored.
    package let height: Int
    /// Of the payload.
    package let payloadBytes: Int
    /// CRC32C of the payload.
    let payloadChecksum: UInt32

    init(
        kind: Kind,
        continuesImage: Bool = false,
        count: Int,
        width: Int,
        height: Int,
        payload: [UInt8]
    ) {
        self.kind = kind
        self.continuesImage = continuesImage
        self.count = count
        self.width = width
        self.height = height
        payloadBytes = payload.count
        payloadChecksum = CRC32.castagnoli.checksum(payload)
        precondition(isValid, "a block keeps the limits of the format")
    }

    func bytes() -> [UInt8] {
        var bytes = [kind.rawValue, continuesImage ? 1 : 0, 0, 0]
        bytes.append(count, bytes: 4)
        bytes.append(width, bytes: 4)
        bytes.append(height, bytes: 4)
        bytes.append(payloadBytes, bytes: 8)
        bytes.append(Int(payloadChecksum), bytes: 4)
        bytes.append(Int(CRC32.castagnoli.checksum(bytes)), bytes: 4)
        return bytes
    }

    /// Reads and checks one header.
    init(_ cursor: inout ByteCursor) throws(ArchiveError) {
        let start = cursor.offset
        var copy = cursor
        let content = try copy.take(Self.byteCount - 4)
        let kind = try cursor.byte()
        let continuation = try cursor.byte()
        try cursor.reserved(2)
        count = try cursor.integer(bytes: 4)
        width = try cursor.integer(bytes: 4)
        height = try cursor.integer(bytes: 4)
        payloadBytes = try cursor.integer(bytes: 8)
        payloadChecksum = UInt32(try cursor.integer(bytes: 4))
        try cursor.checkCRC(of: content)
        guard let kind = Kind(rawValue: kind) else {
            throw cursor.error(.malformed("block kind"), at: start)
        }
        self.kind = kind
        guard continuation <= 1 else { throw cursor.error(.reservedBits, at: start + 1) }
        continuesImage = continuation == 1
        guard isValid else { throw cursor.error(.malformed("block size"), at: start) }
    }

    private var isValid: Bool {
        switch kind {
        case .stored:
            count >= 1 && width == 0 && height == 0 && !continuesImage
        case .flow:
            BlockLimits.allow(count: count, width: width, height: height)
                && (count == 1 || !continuesImage)
        }
    }
}

extension ByteCursor {
    /// Reads a CRC32C and compares it with that of some content.
    fileprivate mutating func checkCRC(of content: ArraySlice<UInt8>) throws(ArchiveError) {
        let start = offset
        guard try integer(bytes: 4) == Int(CRC32.castagnoli.checksum(content)) else {
            throw error(.checksumMismatch, at: start)
        }
    }
}
