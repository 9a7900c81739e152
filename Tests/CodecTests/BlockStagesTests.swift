import Codec
import EntropyCoding
import Flow
import Kernels
import Raster
import Testing

@Suite struct BlockStagesTests {
    private static let images = makeImages(count: 3, width: 17, height: 10, seed: 31)

    @Test(arguments: TestModel.allCases)
    func everyStageMakesWhatItShould(model: TestModel) throws {
        let stages = try BlockStages(
            Self.images,
            engine: makeEngine(model: model.load(), isa: .best),
            verifier: makeEngine(model: model.load(), isa: .best.verifier)
        )

        #expect(try stages.payload == model.codec.encode(Self.images))
        for stage in BlockStages.Stage.allCases {
            #expect(stages.run(stage), "\(stage)")
        }
    }

    @Test func aReplayGivesTheRecordedBlockToTheCodec() throws {
        let model = TestModel.correcting
        let planar = Self.images.map {
            PlanarImage(width: $0.width, height: $0.height, samples: $0.samples)
        }
        let replay = ReplayEngine(
            recording: makeEngine(model: try model.load(), isa: .best),
            images: planar
        )

        let codec = try BlockCodec(engine: replay)

        let payload = codec.encode(Self.images)
        #expect(try payload == model.codec.encode(Self.images))
        let decoded = try codec.decode(payload, count: 3, width: 17, height: 10)
        let isEqual = decoded == Self.images
        #expect(isEqual)
        #expect(throws: BitstreamError.self) {
            try codec.decode(Array(payload.dropLast(4)), count: 3, width: 17, height: 10)
        }
    }

    @Test func aWrongVerifierIsNoticed() throws {
        let stages = try BlockStages(
            Self.images,
            engine: makeEngine(model: TestModel.lifting.load(), isa: .best),
            verifier: makeEngine(model: TestModel.deep.load(), isa: .best)
        )

        #expect(stages.run(.encode))
        #expect(!stages.run(.verify))
        #expect(!stages.run(.encodeAndVerify))
    }
}
