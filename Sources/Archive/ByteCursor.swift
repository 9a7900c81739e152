/// Reads the fields of one section, never past its end.
struct ByteCursor {
    /// Of the section.
    private let bytes: [UInt8]
    private let section: ArchiveError.Section
    /// Of the section, from the start of the file.
    private let start: Int
    /// Of the next field, from the start of the file.
    private(set) var offset: Int

    /// A cursor over the bytes of a section, which begins at an offset of the file.
    init(_ bytes: [UInt8], at start: Int, in section: ArchiveError.Section) {
        self.bytes = bytes
        self.section = section
        self.start = start
        offset = start
    }

    var remaining: Int { start + bytes.count - offset }

    func error(_ reason: ArchiveError.Reason, at byteOffset: Int? = nil) -> ArchiveError {
        ArchiveError(reason, in: section, at: byteOffset ?? offset)
    }

    mutating func take(_ count: Int) throws(ArchiveError) -> ArraySlice<UInt8> {
        guard count <= remaining else { throw error(.truncated) }
        defer { offset += count }
        return bytes[(offset - start)..<(offset - start + count)]
    }

    mutating func byte() throws(ArchiveError) -> UInt8 {
        guard remaining > 0 else { throw error(.truncated) }
        defer { offset += 1 }
        return bytes[offset - start]
    }

    /// A little-endian integer of 1 to 8 bytes, below 2^63.
    mutating func integer(bytes count: Int) throws(ArchiveError) -> Int {
        let start = offset
        let value = try take(count).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard let integer = Int(exactly: value) else {
            throw error(.malformed("length"), at: start)
        }
        return integer
    }

    /// An unsigned LEB128 number below 2^63 in its shortest form.
    mutating func varint() throws(ArchiveError) -> Int {
        let start = offset
        var value = 0
        for shift in stride(from: 0, to: 63, by: 7) {
            let next = try byte()
            value |= Int(next & 0x7F) << shift
            if next < 0x80 {
                guard next > 0 || shift == 0 else {
                    throw error(.malformed("number: not in its shortest form"), at: start)
                }
                return value
            }
        }
        throw error(.malformed("number: 2^63 or more"), at: start)
    }

    mutating func digest() throws(ArchiveError) -> Digest {
        guard let digest = Digest(bytes: try take(Digest.byteCount)) else {
            throw error(.truncated)
        }
        return digest
    }

    /// A digest that a version of the format keeps more bytes of, or just as many.
    mutating func sampleDigest(_ version: ShardFormat.Version) throws(ArchiveError) -> SampleDigest
    {
        guard let digest = SampleDigest(prefix: try take(version.sampleDigestBytes)) else {
            throw error(.truncated)
        }
        return digest
    }

    /// Passes over bytes that must be zero.
    mutating func reserved(_ count: Int) throws(ArchiveError) {
        if let index = try take(count).firstIndex(where: { $0 != 0 }) {
            throw error(.reservedBits, at: start + index)
        }
    }

    /// Bytes behind their length.
    mutating func text(limitBytes: Int) throws(ArchiveError) -> ArraySlice<UInt8> {
        let start = offset
        let count = try varint()
        guard count <= limitBytes else {
            throw error(.malformed("text: longer than \(limitBytes) bytes"), at: start)
        }
        return try take(count)
    }
}

extension [UInt8] {
    /// The mirror of ``ByteCursor/integer(bytes:)``.
    mutating func append(_ value: Int, bytes count: Int) {
        precondition(value >= 0 && (count == 8 || value >> (8 * count) == 0), "the value fits")
        for index in 0..<count { append(UInt8(truncatingIfNeeded: value >> (8 * index))) }
    }

    /// The mirror of ``ByteCursor/varint()``.
    mutating func append(varint value: Int) {
        precondition(value >= 0, "a varint is not negative")
        var rest = value
        while rest >= 0x80 {
            append(UInt8(rest & 0x7F | 0x80))
            rest >>= 7
        }
        append(UInt8(rest))
    }
}
