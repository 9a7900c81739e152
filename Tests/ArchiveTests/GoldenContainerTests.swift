import Archive
import Codec
import Flow
import Foundation
import JobProtocol
import Kernels
import Raster
import TestSupport
import Testing

/// `Fixtures/containers/v1`, which no change of the program may read or write differently.
@Suite struct GoldenContainerTests {
    private static let folder = "containers/v1"

    private func dataset() throws -> DatasetReader {
        try DatasetReader(folder: Fixtures.url(Self.folder).path)
    }

    private func codec(_ dataset: DatasetReader, _ isa: InstructionSet) throws -> BlockCodec {
        try BlockCodec(engine: makeEngine(model: FlowModel(bytes: dataset.model()), isa: isa))
    }

    /// The source as it was classified when the dataset was written.
    private func inputs(_ samples: [SampleRecord]) throws -> [Input] {
        try samples.map { sample in
            if sample.mode == .missing {
                return Input(
                    name: sample.name,
                    bytes: [],
                    format: nil,
                    content: .missing(reason: sample.reason)
                )
            }
            let bytes = try Fixtures.bytes("\(Self.folder)/source/\(sample.name)")
            let image =
                switch sample.format {
                case .png: try? PNG.read(bytes)
                case .pnm: try? PNM.read(bytes)
                default: DecodedImage?.none
                }
            let content: Input.Content =
                if let image, image.isRGB8 {
                    .image(image)
                } else {
                    .stored(reason: sample.reason, isProblem: sample.isProblem)
                }
            return Input(name: sample.name, bytes: bytes, format: sample.format, content: content)
        }
    }

    @Test func readsEverySample() async throws {
        let dataset = try dataset()
        let shard = try dataset.shard(0)
        #expect(shard.sha256.hex == dataset.manifest.shards[0].sha256)
        try shard.checkDigest()
        let inputs = try inputs(shard.samples)
        #expect(shard.samples.map(\.mode).filter { $0 == .flow }.count == 4)
        let decoder = try ShardDecoder(reader: shard, codec: codec(dataset, .best))
        for (number, sample) in shard.samples.enumerated() {
            #expect(sample.sourceBytes == inputs[number].bytes.count)
            let file = try decoder.file(at: number)
            switch (sample.mode, inputs[number].content) {
            case (.missing, _): #expect(file == nil)
            case (.flow, .image(let image)): #expect(try file.map { try PNG.read($0) } == image)
            case (.flow, _): Issue.record("\(sample.name) is an image")
            case (.stored, _): #expect(file == inputs[number].bytes)
            }
        }
    }

    @Test func readsEverySampleOnAnotherPath() async throws {
        let dataset = try dataset()
        let verifier = try codec(dataset, InstructionSet.best.verifier)
        let decoder = try ShardDecoder(reader: dataset.shard(0), codec: verifier)
        #expect(try await decoder.verify(threads: 2).isEmpty)
    }

    @Test func writesTheSameBytesAgain() async throws {
        let dataset = try dataset()
        let samples = try dataset.shard(0).samples
        let shard = try await encode(inputs(samples), codec: codec(dataset, .best))
        #expect(shard.sha256.hex == dataset.manifest.shards[0].sha256)
        #expect(shard.summary.flowBytes == 4508)
    }
}
