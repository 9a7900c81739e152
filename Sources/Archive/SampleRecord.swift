package import Raster

/// One file of the source, as the index of a shard lists it.
package struct SampleRecord: Equatable, Sendable {
    package enum Mode: UInt8, CaseIterable, Sendable {
        /// The pixels are coded by the model.
        case flow = 0
        /// The bytes of the file are kept.
        case stored = 1
        /// The file could not be read.
        case missing = 2
    }

    /// Relative path; see ``isValidName(_:)``.
    package let name: String
    package let mode: Mode
    /// What the first bytes of the source file say.
    package let format: ImageFormat?
    /// Why the sample is not coded by the model; empty in mode flow.
    package let reason: String
    /// Whether the reason is one that the owner of the data should look at.
    package let isProblem: Bool
    /// Length of the source file; 0 when missing.
    package let sourceBytes: Int
    /// Of the source file; nil when missing.
    package let sourceDigest: Digest?
    /// The blocks that hold the sample: one; the bands of a large image; none when missing.
    package let blocks: Range<Int>
    /// Of the image in pixels; 0 unless in mode flow.
    package let width: Int
    /// Of the image in pixels; 0 unless in mode flow.
    package let height: Int
    /// Of the samples `[channel][y][x]`, red first; nil unless in mode flow.
    package let pixelDigest: Digest?
    /// What the file holds beside the pixels (``Raster/DecodedImage/metadata``); mode flow only.
    package let metadata: [UInt8]

    /// The reason, if it is a problem.
    package var problem: String? { isProblem ? reason : nil }

    /// A sample in mode flow.
    package static func flow(
        name: String,
        format: ImageFormat,
        sourceBytes: Int,
        sourceDigest: Digest,
        blocks: Range<Int>,
        width: Int,
        height: Int,
        pixelDigest: Digest,
        metadata: [UInt8]
    ) -> SampleRecord {
        SampleRecord(
            name: name,
            mode: .flow,
            format: format,
            reason: "",
            isProblem: false,
            sourceBytes: sourceBytes,
            sourceDigest: sourceDigest,
            blocks: blocks,
            width: width,
            height: height,
            pixelDigest: pixelDigest,
            metadata: metadata
        )
    }

    /// A sample in mode stored.
    package static func stored(
        name: String,
        format: ImageFormat?,
        reason: String,
        isProblem: Bool,
        sourceBytes: Int,
        sourceDigest: Digest,
        block: Int
    ) -> SampleRecord {
        SampleRecord(
            name: name,
            mode: .stored,
            format: format,
            reason: reason.limited,
            isProblem: isProblem,
            sourceBytes: sourceBytes,
            sourceDigest: sourceDigest,
            blocks: block..<(block + 1),
            width: 0,
            height: 0,
            pixelDigest: nil,
            metadata: []
        )
    }

    /// A sample in mode missing, which is always a problem.
    package static func missing(name: String, reason: String) -> SampleRecord {
        SampleRecord(
            name: name,
            mode: .missing,
            format: nil,
            reason: reason.limited,
            isProblem: true,
            sourceBytes: 0,
            sourceDigest: nil,
            blocks: 0..<0,
            width: 0,
            height: 0,
            pixelDigest: nil,
            metadata: []
        )
    }

    /// Whether a name is a relative path of 1 to 4096 bytes that stays inside its folder: no empty,
    /// "." or ".." component, no NUL.
    package static func isValidName(_ name: String) -> Bool {
        guard (1...ShardFormat.nameLimitBytes).contains(name.utf8.count) else { return false }
        let components = name.utf8.split(
            separator: UInt8(ascii: "/"),
            omittingEmptySubsequences: false
        )
        return !name.utf8.contains(0)
            && components.allSatisfy {
                !$0.isEmpty && !$0.elementsEqual(".".utf8) && !$0.elementsEqual("..".utf8)
            }
    }
}

extension SampleRecord {
    /// The record as the index holds it behind that of a sample with another name.
    func bytes(previousName: String) -> [UInt8] {
        var bytes = [mode.rawValue, format?.number ?? 0, isProblem ? 1 : 0]
        let shared = zip(name.utf8, previousName.utf8).prefix { $0 == $1 }.count
        bytes.append(varint: shared)
        bytes.append(text: name.utf8.dropFirst(shared))
        bytes.append(text: reason.utf8)
        if let sourceDigest {
            bytes.append(varint: sourceBytes)
            bytes += sourceDigest.bytes
            bytes.append(varint: blocks.lowerBound)
        }
        if let pixelDigest {
            bytes.append(varint: blocks.count)
            bytes.append(varint: width)
            bytes.append(varint: height)
            bytes += pixelDigest.bytes
            bytes.append(text: metadata)
        }
        return bytes
    }

