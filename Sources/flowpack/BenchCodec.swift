import ArgumentParser
import Codec
import Flow
import Foundation
import Kernels
import Raster
import Worker

extension BlockStages.Stage: ExpressibleByArgument {}

struct BenchCodec: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "codec",
        abstract: "Measures encoding and decoding of one block in memory, stage by stage.",
        discussion: """
            Megabytes are 10^6 samples of pixels. Of one thread the rate is that of its processor \
            time, of several the sum by wall clock while all of them run. The share of the kernel \
            peak is that of the networks' multiplications, measured in the same run. The \
            instruction set is the one that compress takes, unless --isa names others; verify \
            runs on the one that it checks with.
            """
    )

    /// Time to measure the core's peak for.
    private static let peakSeconds = 0.5

    @Option(
        name: [.customLong("model"), .customLong("profile")],
        help: "Profile or model file."
    )
    var model = "fast"

    @OptionGroup var sets: InstructionSetOptions

    @Option(help: "Numbers of threads, with commas between them.")
    var threads = CommaSeparated([1])

    @Option(help: "Images of a block, with commas between them.")
    var batch = CommaSeparated([4, 8, 16, 32, 64])

    @Option(help: "Rows and columns of an image.")
    var size = 64

    @Option(help: "Stages to measure, with commas between them.")
    var stage = CommaSeparated(BlockStages.Stage.allCases)

    @Option(help: "Folder of images that are cut into tiles (default: made up by formula).")
    var images: String?

    @OptionGroup var options: BenchOptions

    private struct Row: Encodable {
        let stage: String
        let profile: String
        let isa: String
        let threads: Int
        let batch: Int
        let bitsPerDimension: Double
        let megabytesPerSecond: Double
        /// Of one thread while all of them run.
        let megabytesPerProcessorSecond: Double
        /// None for stages with more in them than networks.
        let shareOfKernelPeak: ShareOfPeak

        enum CodingKeys: String, CodingKey {
            case stage, profile, isa, threads, batch
            case bitsPerDimension = "bits_per_dimension"
            case megabytesPerSecond = "megabytes_per_second"
            case megabytesPerProcessorSecond = "megabytes_per_processor_second"
            case shareOfKernelPeak = "share_of_kernel_peak"
        }
    }

    /// A block on one instruction set, and what its rows are computed from.
    private struct Block {
        let stages: BlockStages
        let images: [Image]
        let model: FlowModel
        let isa: InstructionSet
        /// GMAC/s; 0 for the reference.
        let peak: Double

        /// The row of a stage; `times` has one entry for each thread.
        func row(_ stage: BlockStages.Stage, _ times: [ProcessorTime]) -> Row {
            let samples = Double(images.reduce(0) { $0 + $1.samples.count })
            let macs = images.reduce(0) { $0 + model.macs(width: $1.width, height: $1.height) }
            // Runs per second of one thread's processor time, and of wall clock.
            let rate = times.reduce(0) { $0 + 1 / $1.bestSeconds } / Double(times.count)
            let sum = times.reduce(0) { $0 + Double($1.runs) / $1.elapsedSeconds }
            let isCompared = stage.isNetwork && peak > 0
            return Row(
                stage: stage.rawValue,
                profile: model.profile,
                isa: isa.rawValue,
                threads: times.count,
                batch: images.count,
                bitsPerDimension: 8 * Double(stages.payload.count) / samples,
                megabytesPerSecond: samples * (times.count == 1 ? rate : sum) * 1e-6,
                megabytesPerProcessorSecond: samples * rate * 1e-6,
                shareOfKernelPeak: ShareOfPeak(
                    value: isCompared ? Double(macs) * rate * 1e-9 / peak : nil
                )
            )
        }
    }

    func validate() throws {
        guard threads.elements.allSatisfy({ (1...4096).contains($0) }) else {
            throw ValidationError("--threads takes 1 to 4096.")
        }
        for count in batch.elements
        where !BlockLimits.allow(count: count, width: size, height: size) {
            throw ValidationError("A block cannot hold \(count) images of \(size)×\(size).")
        }
    }

    func run() async throws {
        let model = try FlowModel(bytes: ModelStore.read(ModelStore.path(ofModel: model)))
        let count = batch.elements.max() ?? 1
        let tiles =
            if let images {
                try Tiles.cut(fromFolder: absolutePath(images), side: size, count: count)
            } else {
                Tiles.synthetic(side: size, count: count)
            }
        let selected = try InstructionSet.selected(
            environment: ProcessInfo.processInfo.environment
        )
        var rows: [Row] = []
        for isa in sets.isa?.elements ?? [selected] {
            rows += try await measure(model, isa: isa, tiles: tiles)
        }
        if options.json {
            Console.print(json: BenchReport(rows: rows))
        } else {
            Console.table(table(rows))
        }
    }

    /// Every stage with every batch and number of threads.
    private func measure(
        _ model: FlowModel,
        isa: InstructionSet,
        tiles: [Image]
    ) async throws -> [Row] {
        let engine = makeEngine(model: model, isa: isa)
        let verifier = makeEngine(model: model, isa: isa.verifier)
        let peak = KernelBenchmark.peakGMACsPerSecond(isa, seconds: Self.peakSeconds)
        var rows: [Row] = []
        for batch in batch.elements {
            let images = Array(tiles[..<batch])
            let block = Block(
                stages: try BlockStages(images, engine: engine, verifier: verifier),
                images: images,
                model: model,
                isa: isa,
                peak: peak
            )
            for threads in threads.elements {
                let pool = ComputePool(threads: threads)
                for stage in stage.elements {
                    rows.append(block.row(stage, await measure(stage, of: block.stages, on: pool)))
                }
            }
        }
        return rows
    }

    /// Runs a stage on all threads of a pool at the same time; one result for each.
    private func measure(
        _ stage: BlockStages.Stage,
        of block: BlockStages,
        on pool: ComputePool
    ) async -> [ProcessorTime] {
        let seconds = options.seconds
        return await withTaskGroup { group in
            for _ in 0..<pool.threads {
                group.addTask(executorPreference: pool) {
                    ProcessorTime(seconds: seconds) { block.run(stage) }
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
    }

    /// A line for each stage, and a column for each batch.
    private func table(_ rows: [Row]) -> [[String]] {
        let batches = batch.elements
        let head = ["STAGE", "ISA", "THREADS"] + batches.map { "MB/S, BATCH \($0)" } + ["OF PEAK"]
        let groups = Dictionary(grouping: rows.indices) { index in
            [rows[index].stage, rows[index].isa, "\(rows[index].threads)"]
        }
        let lines = groups.sorted { $0.value[0] < $1.value[0] }.map { names, indices in
            names + indices.map { decimals(rows[$0].megabytesPerSecond, 2) }
                + [indices.last.map { rows[$0].shareOfKernelPeak.text } ?? "-"]
        }
        return [head] + lines
    }
}
