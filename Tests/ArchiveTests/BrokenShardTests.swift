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
        let names = ["a", "b", "c", "d", "img/x.ppm", "img/y.ppm", "img/z.ppm"]
        #expect(decoder.reader.samples.map(\.name) == names)
        #expect(decoder.reader.samples[2].reason == "side file")
        #expect(decoder.reader.samples[3].problem == "gone")
        #expect(decoder.reader.samples[4].height == 8)
        #expect(try decoder.file(at: 0) == Array("one".utf8))
        #expect(try decoder.image(at: 1) == plain(7, width: 4, height: 4))
        #expect(try decoder.file(at: 2) == Array("two".utf8))
        #expect(try decoder.file(at: 3) == nil)
        #expect(try decoder.file(at: 4)?.count == 11 + 96)
        #expect(try decoder.image(at: 5) == plain(9, width: 4, height: 4))
        let last = Array("P6\n4 4\n255\n".utf8) + [UInt8](repeating: 10, count: 48)
        #expect(try decoder.file(at: 6) == last)
    }

    @Test(
        arguments: [
            ("version-3", .unsupportedVersion(3), .header, 4),
            ("reserved-header-flag", .reservedBits, .header, 6),
            ("reserved-footer-flag", .reservedBits, .footer, 92),
            ("reserved-block-byte", .reservedBits, .index, 99),
            ("reserved-head", .reservedBits, .index, 129),
            ("unknown-format", .malformed("format"), .index, 129),
            ("flow-of-jpeg", .malformed("format of a flow sample"), .index, 130),
            ("missing-with-format", .malformed("format of a missing sample"), .index, 64),
            ("truncated", .badMagic, .footer, 196),
            ("index-checksum", .checksumMismatch, .index, 208),
            ("name-leads-out", .malformed("name"), .index, 130),
            ("name-absolute", .malformed("name"), .index, 130),
            ("name-not-utf8", .malformed("name"), .index, 130),
            ("name-shares-too-much", .malformed("name"), .index, 130),
            ("name-shares-too-much-end", .malformed("name"), .index, 164),
            ("name-twice", .malformed("name: not unique"), .sample("a"), 163),
            ("reason-empty", .malformed("text: empty"), .index, 134),
            ("reason-of-none-before", .malformed("text: empty"), .index, 134),
            ("reason-not-utf8", .malformed("reason: not UTF-8"), .index, 134),
            ("metadata-empty", .malformed("text: empty"), .index, 135),
            ("gap-before-index", .malformed("block lengths: a gap before the index"), .index, 135),
            ("bytes-behind-records", .malformed("index length"), .index, 162),
            ("huge-sample-count", .malformed("section offsets"), .footer, 162),
            ("huge-block-count", .malformed("section offsets"), .footer, 162),
            ("block-too-many-pixels", .malformed("block size"), .index, 98),
            ("band-of-two-images", .malformed("block size"), .index, 166),
            ("band-of-stored-files", .malformed("block size"), .index, 162),
            ("band-first", .malformed("band"), .index, 98),
            ("band-behind-stored-block", .malformed("band"), .index, 163),
            ("band-behind-two-images", .malformed("band"), .index, 166),
            ("band-of-other-width", .malformed("band"), .index, 164),
            ("bands-too-many-pixels", .malformed("band"), .index, 8546),
            ("band-named", .malformed("block number"), .sample("b"), 257),
            ("block-named-too-often", .malformed("number or length of samples"), .block(0), 169),
            ("block-without-sample", .malformed("number or length of samples"), .block(0), 64),
            ("block-number-too-high", .malformed("block number"), .sample("a"), 161),
            ("block-number-overflows", .malformed("block number"), .sample("a"), 151),
            ("flow-without-blocks", .malformed("block number"), .sample("a"), 86),
            ("flow-in-stored-block", .malformed("block number"), .sample("a"), 151),
            ("stored-in-flow-block", .malformed("block number"), .sample("a"), 162),
            ("stored-lengths-differ", .malformed("number or length of samples"), .block(0), 130),
            ("stored-length-overflows", .malformed("number or length of samples"), .block(0), 130),
            ("varint-not-shortest", .malformed("number: not in its shortest form"), .index, 132),
            ("varint-too-long", .malformed("number: 2^63 or more"), .index, 130),
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
