import Flow
import Foundation
import Kernels
import TestSupport
import Testing

/// The blocks under `Fixtures/vectors`, written by the exporter.
struct VectorTests {
    static let names = ["tiny-lifting", "tiny-permuted", "tiny-dense", "tiny-shortcut"]
        .flatMap { model in ["1x1x1", "2x8x16", "3x13x11"].map { "\(model).\($0)" } }

    /// A block of images and everything that the exporter says about it.
    struct Block {
        let model: FlowModel
        let images: [PlanarImage]
        let tensors: [String: VectorFile.Tensor]

        init(_ name: String) throws {
            let file = try VectorFile(Fixtures.bytes("vectors/\(name).vectors.safetensors"))
            let input = try #require(file.tensors["input"])
            let modelName = try #require(file.metadata["model"])
            self.model = try FlowModel(bytes: Fixtures.bytes("vectors/\(modelName)"))
            self.tensors = file.tensors
            let size = input.values.count / input.shape[0]
            self.images = (0..<input.shape[0]).map { index in
                PlanarImage(
                    width: input.shape[3],
                    height: input.shape[2],
                    samples: input.values[index * size..<(index + 1) * size].map { UInt8($0) }
                )
            }
        }

        /// Returns the values of a tensor that must be there.
        func values(_ name: String) throws -> [Int32] {
            try #require(tensors[name], "\(name)").values
        }
    }

    @Test(arguments: names)
    func everyValueOfTheReferenceIsTheExporters(name: String) throws {
        let block = try Block(name)
        var seen: Set<String> = []
        ReferenceEngine(model: block.model).forward(
            block.images,
            observe: { value, tensor in
                guard let expected = block.tensors[value] else {
                    Issue.record("\(value) has no vector")
                    return
                }
                // Operations are written for the first image only.
                let same = tensor.values.starts(with: expected.values)
                #expect(same, "\(value)")
                #expect(
                    [tensor.height, tensor.width, tensor.channels] == expected.shape.dropFirst()
                )
                seen.insert(value)
            },
            pass: { _, _, _, _ in }
        )

        let expected = block.tensors.keys.filter { $0.hasPrefix("level") }
        #expect(seen == Set(expected))
    }

    @Test(arguments: names, InstructionSet.supported)
    func everyPassIsTheExporters(name: String, isa: InstructionSet) throws {
        let block = try Block(name)
        let engine = makeEngine(model: block.model, isa: isa)

        let passes = record(engine, block.images)

        #expect(passes.count == block.tensors.keys.count { $0.hasSuffix(".values") })
        for pass in passes {
            let sameValues =
                try block.values("pass\(pass.index).values") == pass.values.map { Int32($0) }
            #expect(sameValues, "pass \(pass.index)")
            let sameMeans =
                try block.values("pass\(pass.index).means") == pass.means.map { Int32($0) }
            #expect(sameMeans, "pass \(pass.index)")
            let sameScales =
                try block.values("pass\(pass.index).scales") == pass.scales.map { Int32($0) }
            #expect(sameScales, "pass \(pass.index)")
        }
        let first = block.images[0]
        let result = replay(
            engine,
            passes,
            count: block.images.count,
            width: first.width,
            height: first.height
        )
        let restored = result.images == block.images
        #expect(restored)
    }
}
