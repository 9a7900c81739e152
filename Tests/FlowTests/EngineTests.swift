import Flow
import Kernels
import TestSupport
import Testing

/// One pass of a block, kept for comparison.
struct RecordedPass: Equatable {
    let index: Int
    let values: [Int16]
    let means: [Int16]
    let scales: [UInt8]
}

/// Returns all passes of a block in decode order.
func record(_ engine: some FlowEngine, _ images: [PlanarImage]) -> [RecordedPass] {
    var passes: [RecordedPass] = []
    engine.forward(images) { index, values, means, scales in
        passes.append(
            RecordedPass(
                index: index,
                values: Array(values),
                means: Array(means),
                scales: Array(scales)
            )
        )
    }
    return passes.sorted { $0.index < $1.index }
}

/// Returns the images of recorded passes, and the passes as the inverse asked for them.
func replay(
    _ engine: some FlowEngine,
    _ passes: [RecordedPass],
    count: Int,
    width: Int,
    height: Int
) -> (images: [PlanarImage], asked: [RecordedPass]) {
    var asked: [RecordedPass] = []
    let images = engine.inverse(count: count, width: width, height: height) {
        index,
        means,
        scales,
        values in
        for (symbol, value) in passes[index].values.enumerated() { values[symbol] = value }
        asked.append(
            RecordedPass(
                index: index,
                values: Array(values),
                means: Array(means),
                scales: Array(scales)
            )
        )
    }
    return (images, asked)
}

/// Returns random images, half of them smooth.
func makeImages(count: Int, width: Int, height: Int, seed: UInt64) -> [PlanarImage] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { index in
        var samples: [UInt8] = []
        for channel in 0..<3 {
            for y in 0..<height {
                for x in 0..<width {
                    let noise = UInt8.random(in: .min ... .max, using: &generator)
                    let ramp = UInt8(truncatingIfNeeded: 3 * x + 5 * y + 40 * channel)
                    samples.append(index % 2 == 0 ? noise : ramp &+ noise % 4)
                }
            }
        }
        return PlanarImage(width: width, height: height, samples: samples)
    }
}

/// The instruction sets of this machine that have kernels.
let kernelSets = InstructionSet.supported.filter { $0 != .reference }

/// Blocks that cover odd sizes, sizes below the padding, and more than one image.
let blocks = [(1, 1, 1), (2, 2, 1), (1, 3, 2), (3, 5, 7), (2, 8, 4), (1, 4, 17)]

struct ReferenceEngineTests {
    @Test(arguments: blocks, ModelBuilder.Shape.Order.allCases)
    func inverseRestoresTheImages(
        block: (count: Int, width: Int, height: Int),
        order: ModelBuilder.Shape.Order
    ) throws {
        var shape = ModelBuilder.Shape()
        shape.order = order
        shape.channels = 4
        shape.priorChannels = 4
        let engine = ReferenceEngine(
            model: try FlowModel(bytes: ModelBuilder(shape, seed: 1).bytes())
        )
        let images = makeImages(
            count: block.count,
            width: block.width,
            height: block.height,
            seed: 2
        )

        let passes = record(engine, images)
        let result = replay(
            engine,
            passes,
            count: block.count,
            width: block.width,
            height: block.height
        )

        let restored = result.images == images
        #expect(restored)
        let sameQuestions = result.asked == passes
        #expect(sameQuestions)
    }

    @Test func passesHaveTheirShapes() throws {
        let model = try FlowModel(bytes: ModelBuilder(seed: 3).bytes())
        let images = makeImages(count: 2, width: 5, height: 9, seed: 4)

        let passes = record(ReferenceEngine(model: model), images)

        let shapes = model.passShapes(width: 5, height: 9)
        #expect(passes.map(\.index) == Array(shapes.indices))
        #expect(passes.map(\.values.count) == shapes.map { 2 * $0.symbolsPerImage })
        #expect(shapes.map(\.level) == [1, 1, 0, 0])
        #expect(shapes.map(\.channels) == [8, 16, 2, 4])
        #expect(shapes.map(\.width) == [2, 2, 4, 4] && shapes.map(\.height) == [3, 3, 6, 6])
    }

