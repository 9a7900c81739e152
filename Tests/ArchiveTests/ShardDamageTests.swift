import Archive
import Raster
import TestSupport
import Testing

@Suite struct ShardDamageTests {
    /// Everything that a reader gives out of a file, errors of samples included.
    private struct Reading: Equatable {
        let samples: [SampleRecord]
        let files: [Result<[UInt8]?, ArchiveError>]

        init(_ bytes: [UInt8]) throws(ArchiveError) {
            let decoder = try ShardDecoder(reader: ShardReader(bytes), codec: PlainCodec())
            samples = decoder.reader.samples
            files = samples.indices.map { number in
                Result { () throws(ArchiveError) in try decoder.file(at: number) }
            }
        }
    }

    @Test func everyPrefixIsAnError() async throws {
        let bytes = try await mixedShard().shard.bytes
        for count in 0..<bytes.count {
            #expect(throws: ArchiveError.self, "\(count) bytes") {
                try ShardReader(Array(bytes[..<count]))
            }
        }
        #expect(throws: ArchiveError.self) { try ShardReader(bytes + [0]) }
    }

    @Test func aFlippedBitIsAnErrorOfTheSectionOrOfItsSamples() async throws {
        let bytes = try await mixedShard().shard.bytes
        let sound = try Reading(bytes)
        let blocks = try ShardReader(bytes).blocks
        let blockEnd = blocks.reduce(64) { $0 + 32 + $1.payloadBytes }
        for bit in 0..<(8 * bytes.count) {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << (bit % 8)
            guard (64..<blockEnd).contains(bit / 8) else {
                #expect(throws: ArchiveError.self, "bit \(bit)") { try ShardReader(damaged) }
                continue
            }
            let reading = try Reading(damaged)
            let isHarmless = zip(reading.files, sound.files).allSatisfy { found, expected in
                if case .failure = found { true } else { found == expected }
            }
            #expect(reading.samples == sound.samples && isHarmless, "bit \(bit)")
            #expect(reading.files != sound.files, "bit \(bit)")
        }
    }

    /// Changes that carry right checksums: only the rules of the format can refuse them.
    @Test func randomChangesWithRightChecksumsNeverTrap() async throws {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        let file = ShardFile(try await mixedShard().shard.bytes)
        let sound = try Reading(file.bytes())
        for round in 0..<1500 {
            var changed = file
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let value =
                    [UInt8.random(in: 0...255, using: &generator), 0, 1, 0x7F, 0x80, 0xFF]
                    .randomElement(using: &generator) ?? 0
                changed.index[Int.random(in: 0..<changed.index.count, using: &generator)] = value
            }
            guard let reading = try? Reading(changed.bytes()) else { continue }
            let samples = zip(reading.samples, zip(reading.files, sound.files))
            for (sample, (found, expected)) in samples {
                guard case .success(let bytes) = found, sample.mode == .stored else { continue }
                #expect(
                    bytes.map { SampleDigest(of: $0) } == sample.sourceDigest || found == expected,
                    "seed \(seed) round \(round)"
                )
            }
        }
    }

    @Test func unknownVersionsAndReservedBitsAreRefused() async throws {
        let file = ShardFile(try await mixedShard().shard.bytes)
        func error(_ change: (inout ShardFile) -> Void) -> ArchiveError? {
            var changed = file
            change(&changed)
            return #expect(throws: ArchiveError.self) { try ShardReader(changed.bytes()) }
        }
        #expect(error { $0.header[4] = 3 }?.reason == .unsupportedVersion(3))
        #expect(error { $0.header[4] = 0 }?.byteOffset == 4)
        #expect(error { $0.header[6] = 1 } == ArchiveError(.reservedBits, in: .header, at: 6))
        #expect(error { $0.header[59] = 0x80 } == ArchiveError(.reservedBits, in: .header, at: 59))
        #expect(error { $0.footer[28] = 1 }?.reason == .reservedBits)
        #expect(error { $0.footer[31] = 1 }?.section == .footer)
        let start = file.indexOffset
        #expect(
            error { $0.changeBlockHeader(0) { $0[0] = 2 } }
                == ArchiveError(.malformed("block kind"), in: .index, at: start)
        )
        #expect(error { $0.changeBlockHeader(0) { $0[1] = 2 } }?.reason == .reservedBits)
        let records = 32 * file.blockCount
        #expect(
            error { $0.index[records] |= 0xC0 }
                == ArchiveError(.reservedBits, in: .index, at: start + records)
        )
        #expect(
            error { $0.index[records] |= 15 << 2 }
                == ArchiveError(.malformed("format"), in: .index, at: start + records)
        )
    }

    @Test func hugeNumbersAreRefusedBeforeAnythingIsAllocated() async throws {
        let file = ShardFile(try await mixedShard().shard.bytes)
        func isRefused(_ change: (inout ShardFile) -> Void) -> Bool {
            var changed = file
            change(&changed)
            return (try? ShardReader(changed.bytes())) == nil
        }
        let huge = [UInt8](repeating: 0xFF, count: 4)
        #expect(isRefused { $0.footer.replaceSubrange(16..<20, with: huge) })
        #expect(isRefused { $0.footer.replaceSubrange(20..<24, with: huge) })
        #expect(isRefused { $0.footer.replaceSubrange(0..<8, with: huge + huge) })
        #expect(
            isRefused { $0.footer.replaceSubrange(8..<16, with: huge + [0xFF, 0xFF, 0xFF, 0x7F]) }
        )
        for field in stride(from: 4, to: 24, by: 4) {
            #expect(
                isRefused {
                    $0.changeBlockHeader(0) { $0.replaceSubrange(field..<(field + 4), with: huge) }
                }
            )
        }
    }

    @Test(arguments: [
        "", "/a", "a/", "a//b", "../a", "a/..", ".", "a\0b", String(repeating: "a", count: 4097),
    ])
    func namesThatLeaveTheFolderAreNone(_ name: String) {
        #expect(!SampleRecord.isValidName(name))
    }

    @Test(arguments: [
        "a", "a/b", "..a", "a/...", "ä/ö.png", " ", String(repeating: "a", count: 4096),
    ])
    func relativePathsAreNames(_ name: String) {
        #expect(SampleRecord.isValidName(name))
    }
}