    /// Reads and checks a record on its own; whether it fits the blocks is the reader's check.
    init(_ cursor: inout ByteCursor, previousName: String) throws(ArchiveError) {
        let start = cursor.offset
        guard let mode = Mode(rawValue: try cursor.byte()) else {
            throw cursor.error(.malformed("mode"), at: start)
        }
        let formatNumber = try cursor.byte()
        let format = ImageFormat.allCases.first { $0.number == formatNumber }
        guard formatNumber == 0 || format != nil else {
            throw cursor.error(.malformed("format"), at: start + 1)
        }
        let flags = try cursor.byte()
        guard flags <= 1 else { throw cursor.error(.reservedBits, at: start + 2) }
        let name = try Self.readName(&cursor, previousName)
        let reasonStart = cursor.offset
        let reasonBytes = try cursor.text(limitBytes: ShardFormat.reasonLimitBytes)
        guard let reason = String(validating: reasonBytes, as: UTF8.self) else {
            throw cursor.error(.malformed("reason: not UTF-8"), at: reasonStart)
        }
        switch mode {
        case .flow:
            let sourceBytes = try cursor.varint()
            let sourceDigest = try cursor.digest()
            let firstBlock = try Self.readBlockNumber(&cursor)
            let blockCount = try Self.readBlockNumber(&cursor)
            let width = try cursor.varint()
            let height = try cursor.varint()
            let pixelDigest = try cursor.digest()
            let metadata = Array(try cursor.text(limitBytes: cursor.remaining))
            guard let format, format == .png || format == .pnm, flags == 0, reason.isEmpty else {
                throw cursor.error(.malformed("flow sample"), at: start)
            }
            self = .flow(
                name: name,
                format: format,
                sourceBytes: sourceBytes,
                sourceDigest: sourceDigest,
                blocks: firstBlock..<(firstBlock + blockCount),
                width: width,
                height: height,
                pixelDigest: pixelDigest,
                metadata: metadata
            )
        case .stored:
            self = .stored(
                name: name,
                format: format,
                reason: reason,
                isProblem: flags == 1,
                sourceBytes: try cursor.varint(),
                sourceDigest: try cursor.digest(),
                block: try Self.readBlockNumber(&cursor)
            )
        case .missing:
            guard format == nil, flags == 1 else {
                throw cursor.error(.malformed("missing sample"), at: start)
            }
            self = .missing(name: name, reason: reason)
        }
    }

    private static func readName(
        _ cursor: inout ByteCursor,
        _ previousName: String
    ) throws(ArchiveError) -> String {
        let start = cursor.offset
        let shared = try cursor.varint()
        guard shared <= previousName.utf8.count else {
            throw cursor.error(.malformed("name"), at: start)
        }
        let rest = try cursor.text(limitBytes: ShardFormat.nameLimitBytes)
        let bytes = Array(previousName.utf8.prefix(shared)) + rest
        guard let name = String(validating: bytes, as: UTF8.self), isValidName(name) else {
            throw cursor.error(.malformed("name"), at: start)
        }
        return name
    }

    private static func readBlockNumber(_ cursor: inout ByteCursor) throws(ArchiveError) -> Int {
        let start = cursor.offset
        let number = try cursor.varint()
        guard number <= Int(UInt32.max) else {
            throw cursor.error(.malformed("block number"), at: start)
        }
        return number
    }
}

extension ImageFormat {
    /// The format's number in the index; 0 is no known format.
    fileprivate var number: UInt8 {
        switch self {
        case .png: 1
        case .pnm: 2
        case .jpeg: 3
        case .webp: 4
        case .gif: 5
        case .bmp: 6
        case .tiff: 7
        case .jxl: 8
        case .avif: 9
        case .heic: 10
        }
    }
}

extension String {
    /// The text, cut before the limit of a reason.
    fileprivate var limited: String {
        var text = self
        while text.utf8.count > ShardFormat.reasonLimitBytes { text.removeLast() }
        return text
    }
}

extension [UInt8] {
    /// The mirror of ``ByteCursor/text(limitBytes:)``.
    fileprivate mutating func append(text: some Collection<UInt8>) {
        append(varint: text.count)
        append(contentsOf: text)
    }
}
