import Codec
import Flow
import Foundation
import Kernels
import Raster
import TestSupport
import Testing

/// The models that the tests run: random ones of different shapes, and those of the fixtures.
enum TestModel: String, CaseIterable, Sendable {
    case lifting, permuted, deep, correcting, correctingMeans, mirroring
    case liftingFixture = "tiny-lifting"
    case permutedFixture = "tiny-permuted"

    func load() throws -> FlowModel {
        var shape = ModelBuilder.Shape()
        shape.channels = 4
        shape.priorChannels = 4
        switch self {
        case .lifting:
            break
        case .permuted:
            shape.order = .permuted
            shape.colour = "none"
            shape.groups = 1
        case .deep:
            shape.levels = 3
            shape.couplings = 1
        case .correcting:
            shape.correctsScales = true
        case .correctingMeans:
            shape.correctsScales = true
            shape.correctsMeans = true
        case .mirroring:
            shape.mirrors = true
        case .liftingFixture, .permutedFixture:
            return try FlowModel(
                bytes: Fixtures.bytes("vectors/\(rawValue).model.safetensors")
            )
        }
        return try FlowModel(bytes: ModelBuilder(shape, seed: 3).bytes())
    }

    /// The codec of the best instruction set, made once.
    var codec: BlockCodec {
        get throws { try #require(Self.codecs[self]).get() }
    }

    func makeCodec(_ isa: InstructionSet) throws -> BlockCodec {
        try BlockCodec(engine: makeEngine(model: load(), isa: isa))
    }

    private static let codecs = Dictionary(
        uniqueKeysWithValues: allCases.map { model in
            (model, Result { try model.makeCodec(.best) })
        }
    )
}

/// What a test image shows.
enum Subject: CaseIterable, Sendable {
    case noise, black, white, ramp, edge

    func image(width: Int, height: Int, using generator: inout SeededGenerator) -> Image {
        var samples: [UInt8] = []
        for channel in 0..<3 {
            for y in 0..<height {
                for x in 0..<width {
                    switch self {
                    case .noise: samples.append(.random(in: 0...255, using: &generator))
                    case .black: samples.append(0)
                    case .white: samples.append(255)
                    case .ramp: samples.append(UInt8(truncatingIfNeeded: 2 * x + 3 * y + channel))
                    case .edge: samples.append((x / 3 + channel) % 2 == 0 ? 255 : 0)
                    }
                }
            }
        }
        return Image(width: width, height: height, channels: 3, samples: samples)
    }
}

/// Images of one size, the subjects in turn.
func makeImages(count: Int, width: Int, height: Int, seed: UInt64) -> [Image] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { index in
        Subject.allCases[index % Subject.allCases.count]
            .image(width: width, height: height, using: &generator)
    }
}

extension BlockCodec {
    /// Encodes all images of a block.
    func encode(_ images: [Image]) -> [UInt8] {
        analyse(images).encode(keeping: { _ in true })
    }
}