    @Test func colourIsTheWrittenTransform() throws {
        var shape = ModelBuilder.Shape()
        shape.levels = 1
        shape.couplings = 0
        shape.groups = 1
        func latents(_ colour: String, _ pixel: [UInt8]) throws -> [Int16] {
            shape.colour = colour
            let model = try FlowModel(bytes: ModelBuilder(shape, seed: 5).bytes())
            let image = PlanarImage(width: 1, height: 1, samples: pixel)
            return record(ReferenceEngine(model: model), [image])[0].values
        }

        // co = 200 − 30 = 170, t = 30 + 85 = 115, cg = 100 − 115 = −15, y = 115 − 8 = 107.
        #expect(
            try latents("ycocg-r", [200, 100, 30])
                == [-21, 170, -15, -21, 170, -15, -21, 170, -15, -21, 170, -15]
        )
        #expect(try latents("none", [200, 100, 30]).prefix(3) == [72, -28, -98])
    }

    @Test func squeezeOrdersSubPixelsRowByRow() throws {
        var shape = ModelBuilder.Shape()
        shape.levels = 1
        shape.couplings = 0
        shape.groups = 1
        shape.colour = "none"
        let model = try FlowModel(bytes: ModelBuilder(shape, seed: 6).bytes())
        let image = PlanarImage(
            width: 2,
            height: 2,
            samples: [128, 129, 130, 131, 138, 139, 140, 141, 148, 149, 150, 151]
        )

        let values = record(ReferenceEngine(model: model), [image])[0].values

        #expect(values == [0, 10, 20, 1, 11, 21, 2, 12, 22, 3, 13, 23])
    }
}

struct KernelEngineTests {
    @Test(arguments: blocks)
    func equalsTheReference(block: (count: Int, width: Int, height: Int)) throws {
        for (seed, order) in ModelBuilder.Shape.Order.allCases.enumerated() {
            var shape = ModelBuilder.Shape()
            shape.order = order
            shape.channels = 5 + 12 * seed
            shape.priorChannels = 6
            shape.blocks = 1 + seed
            let model = try FlowModel(bytes: ModelBuilder(shape, seed: UInt64(seed)).bytes())
            expectEqual(model, block)
        }
    }

    @Test func threeLevelsEqualTheReference() throws {
        var shape = ModelBuilder.Shape()
        shape.levels = 3
        shape.groups = 1
        shape.blocks = 2
        shape.couplings = 5
        shape.channels = 3
        shape.priorChannels = 3
        let model = try FlowModel(bytes: ModelBuilder(shape, seed: 7).bytes())
        expectEqual(model, (1, 9, 11))
    }

    @Test(arguments: UInt64(0)..<6)
    func denseNetworksEqualTheReference(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var shape = ModelBuilder.Shape()
        shape.connections = .dense
        shape.order = seed % 2 == 0 ? .lifting : .permuted
        // Few and many joined channels, seldom a multiple of 16.
        shape.channels = Int.random(in: 1...20, using: &generator)
        shape.priorChannels = Int.random(in: 1...20, using: &generator)
        shape.blocks = Int.random(in: 1...3, using: &generator)
        let model = try FlowModel(bytes: ModelBuilder(shape, seed: seed).bytes())
        expectEqual(model, (2, Int.random(in: 1...9, using: &generator), 5))
    }

    @Test(arguments: UInt64(0)..<6)
    func prunedNetworksEqualTheReference(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var shape = ModelBuilder.Shape()
        shape.channels = Int.random(in: 1...20, using: &generator)
        shape.priorChannels = Int.random(in: 1...20, using: &generator)
        shape.hiddenChannels = Int.random(in: 1...40, using: &generator)
        shape.blocks = Int.random(in: 1...3, using: &generator)
        let model = try FlowModel(bytes: ModelBuilder(shape, seed: seed).bytes())
        expectEqual(model, (2, Int.random(in: 1...9, using: &generator), 5))
    }

