import Archive
import EntropyCoding
import TestSupport
import Testing

/// `Fixtures/bad`: a file for each rule of the format, and the answer to it.
@Suite struct BrokenShardTests {
    private func bytes(_ name: String) throws -> [UInt8] {
        try Fixtures.bytes("bad/\(name).fpk")
    }

    @Test func theSoundShardIsRead() throws {
        let decoder = try ShardDecoder(
            reader: ShardReader(bytes("sound")),
            codec: PlainCodec()
        )
        #expect(decoder.reader.samples.map(\.name) == ["a", "b", "c", "d"])
        #expect(try decoder.file(at: 0) == Array("one".utf8))
        #expect(try decoder.image(at: 1) == plain(7, width: 4, height: 4))
        #expect(try decoder.file(at: 2) == Array("two".utf8))
        #expect(try decoder.file(at: 3) == nil)
    }

    @Test(
        arguments: [
            ("version-2", .unsupportedVersion(2), .header, 4),
            ("reserved-header-flag", .reservedBits, .header, 6),
            ("reserved-footer-flag", .reservedBits, .footer, 92),
            ("reserved-block-byte", .reservedBits, .index, 99),
            ("reserved-record-flag", .reservedBits, .index, 131),
            ("unknown-format", .malformed("format"), .index, 130),
            ("truncated", .badMagic, .footer, 196),
            ("index-checksum", .checksumMismatch, .index, 136),
            ("name-leads-out", .malformed("name"), .index, 132),
            ("name-absolute", .malformed("name"), .index, 132),
            ("name-not-utf8", .malformed("name"), .index, 132),
            ("name-shares-too-much", .malformed("name"), .index, 132),
            ("name-twice", .malformed("name: not unique"), .sample("a"), 180),
            ("gap-before-index", .malformed("block lengths: a gap before the index"), .index, 135),
            ("bytes-behind-records", .malformed("index length"), .index, 179),
            ("huge-sample-count", .malformed("section offsets"), .footer, 179),
            ("huge-block-count", .malformed("section offsets"), .footer, 179),
            ("block-too-many-pixels", .malformed("block size"), .index, 98),
            ("block-without-sample", .malformed("number or length of samples"), .block(0), 64),
            ("block-number-too-high", .malformed("reference to blocks"), .sample("a"), 129),
            ("block-number-overflows", .malformed("block number"), .index, 169),
            ("flow-without-blocks", .malformed("reference to blocks"), .sample("a"), 64),
            ("flow-in-stored-block", .malformed("reference to blocks"), .sample("a"), 129),
            ("height-of-other-bands", .malformed("reference to blocks"), .sample("a"), 196),
            ("stored-lengths-differ", .malformed("number or length of samples"), .block(0), 130),
            ("stored-length-overflows", .malformed("number or length of samples"), .block(0), 130),
            ("varint-not-shortest", .malformed("number: not in its shortest form"), .index, 133),
            ("varint-too-long", .malformed("number: 2^63 or more"), .index, 132),
        ] as [(String, ArchiveError.Reason, ArchiveError.Section, Int)]
    )
    func isRefusedOnOpening(
        name: String,
        reason: ArchiveError.Reason,
        section: ArchiveError.Section,
        offset: Int
    ) throws {
        let bytes = try bytes(name)
        #expect(throws: ArchiveError(reason, in: section, at: offset)) { try ShardReader(bytes) }
    }

    @Test(
        arguments: [
            ("pixel-digest", .digestMismatch, .sample("a"), 96),
            ("file-digest", .digestMismatch, .sample("a"), 96),
            (
                "stream-too-short",
                .corruptStream(BitstreamError(.truncated, byteOffset: 1)), .block(0), 97
            ),
            ("payload-checksum", .checksumMismatch, .block(0), 96),
            ("block-header-differs", .malformed("block header"), .block(0), 64),
        ] as [(String, ArchiveError.Reason, ArchiveError.Section, Int)]
    )
    func isRefusedOnDecoding(
        name: String,
        reason: ArchiveError.Reason,
        section: ArchiveError.Section,
        offset: Int
    ) async throws {
        let decoder = try ShardDecoder(reader: ShardReader(bytes(name)), codec: PlainCodec())
        let error = ArchiveError(reason, in: section, at: offset)
        #expect(throws: error) { try decoder.file(at: 0) }
        #expect(try await decoder.verify(threads: 1) == [0: error])
    }

    @Test func metadataThatIsNoneIsRefusedOnRestoring() throws {
        let decoder = try ShardDecoder(
            reader: ShardReader(bytes("metadata-is-none")),
            codec: PlainCodec()
        )
        let error = #expect(throws: ArchiveError.self) { try decoder.file(at: 0) }
        #expect(error?.section == .sample("a"))
        #expect(error?.byteOffset == 130)
        #expect(try decoder.image(at: 0) == plain(7, width: 4, height: 4))
    }
}
