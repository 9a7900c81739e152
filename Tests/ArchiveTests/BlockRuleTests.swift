import Archive
import Raster
import Testing

/// The rules of `Format.md`, "How an encoder fills a shard".
@Suite struct BlockRuleTests {
    private func reader(of inputs: [Input]) async throws -> ShardReader {
        try ShardReader(try await encode(inputs).bytes)
    }

    @Test func aBlockClosesAt64Images() async throws {
        let reader = try await reader(of: (0..<65).map { try .ppm("\($0)", plain(UInt8($0))) })
        #expect(reader.blocks.map(\.count) == [64, 1])
        #expect(reader.members == [Array(0..<64), [64]])
    }

    @Test func aBlockClosesBeforeItPassesItsPixels() async throws {
        let image = plain(1, width: 1024, height: 300)
        let reader = try await reader(of: (0..<5).map { Input.claimed("\($0)", image) })
        #expect(reader.blocks.map(\.count) == [3, 2])
    }

    @Test func imagesOfOneSizeShareABlockInTheOrderOfTheFirst() async throws {
        let sizes = [(4, 8), (8, 4), (4, 8), (5, 5), (8, 4)]
        let reader = try await reader(
            of: sizes.enumerated().map {
                try .ppm("\($0.offset)", plain(1, width: $0.element.0, height: $0.element.1))
            }
        )
        #expect(reader.members == [[0, 2], [1, 4], [3]])
        #expect(reader.blocks.map(\.width) == [4, 8, 5])
    }

    @Test func theOldestBlockClosesWhenOpenBlocksHoldTooManyPixels() async throws {
        // 17 sizes of about 2^20 pixels; then the first size again.
        let sizes = (0..<17).map { (1024, 1000 + $0) } + [(1024, 1000)]
        let reader = try await reader(
            of: sizes.enumerated().map {
                .claimed("\($0.offset)", plain(1, width: $0.element.0, height: $0.element.1))
            }
        )
        #expect(reader.members.first == [0])
        #expect(reader.members.last == [17])
    }

    @Test func aLargeImageIsCutIntoBands() async throws {
        let image = plain(7, width: 2050, height: 2100)
        let shard = try await encode([
            .side("a", [1]), .claimed("b", image), try .ppm("c", plain(1)),
        ])
        let reader = try ShardReader(shard.bytes)
        // 2^21 / 2050 is 1023 rows, 1020 as a multiple of the codec's 4.
        #expect(reader.samples[1].blocks.count == 3)
        let bands = reader.blocks[reader.samples[1].blocks]
        #expect(bands.map(\.height) == [1020, 1020, 60])
        #expect(bands.map(\.continuesImage) == [false, true, true])
        #expect(reader.samples[1].width == 2050)
        #expect(reader.samples[1].height == 2100)
        let decoder = try ShardDecoder(reader: reader, codec: PlainCodec())
        let isEqual = try decoder.image(at: 1) == image
        #expect(isEqual)
        #expect(try await decoder.verify(threads: 2).isEmpty)
    }

    @Test func aLargeImageThatDoesNotShrinkIsStoredWhole() async throws {
        var samples = plain(7, width: 2050, height: 1100).samples
        samples[samples.count - 1] = 8
        let image = Image(width: 2050, height: 1100, channels: 3, samples: samples)
        let input = Input.claimed("a.png", image)
        let reader = try await reader(of: [input])
        #expect(reader.samples[0].mode == .stored)
        #expect(reader.blocks.map(\.kind) == [.stored])
    }

    @Test func imagesWiderThanTheFormatAllowsAreStored() async throws {
        let wide = plain(0, width: (1 << 17) + 1, height: 1)
        let reader = try await reader(of: [try .ppm("wide", wide), try .ppm("a", plain(0))])
        #expect(reader.samples.map(\.mode) == [.stored, .flow])
    }

    @Test func aBlockThatDoesNotPayForItsHeadersIsStored() async throws {
        // Two bytes of payload and 64 of headers against limits of 60 bytes each.
        let inputs = ["a", "b"].map { Input.claimed($0, plain(1), sourceBytes: 60) }
        #expect(try await reader(of: [inputs[0]]).samples.map(\.mode) == [.stored])
        #expect(try await reader(of: inputs).samples.map(\.mode) == [.flow, .flow])
    }

    @Test func anImageThatDoesNotPayForItsRecordIsStored() async throws {
        // A payload of two bytes and 8 of the record.
        let inputs = [10, 11, 100].map {
            Input.claimed("\($0)", plain(1), sourceBytes: $0)
        }
        #expect(try await reader(of: inputs).samples.map(\.mode) == [.stored, .flow, .flow])
    }

    @Test func metadataCountsAgainstModeFlow() async throws {
        let metadata = [UInt8](repeating: 0x78, count: 500)
        let inputs = [560, 567].map {
            Input.claimed("\($0)", plain(1), metadata: metadata, sourceBytes: $0)
        }
        #expect(try await reader(of: [inputs[0]]).samples[0].mode == .stored)
        #expect(try await reader(of: [inputs[1]]).samples[0].mode == .flow)
    }

    @Test func storedFilesGatherInBlocksOfLimitedLength() async throws {
        let half = [UInt8](repeating: 1, count: 600_000)
        let inputs: [Input] = [
            .side("a", half), .side("b", half), .side("c", []),
            .side("d", half + half), .side("e", [1]),
        ]
        let reader = try await reader(of: inputs)
        #expect(reader.members == [[0], [1, 2], [3], [4]])
    }

    @Test func aLongReasonIsCut() async throws {
        let input = Input(
            name: "a",
            bytes: [1],
            format: nil,
            content: .stored(reason: String(repeating: "ä", count: 600), isProblem: true)
        )
        #expect(try await reader(of: [input]).samples[0].reason.utf8.count == 1024)
    }

    @Test func whatTheInputThrowsIsThrown() async {
        struct Lost: Error {}
        await #expect(throws: Lost.self) {
            try await ShardEncoder(codec: PlainCodec()).encode(count: 9, threads: 2) {
                if $0 == 5 { throw Lost() }
                return .side("\($0)", [])
            }
        }
    }

    @Test(arguments: [["a", "a"], ["../a"], [""]])
    func namesThatNoShardCanHoldAreErrors(_ names: [String]) async {
        await #expect(throws: ArchiveError.self) {
            try await encode(names.map { .side($0, []) })
        }
    }

    @Test func aCancelledEncodingEnds() async {
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await encode([.side("a", [])])
        }
        await #expect(throws: CancellationError.self) { try await task.value }
    }
}
