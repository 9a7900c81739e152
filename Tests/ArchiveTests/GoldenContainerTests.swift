import Archive
import Codec
import Flow
import Foundation
import JobProtocol
import Kernels
import Raster
import TestSupport
import Testing

/// `Fixtures/containers`: datasets of every version, which no change of the program may read
/// differently, nor, those of the present version, write differently.
@Suite struct GoldenContainerTests {
    private static let folders = ["containers/v1", "containers/v2"]

    private func dataset(_ folder: String) throws -> DatasetReader {
        try DatasetReader(folder: Fixtures.url(folder).path)
    }

    private func codec(_ dataset: DatasetReader, _ isa: InstructionSet) throws -> BlockCodec {
        try BlockCodec(engine: makeEngine(model: FlowModel(bytes: dataset.model()), isa: isa))
    }

    /// The source as it was classified when the dataset was written.
    private func inputs(_ samples: [SampleRecord], _ folder: String) throws -> [Input] {
        try samples.map { sample in
            if sample.mode == .missing {
                return Input(
                    name: sample.name,
                    bytes: [],
                    format: nil,
                    content: .missing(reason: sample.reason)
                )
            }
            let bytes = try Fixtures.bytes("\(folder)/source/\(sample.name)")
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

    @Test(arguments: folders)
    func readsEverySample(folder: String) async throws {
        let dataset = try dataset(folder)
        let shard = try dataset.shard(0)
        #expect(try shard.checkDigest().hex == dataset.manifest.shards[0].sha256)
        let inputs = try inputs(shard.samples, folder)
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

    @Test(arguments: folders)
    func readsEverySampleOnAnotherPath(folder: String) async throws {
        let dataset = try dataset(folder)
        let verifier = try codec(dataset, InstructionSet.best.verifier)
        let decoder = try ShardDecoder(reader: dataset.shard(0), codec: verifier)
        #expect(try await decoder.verify(threads: 2).isEmpty)
    }

    @Test func writesTheSameBytesAgain() async throws {
        let folder = try #require(Self.folders.last)
        let dataset = try dataset(folder)
        let samples = try dataset.shard(0).samples
        let shard = try await encode(inputs(samples, folder), codec: codec(dataset, .best))
        #expect(shard.sha256.hex == dataset.manifest.shards[0].sha256)
        #expect(shard.summary.flowBytes == 4508)
    }
}
