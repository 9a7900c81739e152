package import Raster

/// One file of the source, as the index of a shard lists it.
package struct SampleRecord: Equatable, Sendable {
    package enum Mode: Sendable {
        /// The pixels are coded by the model.
        case flow
        /// The bytes of the file are kept.
        case stored
        /// The file could not be read.
        case missing
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
    package let sourceDigest: SampleDigest?
    /// The blocks that hold the sample: one; the bands of a large image; none when missing.
    package let blocks: Range<Int>
    /// Of the image in pixels; 0 unless in mode flow.
    package let width: Int
    /// Of the image in pixels; 0 unless in mode flow.
    package let height: Int
    /// Of the samples `[channel][y][x]`, red first; nil unless in mode flow.
    package let pixelDigest: SampleDigest?
    /// What the file holds beside the pixels (``Raster/DecodedImage/metadata``); mode flow only.
    package let metadata: [UInt8]

    /// The reason, if it is a problem.
    package var problem: String? { isProblem ? reason : nil }

    /// A sample in mode flow.
    package static func flow(
        name: String,
        format: ImageFormat,
        sourceBytes: Int,
        sourceDigest: SampleDigest,
        blocks: Range<Int>,
        width: Int,
        height: Int,
        pixelDigest: SampleDigest,
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
        sourceDigest: SampleDigest,
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

/// What a record leaves out because the records before it have it.
struct RecordHistory {
    /// Of the sample before; empty at the first.
    private(set) var name = ""
    /// Of the last sample that had any.
    private(set) var metadata: [UInt8] = []
    /// Of the last sample that had one.
    private(set) var reason = ""

    mutating func note(_ record: SampleRecord) {
        name = record.name
        if !record.metadata.isEmpty { metadata = record.metadata }
        if !record.reason.isEmpty { reason = record.reason }
    }
}

extension SampleRecord {
    /// Bits 0–1 of a record's head.
    private enum Kind: UInt8 {
        case flow = 0
        case stored = 1
        case storedWithProblem = 2
        case missing = 3
    }

    /// Bits 6–7 of a record's head: where its metadata or reason is.
    private enum TextPlace: UInt8 {
        case none = 0
        case record = 1
        case history = 2
    }

    private var kind: Kind {
        switch mode {
        case .flow: .flow
        case .stored: isProblem ? .storedWithProblem : .stored
        case .missing: .missing
        }
    }

    /// The record as the index holds it behind those of the history.
    func bytes(after history: RecordHistory) -> [UInt8] {
        let text = mode == .flow ? metadata : Array(reason.utf8)
        let isRepeated = text == (mode == .flow ? history.metadata : Array(history.reason.utf8))
        let place: TextPlace = text.isEmpty ? .none : isRepeated ? .history : .record
        var bytes = [kind.rawValue | (format?.number ?? 0) << 2 | place.rawValue << 6]
        let start = zip(name.utf8, history.name.utf8).prefix { $0 == $1 }.count
        let rest = name.utf8.dropFirst(start)
        let end = zip(rest.reversed(), history.name.utf8.dropFirst(start).reversed())
            .prefix { $0 == $1 }.count
        bytes.append(varint: start)
        bytes.append(varint: end)
        bytes.append(text: rest.dropLast(end))
        if place == .record { bytes.append(text: text) }
        if let sourceDigest {
            bytes.append(varint: sourceBytes)
            bytes += sourceDigest.bytes
            bytes.append(varint: blocks.lowerBound)
        }
        if let pixelDigest { bytes += pixelDigest.bytes }
        return bytes
    }

    /// Reads and checks a record.
    init(
        _ cursor: inout ByteCursor,
        _ version: ShardFormat.Version,
        after history: RecordHistory,
        in blocks: [BlockHeader]
    ) throws(ArchiveError) {
        let start = cursor.offset
        let head = try cursor.byte()
        guard let kind = Kind(rawValue: head & 3), let place = TextPlace(rawValue: head >> 6) else {
            throw cursor.error(.reservedBits, at: start)
        }
        let formatNumber = head >> 2 & 15
        let format = ImageFormat.allCases.first { $0.number == formatNumber }
        guard formatNumber == 0 || format != nil else {
            throw cursor.error(.malformed("format"), at: start)
        }
        let name = try Self.readName(&cursor, history.name)
        switch kind {
        case .flow:
            guard let format, format == .png || format == .pnm else {
                throw cursor.error(.malformed("format of a flow sample"), at: start)
            }
            let metadata = try Self.readMetadata(&cursor, place, history)
            let sourceBytes = try cursor.varint()
            let sourceDigest = try cursor.sampleDigest(version)
            let number = try Self.readBlockNumber(&cursor, .flow, blocks, name)
            let bands = blocks[(number + 1)...].prefix(while: \.continuesImage)
            self = .flow(
                name: name,
                format: format,
                sourceBytes: sourceBytes,
                sourceDigest: sourceDigest,
                blocks: number..<(number + 1 + bands.count),
                width: blocks[number].width,
                height: bands.reduce(blocks[number].height) { $0 + $1.height },
                pixelDigest: try cursor.sampleDigest(version),
                metadata: metadata
            )
        case .stored, .storedWithProblem:
            self = .stored(
                name: name,
                format: format,
                reason: try Self.readReason(&cursor, place, history),
                isProblem: kind == .storedWithProblem,
                sourceBytes: try cursor.varint(),
                sourceDigest: try cursor.sampleDigest(version),
                block: try Self.readBlockNumber(&cursor, .stored, blocks, name)
            )
        case .missing:
            guard format == nil else {
                throw cursor.error(.malformed("format of a missing sample"), at: start)
            }
            self = .missing(name: name, reason: try Self.readReason(&cursor, place, history))
        }
    }

    private static func readName(
        _ cursor: inout ByteCursor,
        _ previous: String
    ) throws(ArchiveError) -> String {
        let start = cursor.offset
        let sharedStart = try cursor.varint()
        let sharedEnd = try cursor.varint()
        guard max(sharedStart, sharedEnd) <= previous.utf8.count else {
            throw cursor.error(.malformed("name"), at: start)
        }
        let rest = try cursor.text(limitBytes: ShardFormat.nameLimitBytes)
        let bytes = previous.utf8.prefix(sharedStart) + rest + previous.utf8.suffix(sharedEnd)
        guard let name = String(validating: bytes, as: UTF8.self), isValidName(name) else {
            throw cursor.error(.malformed("name"), at: start)
        }
        return name
    }

    /// Reads a text that the head says is there, or takes it from the history.
    private static func readText<Text: RangeReplaceableCollection>(
        _ cursor: inout ByteCursor,
        _ place: TextPlace,
        history: Text,
        read: (inout ByteCursor) throws(ArchiveError) -> Text
    ) throws(ArchiveError) -> Text {
        let start = cursor.offset
        let text =
            switch place {
            case .none: Text()
            case .record: try read(&cursor)
            case .history: history
            }
        guard place == .none || !text.isEmpty else {
            throw cursor.error(.malformed("text: empty"), at: start)
        }
        return text
    }

    private static func readMetadata(
        _ cursor: inout ByteCursor,
        _ place: TextPlace,
        _ history: RecordHistory
    ) throws(ArchiveError) -> [UInt8] {
        try readText(&cursor, place, history: history.metadata) { cursor throws(ArchiveError) in
            Array(try cursor.text(limitBytes: cursor.remaining))
        }
    }

    private static func readReason(
        _ cursor: inout ByteCursor,
        _ place: TextPlace,
        _ history: RecordHistory
    ) throws(ArchiveError) -> String {
        let start = cursor.offset
        return try readText(&cursor, place, history: history.reason) {
            cursor throws(ArchiveError) in
            let bytes = try cursor.text(limitBytes: ShardFormat.reasonLimitBytes)
            guard let reason = String(validating: bytes, as: UTF8.self) else {
                throw cursor.error(.malformed("reason: not UTF-8"), at: start)
            }
            return reason
        }
    }

    /// Reads the number of a block of a kind that does not continue an image.
    private static func readBlockNumber(
        _ cursor: inout ByteCursor,
        _ kind: BlockHeader.Kind,
        _ blocks: [BlockHeader],
        _ name: String
    ) throws(ArchiveError) -> Int {
        let start = cursor.offset
        let number = try cursor.varint()
        guard
            number < blocks.count, blocks[number].kind == kind, !blocks[number].continuesImage
        else {
            throw ArchiveError(.malformed("block number"), in: .sample(name), at: start)
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