    @Test(arguments: 0...3)
    func shortcutsEqualTheReference(blocks: Int) throws {
        var shape = ModelBuilder.Shape()
        shape.shortcuts = true
        shape.blocks = blocks
        // The trunk of some networks is as wide as their result.
        shape.channels = 3
        shape.priorChannels = 6
        let model = try FlowModel(bytes: ModelBuilder(shape, seed: UInt64(blocks)).bytes())
        expectEqual(model, (3, 7, 10))
    }

    @Test func aShortcutThatIsUsedTwiceRunsOnTheReference() throws {
        var shape = ModelBuilder.Shape()
        shape.shortcuts = true
        shape.levels = 1
        var builder = ModelBuilder(shape, seed: 1)
        // The last addition becomes one of the shortcut to itself.
        let last = #""input":"v2","output":"v14","other":"v13""#
        try #require(builder.flow.contains(last), "\(builder.flow)")
        builder.flow = builder.flow.replacing(last, with: last.replacing("v13", with: "v2"))
        let model = try FlowModel(bytes: builder.bytes())
        #expect(KernelEngine(model: model, isa: .reference).unfusedNetworks > 0)
    }

    @Test func thePapersWidthEqualsTheReference() throws {
        var shape = ModelBuilder.Shape()
        shape.levels = 1
        shape.couplings = 1
        shape.groups = 1
        shape.channels = 128
        shape.blocks = 8
        let model = try FlowModel(bytes: ModelBuilder(shape, seed: 17).bytes())
        expectEqual(model, (1, 3, 2))
    }

