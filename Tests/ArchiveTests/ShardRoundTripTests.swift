import Archive
import Kernels
import Raster
import Synchronization
import Testing

@Suite struct ShardRoundTripTests {
    @Test func everyModeComesBackInOrder() async throws {
        let (inputs, shard) = try await mixedShard()
        let reader = try ShardReader(shard.bytes)
        let decoder = try ShardDecoder(reader: reader, codec: PlainCodec())

        #expect(reader.samples.map(\.name) == inputs.map(\.name))
        #expect(
            reader.samples.map(\.mode) == [
                .flow, .stored, .stored, .flow, .stored, .flow, .missing, .stored,
            ]
        )
        try reader.checkDigest()
        #expect(Digest(of: shard.bytes) == shard.sha256)
        for (number, input) in inputs.enumerated() {
            let file = try decoder.file(at: number)
            switch reader.samples[number].mode {
            case .missing:
                #expect(file == nil)
            case .stored:
                #expect(file == input.bytes)
            case .flow:
                guard case .image(let source) = input.content, let file else {
                    Issue.record("sample \(number) is an image")
                    continue
                }
                let restored = input.format == .png ? try PNG.read(file) : try PNM.read(file)
                #expect(restored == source)
                #expect(try decoder.image(at: number) == source.image)
            }
        }
    }

    @Test func recordsHoldWhatIsKnownOfTheSource() async throws {
        let (inputs, shard) = try await mixedShard()
        let samples = try ShardReader(shard.bytes).samples
        #expect(samples[0].sourceDigest == SampleDigest(of: inputs[0].bytes))
        #expect(samples[0].pixelDigest == SampleDigest(of: plain(1).samples))
        #expect(samples[0].sourceBytes == inputs[0].bytes.count)
        #expect(samples[0].reason.isEmpty)
        #expect(samples[1].reason == "side file")
        #expect(samples[1].problem == nil)
        #expect(samples[2].reason == "smaller as it was")
        #expect(samples[3].width == 64)
        #expect(samples[3].height == 40)
        #expect(samples[4].problem == "damaged: truncated")
        #expect(samples[6].problem == "gone")
        #expect(samples[6].sourceDigest == nil)
    }

    @Test func theSummaryCountsWhatTheShardHolds() async throws {
        let (inputs, shard) = try await mixedShard()
        let summary = shard.summary
        #expect(summary.samples == 8)
        #expect(summary.flowSamples == 3)
        #expect(summary.storedSamples == 4)
        #expect(summary.missingSamples == 1)
        #expect(summary.sourceBytes == inputs.reduce(0) { $0 + $1.bytes.count })
        #expect(summary.flowDimensions == 3 * (64 + 64 * 40 + 64))
        #expect(summary.flowBytes == 2 * 3)
        #expect(summary.storedReasons.values.reduce(0, +) == 5)
        #expect(summary.storedReasons["damaged"] == 2)
        #expect(summary.storedReasons["smaller as it was"] == 1)
        #expect(summary.problems.map(\.name) == ["c.png", "e"])
        #expect(ShardSummary(try ShardReader(shard.bytes)) == summary)
    }

    @Test func pngChunksComeBackInTheirPlace() async throws {
        let metadata = [13, 0, 0, 0] + textChunk + textChunk
        let input = try Input.png("a.png", plain(3, width: 64, height: 64), metadata: metadata)
        let shard = try await encode([input])
        let decoder = try ShardDecoder(reader: ShardReader(shard.bytes), codec: PlainCodec())
        #expect(decoder.reader.samples[0].mode == .flow)
        #expect(try decoder.file(at: 0) == input.bytes)
    }

    @Test func anImageTakes23BytesOfTheIndexAndWhatIsNewInItsName() async throws {
        // Lengths of two bytes, metadata that all have; the payload has two bytes for each.
        let inputs = try (0..<3).map { try Input.ppm("train/\($0).ppm", plain(UInt8($0))) }
        let two = try await encode(Array(inputs[..<2])).bytes.count
        #expect(try await encode(inputs).bytes.count - two == 23 + 1 + 2)
    }

    @Test func textsThatRepeatComeBack() async throws {
        let image = plain(1, width: 64, height: 64)
        let metadata = [13, 0, 0, 0] + textChunk
        let inputs: [Input] = [
            try .png("a", image, metadata: metadata), .side("b", [1]), .damaged("c", [2]),
            try .png("d", image), try .png("e", image, metadata: metadata), .damaged("f", [3]),
            .missing("g"), .side("h", [4]), .side("i", [5]), .missing("j"),
            try .ppm("k", image), try .png("l", image, metadata: metadata),
        ]
        let reader = try ShardReader(try await encode(inputs).bytes)
        for (sample, input) in zip(reader.samples, inputs) {
            switch input.content {
            case .image(let decoded):
                #expect(sample.mode == .flow)
                #expect(sample.metadata == decoded.metadata)
            case .stored(let reason, let isProblem):
                #expect(sample.reason == reason)
                #expect(sample.isProblem == isProblem)
            case .missing(let reason):
                #expect(sample.problem == reason)
            }
        }
    }

    @Test func anEmptyShardIsAShard() async throws {
        let shard = try await encode([])
        #expect(try ShardReader(shard.bytes).samples.isEmpty)
        #expect(shard.summary == ShardSummary())
    }

    @Test(arguments: [1, 2, 3, 8])
    func threadsDoNotChangeTheBytes(threads: Int) async throws {
        var inputs: [Input] = []
        for number in 0..<40 {
            let side = [4, 8, 12][number * 7 % 3]
            inputs.append(
                number % 5 == 0
                    ? .side("\(number)", [UInt8](repeating: UInt8(number), count: number))
                    : try .ppm("\(number)", plain(UInt8(number), width: side, height: 4))
            )
        }
        let one = try await encode(inputs, threads: 1)
        let several = try await encode(inputs, threads: threads)
        let isEqual = one.bytes == several.bytes
        #expect(isEqual)
    }

    @Test func equalNamesStartingAlikeAreFoundByName() async throws {
        let names = [
            "train/n01/a_10.png", "train/n01/a_1.png", "train/n02/a_1.png", "aa", "aaa", "a",
            "u", "\u{FC}", "u\u{308}", "\u{E4}b", "\u{164}b",
        ]
        let shard = try await encode(names.map { .side($0, Array($0.utf8)) })
        let reader = try ShardReader(shard.bytes)
        let decoder = try ShardDecoder(reader: reader, codec: PlainCodec())
        for (number, name) in names.enumerated() {
            #expect(reader.sample(named: name) == number)
            #expect(try decoder.file(at: number) == Array(name.utf8))
        }
        #expect(reader.sample(named: "train") == nil)
    }

    @Test func restoreGivesEverySampleOnce() async throws {
        let (_, shard) = try await mixedShard()
        let decoder = try ShardDecoder(reader: ShardReader(shard.bytes), codec: PlainCodec())
        let files = Mutex<[Int: [UInt8]]>([:])
        try await decoder.restore(threads: 3, where: { $0 != 3 }) { number, file in
            let bytes = try file.get()
            files.withLock { $0[number] = bytes }
        }
        let restored = files.withLock { $0 }
        #expect(restored.keys.sorted() == [0, 1, 2, 4, 5, 7])
        for (number, bytes) in restored { #expect(try decoder.file(at: number) == bytes) }
        #expect(try await decoder.verify(threads: 2).isEmpty)
    }

    @Test func aDamagedBlockCostsItsSamplesOnly() async throws {
        let (_, shard) = try await mixedShard()
        var bytes = shard.bytes
        // The payload of the first block: header of the file, header of the block.
        bytes[64 + 32] ^= 1
        let decoder = try ShardDecoder(reader: ShardReader(bytes), codec: PlainCodec())
        let failures = try await decoder.verify(threads: 2)
        #expect(Set(failures.keys) == Set(decoder.reader.members[0]))
        #expect(
            failures.values.allSatisfy {
                $0 == ArchiveError(.checksumMismatch, in: .block(0), at: 96)
            }
        )
        #expect(throws: ArchiveError(.digestMismatch, in: .footer, at: bytes.count - 40)) {
            try decoder.reader.checkDigest()
        }
    }

    @Test func anotherModelIsRefused() async throws {
        let (_, shard) = try await mixedShard()
        var other = PlainCodec()
        other.modelID = Digest(of: [])
        let id = PlainCodec().modelID
        #expect(throws: ArchiveError(.otherModel(id), in: .header, at: 8)) {
            try ShardDecoder(reader: ShardReader(shard.bytes), codec: other)
        }
    }

    @Test func theModelsCodecCodesAndRestores() async throws {
        let images = (0..<3).map { smooth(width: 14, height: 11, seed: $0) }
        // The model's weights are random: it makes nothing smaller than a well-made file.
        var inputs = try images.enumerated().map {
            try Input.long("\($0.offset).png", $0.element)
        }
        inputs.append(try .png("one.png", smooth(width: 1, height: 1, seed: 9)))
        let shard = try await encode(inputs, codec: fixtureCodec())
        let reader = try ShardReader(shard.bytes)
        try #require(reader.samples.map(\.mode) == [.flow, .flow, .flow, .stored])
        let verifier = try fixtureCodec(InstructionSet.best.verifier)
        let decoder = try ShardDecoder(reader: reader, codec: verifier)
        #expect(try await decoder.verify(threads: 2).isEmpty)
        for (number, image) in images.enumerated() {
            #expect(try decoder.image(at: number) == image)
            let file = try #require(try decoder.file(at: number))
            #expect(try PNG.read(file).image == image)
        }
    }
}
