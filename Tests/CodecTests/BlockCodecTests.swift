import Codec
import EntropyCoding
import Flow
import Kernels
import Raster
import TestSupport
import Testing

@Suite struct BlockCodecTests {
    /// Odd sizes, sizes below the padding, batches up to the largest.
    static let blocks = [
        (1, 1, 1), (3, 1, 1), (64, 1, 1), (2, 1, 64), (2, 64, 1), (3, 17, 23), (64, 5, 3),
    ]

    @Test(arguments: TestModel.allCases, blocks)
    func imagesComeBack(
        model: TestModel,
        block: (count: Int, width: Int, height: Int)
    ) throws {
        let codec = try model.codec
        let images = makeImages(
            count: block.count,
            width: block.width,
            height: block.height,
            seed: 11
        )

        let payload = codec.encode(images)
        let decoded = try codec.decode(
            payload,
            count: block.count,
            width: block.width,
            height: block.height
        )

        let isEqual = decoded == images
        #expect(isEqual)
    }

    @Test(arguments: TestModel.allCases)
    func everyInstructionSetWritesAndReadsTheSameBytes(model: TestModel) throws {
        let images = makeImages(count: 3, width: 9, height: 6, seed: 12)
        let golden = try model.makeCodec(.reference).encode(images)

        for isa in InstructionSet.supported {
            let codec = try model.makeCodec(isa)
            let isSame = codec.encode(images) == golden
            #expect(isSame, "\(isa)")
            let isRead = try codec.decode(golden, count: 3, width: 9, height: 6) == images
            #expect(isRead, "\(isa)")
        }
    }

    @Test(arguments: ["tiny-lifting", "tiny-permuted"], ["1x1x1", "2x8x16", "3x13x11"])
    func streamsAreThoseOfTheTestVectors(name: String, block: String) throws {
        let model = try #require(TestModel(rawValue: name))
        let vectors = try TensorBytes(
            Fixtures.bytes("vectors/\(name).\(block).vectors.safetensors")
        )
        let input = try vectors.tensor("input")
        let (count, height, width) = (input.shape[0], input.shape[2], input.shape[3])
        let size = 3 * height * width
        let images = (0..<count).map { index in
            Image(
                width: width,
                height: height,
                channels: 3,
                samples: Array(input.bytes[index * size..<(index + 1) * size])
            )
        }
        let stream = try vectors.tensor("stream").bytes

        let codec = try model.codec
        let isSame = codec.encode(images) == stream
        #expect(isSame)
        let isRead =
            try codec.decode(stream, count: count, width: width, height: height) == images
        #expect(isRead)
    }

    @Test func keepingSomeImagesIsEncodingThemAlone() throws {
        let codec = try TestModel.lifting.codec
        let images = makeImages(count: 6, width: 7, height: 5, seed: 13)
        let analysis = codec.analyse(images)

        for kept in [[0], [5], [1, 2, 4], [0, 5], [0, 1, 2, 3, 4, 5]] {
            let payload = analysis.encode(keeping: kept.contains)

            let alone = kept.map { images[$0] }
            let isSame = payload == codec.encode(alone)
            #expect(isSame, "\(kept)")
            let isRead =
                try codec.decode(payload, count: kept.count, width: 7, height: 5) == alone
            #expect(isRead, "\(kept)")
        }
        #expect(analysis.encode(keeping: { _ in false }).isEmpty)
    }

    @Test(arguments: TestModel.allCases)
    func costIsTheSizeOfThePayload(model: TestModel) throws {
        let codec = try model.codec
        let images = makeImages(count: 5, width: 16, height: 12, seed: 14)
        let analysis = codec.analyse(images)

        for (index, image) in images.enumerated() {
            let cost = analysis.cost(ofImage: index)
            if !codec.model.correctsScales {  // Corrections are those of all images of the block.
                #expect(cost == codec.analyse([image]).cost(ofImage: 0), "image \(index)")
            }
            let bits = 8 * analysis.encode(keeping: { $0 == index }).count
            // 32 lanes take 16 bits each besides the symbols, and lose up to a word each.
            #expect(bits >= cost && bits <= cost + cost / 50 + 32 * 32, "image \(index)")
        }
    }

    // MARK: - Damage

    /// Images that differ from the block's are left to the digests above this layer.
    @Test(arguments: [TestModel.liftingFixture, .permuted])
    func aChangedByteNeverTrapsAndIsMostlyAnError(model: TestModel) throws {
        let codec = try model.codec
        let payload = codec.encode(makeImages(count: 2, width: 4, height: 3, seed: 15))

        var errors = 0
        for offset in payload.indices {
            var changed = payload
            changed[offset] ^= UInt8(1 + offset % 255)
            do throws(BitstreamError) {
                let images = try codec.decode(changed, count: 2, width: 4, height: 3)
                #expect(images.count == 2)
            } catch {
                errors += 1
            }
        }
        // The raw values of escapes, which random models have many of, are not checked.
        #expect(errors > payload.count / 2)
    }

    @Test func aPayloadCutAnywhereIsAnError() throws {
        let codec = try TestModel.lifting.codec
        let payload = codec.encode(makeImages(count: 1, width: 4, height: 4, seed: 16))

        for count in payload.indices {
            #expect(throws: BitstreamError.self) {
                try codec.decode(Array(payload[..<count]), count: 1, width: 4, height: 4)
            }
        }
    }

    @Test func aPayloadOfAnotherSizeIsAnError() throws {
        let codec = try TestModel.lifting.codec
        let payload = codec.encode(makeImages(count: 2, width: 8, height: 8, seed: 17))

        for (count, width, height) in [(1, 8, 8), (3, 8, 8), (2, 4, 8), (2, 8, 12), (64, 8, 8)] {
            #expect(throws: BitstreamError.self) {
                try codec.decode(payload, count: count, width: width, height: height)
            }
        }
    }

    @Test(arguments: [
        (0, 8, 8), (65, 8, 8), (-1, 8, 8), (1, 0, 8), (1, 8, -8), (1, (1 << 17) + 1, 1),
        (1, 1 << 17, 17), (2, 1 << 10, 1 << 11), (.max, .max, .max), (.min, .min, .min),
    ])
    func aBlockOutsideTheLimitsIsAnError(count: Int, width: Int, height: Int) throws {
        let codec = try TestModel.lifting.codec

        #expect(throws: BitstreamError(.invalidGeometry, byteOffset: 0)) {
            try codec.decode([], count: count, width: width, height: height)
        }
    }
}