    @Test func activationsOfOneWidthDoNotOverwriteEachOther() throws {
        // Everything in the first layer has the 9 channels of the context, and v4 is needed again
        // after v6 is made.
        var shape = ModelBuilder.Shape()
        shape.connections = .dense
        shape.blocks = 2
        shape.channels = 9
        var builder = ModelBuilder(shape, seed: 18)
        let concat = #""inputs":["v2", "v6"]"#
        try #require(builder.flow.contains(concat), "\(builder.flow)")
        builder.flow = builder.flow.replacing(concat, with: #""inputs":["v6", "v4"]"#)
        let model = try FlowModel(bytes: builder.bytes())
        expectEqual(model, (2, 5, 3))
    }

    private func expectEqual(
        _ model: FlowModel,
        _ block: (count: Int, width: Int, height: Int)
    ) {
        let images = makeImages(
            count: block.count,
            width: block.width,
            height: block.height,
            seed: 8
        )
        let expected = record(ReferenceEngine(model: model), images)
        for isa in kernelSets {
            let engine = KernelEngine(model: model, isa: isa)
            #expect(engine.unfusedNetworks == 0)

            let passes = record(engine, images)
            let result = replay(
                engine,
                passes,
                count: block.count,
                width: block.width,
                height: block.height
            )

            let sameLatents = passes == expected
            #expect(sameLatents, "\(isa)")
            let restored = result.images == images
            #expect(restored, "\(isa)")
        }
    }

    @Test(arguments: kernelSets)
    func anyLatentsGiveTheReferencesImages(isa: InstructionSet) throws {
        let model = try FlowModel(bytes: ModelBuilder(seed: 9).bytes())
        var generator = SeededGenerator(seed: 10)
        let passes = model.passShapes(width: 6, height: 5).enumerated().map { index, shape in
            RecordedPass(
                index: index,
                values: (0..<shape.symbolsPerImage).map { _ in
                    Int16.random(in: .min ... .max, using: &generator)
                },
                means: [],
                scales: []
            )
        }

        let expected = replay(
            ReferenceEngine(model: model),
            passes,
            count: 1,
            width: 6,
            height: 5
        )
        let result = replay(
            KernelEngine(model: model, isa: isa),
            passes,
            count: 1,
            width: 6,
            height: 5
        )

        let sameImages = result.images == expected.images
        #expect(sameImages)
        let samePriors = result.asked == expected.asked
        #expect(samePriors)
    }

    @Test func tilingDoesNotChangeTheResult() throws {
        let model = try FlowModel(bytes: ModelBuilder(seed: 11).bytes())
        let images = makeImages(count: 3, width: 4, height: 161, seed: 12)
        let expected = record(KernelEngine(model: model, isa: .best), images)
        for (batch, image) in [(1, 1 << 20), (1 << 20, 1)] {
            var limits = Tiling.Limits()
            limits.batchBytes = batch
            limits.imageBytes = image
            let engine = KernelEngine(model: model, isa: .best, limits: limits)

            let passes = record(engine, images)
            let result = replay(engine, passes, count: 3, width: 4, height: 161)

            let sameLatents = passes == expected
            #expect(sameLatents, "batch \(batch), image \(image)")
            let restored = result.images == images
            #expect(restored, "batch \(batch), image \(image)")
        }
    }

    @Test func otherNetworksRunOnTheReference() throws {
        // Without the additions the trunk of a block is dead, and the chain is no longer one.
        var builder = ModelBuilder(seed: 13)
        builder.flow = builder.flow.replacing(
            #""op":"add","input":"v2","output":"v8","other":"v7""#,
            with: #""op":"add","input":"v2","output":"v8","other":"v2""#
        )
        let model = try FlowModel(bytes: builder.bytes())
        let images = makeImages(count: 2, width: 5, height: 6, seed: 14)
        let engine = KernelEngine(model: model, isa: .best)
        #expect(engine.unfusedNetworks == 7)

        let passes = record(engine, images)

        let sameLatents = passes == record(ReferenceEngine(model: model), images)
        #expect(sameLatents)
        let restored = replay(engine, passes, count: 2, width: 5, height: 6).images == images
        #expect(restored)
    }

    @Test func severalThreadsShareOneEngine() async throws {
        let model = try FlowModel(bytes: ModelBuilder(seed: 15).bytes())
        let engine = KernelEngine(model: model, isa: .best)
        let expected = (0..<4).map { seed in
            record(engine, makeImages(count: 2, width: 12, height: 10, seed: seed))
        }
        await withTaskGroup(of: (Int, [RecordedPass]).self) { group in
            for seed in 0..<4 {
                group.addTask {
                    let images = makeImages(count: 2, width: 12, height: 10, seed: UInt64(seed))
                    return (seed, record(engine, images))
                }
            }
            for await (seed, passes) in group {
                let same = passes == expected[seed]
                #expect(same)
            }
        }
    }

    @Test func theFactoryTakesTheDefinitionForReference() throws {
        let model = try FlowModel(bytes: ModelBuilder(seed: 16).bytes())
        #expect(makeEngine(model: model, isa: .reference) is ReferenceEngine)
        #expect(
            makeEngine(model: model, isa: .best) is KernelEngine
                || InstructionSet.best == .reference
        )
    }
}

struct TilingTests {
    @Test(arguments: [1, 7, 40, 41, 100, 1000], [0, 1, 4])
    func everyRowCountsOnce(height: Int, reach: Int) {
        for (batch, image) in [(1, 1), (5000, 1), (5000, 5000), (1 << 20, 1 << 20)] {
            var limits = Tiling.Limits()
            limits.batchBytes = batch
            limits.imageBytes = image
            let tiling = Tiling(
                count: 3,
                height: height,
                bytesPerRow: 100,
                reach: reach,
                limits: limits
            )

            var counted: [[Int]] = Array(repeating: [], count: 3)
            for tile in tiling.tiles {
                #expect(tile.images <= tiling.images)
                for index in tile.image..<tile.image + tile.images { counted[index] += tile.rows }
                // Rows that count are `reach` away from every cut.
                let end = tile.firstRow + tiling.height
                #expect(tile.firstRow >= 0 && end <= height)
                #expect(tile.firstRow == 0 || tile.firstRow + reach <= tile.rows.lowerBound)
                #expect(end == height || tile.rows.upperBound + reach <= end)
            }

            #expect(counted.allSatisfy { $0 == Array(0..<height) })
        }
    }
}