/// The sections of a shard, to be changed one by one; checksums are made right again.
private struct ShardFile {
    var header: [UInt8]
    var blocks: [UInt8]
    var index: [UInt8]
    var footer: [UInt8]
    let blockCount: Int

    init(_ bytes: [UInt8]) {
        footer = Array(bytes.suffix(72))
        let start = footer[..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
        blockCount = footer[16..<20].reversed().reduce(0) { $0 << 8 | Int($1) }
        header = Array(bytes[..<64])
        blocks = Array(bytes[64..<start])
        index = Array(bytes[start..<(bytes.count - 72)])
    }

    var indexOffset: Int { header.count + blocks.count }

    /// Changes the copy of a block's header in the index.
    mutating func changeBlockHeader(_ number: Int, _ change: (inout [UInt8]) -> Void) {
        var header = Array(index[(32 * number)..<(32 * number + 28)])
        change(&header)
        index.replaceSubrange((32 * number)..<(32 * number + 32), with: header + checksum(header))
    }

    func bytes() -> [UInt8] {
        let header = Array(header[..<60])
        var footer = footer
        footer.replaceSubrange(24..<28, with: checksum(index))
        return header + checksum(header) + blocks + index + footer[..<64]
            + checksum(Array(footer[..<64])) + footer[68...]
    }

    private func checksum(_ bytes: [UInt8]) -> [UInt8] {
        let checksum = CRC32.castagnoli.checksum(bytes)
        return (0..<4).map { UInt8(truncatingIfNeeded: checksum >> (8 * $0)) }
    }
}
