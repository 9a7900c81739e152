import Foundation
import JobProtocol
import TestSupport
import Testing

/// A binary PPM with a smooth picture.
func picture(_ width: Int, _ height: Int, seed: UInt64) -> [UInt8] {
    var generator = SeededGenerator(seed: seed)
    let slope = Int.random(in: 1...5, using: &generator)
    var bytes = Array("P6\n\(width) \(height)\n255\n".utf8)
    for y in 0..<height {
        for x in 0..<width {
            for channel in 0..<3 {
                let noise = Int.random(in: 0...2, using: &generator)
                bytes.append(UInt8((30 + slope * x + 2 * y + 10 * channel + noise) & 255))
            }
        }
    }
    return bytes
}

private struct SummaryFields: Decodable {
    let samples: Int
    let flowSamples: Int
    let storedSamples: Int
    let sourceBytes: Int
    let outputBytes: Int
    let bitsPerDimension: Double?
    /// Of `compress` only.
    let memoryBoundBytes: Int?
    let peakMemoryBytes: Int?
    let datasetDigest: String
    let problems: [SampleProblem]
}

/// Reads the keys of the program's JSON.
private let snakeCase: JSONDecoder = {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return decoder
}()

/// A source folder with images, a side file and, if wanted, a damaged image.
private func makeSource(_ folder: Folder, isDamaged: Bool = false) throws {
    for index in 0..<3 as Range<UInt64> {
        try folder.write(picture(24, 16, seed: index), "source/\(index).ppm")
    }
    try folder.write("a cat\n".utf8, "source/labels/0.txt")
    if isDamaged { try folder.write(picture(24, 16, seed: 9).dropLast(7), "source/damaged.ppm") }
}

@Suite(.timeLimit(.minutes(5)))
struct CommandTests {
    private let flowpack: Program
    private let folder: Folder

    init() throws {
        flowpack = try Program("flowpack")
        folder = try Folder()
    }

    private func path(_ name: String) -> String { "\(folder.path)/\(name)" }

    private func compress(_ more: String...) throws -> SummaryFields {
        let ending = try flowpack.run(
            "compress",
            path("source"),
            "-o",
            path("out"),
            "--json",
            more.first ?? "--progress=none"
        )
        #expect(ending.status == 0, "\(ending.errors)")
        return try snakeCase.decode(SummaryFields.self, from: Data(ending.output))
    }

    @Test func aFolderComesBackAsItWas() throws {
        try makeSource(folder)

        let summary = try compress()
        let restoring = try flowpack.run("extract", path("out"), "-o", path("back"))

        #expect(summary.samples == 4)
        #expect(summary.flowSamples == 3)
        #expect(summary.outputBytes < summary.sourceBytes)
        let bound = try #require(summary.memoryBoundBytes)
        #expect((1...bound).contains(try #require(summary.peakMemoryBytes)))
        #expect(summary.problems == [])
        #expect(restoring.status == 0)
        #expect(try folder.files("back") == folder.files("source"))
        for name in try folder.files("source") {
            #expect(try folder.bytes("back/\(name)") == folder.bytes("source/\(name)"), "\(name)")
        }
    }

    @Test func aFinishedDatasetHoldsNothingElse() throws {
        try makeSource(folder)
        _ = try compress()

        let files = try folder.files("out")

        #expect(files.count == 3)
        #expect(files.contains(DatasetLayout.manifestFile))
        #expect(files.contains { $0.hasPrefix("model-") && $0.hasSuffix(".safetensors") })
        #expect(files.contains { $0.hasPrefix("shards/00000-") && $0.hasSuffix(".fpk") })
    }

    @Test func threadsAndInstructionSetsDoNotChangeTheDataset() throws {
        try makeSource(folder)
        let first = try compress("--threads=1").datasetDigest
        try FileManager.default.removeItem(atPath: path("out"))

        let ending = try flowpack.run(
            "compress",
            path("source"),
            "-o",
            path("out"),
            "--json",
            "--threads=3",
            environment: ["FLOWPACK_ISA": "sse41"]
        )

        let second = try snakeCase.decode(SummaryFields.self, from: Data(ending.output))
        #expect(second.datasetDigest == first)
    }

    @Test func problemsAreNamedAndGiveExitCodeSeven() throws {
        try makeSource(folder, isDamaged: true)

        let ending = try flowpack.run("compress", path("source"), "-o", path("out"))

        #expect(ending.status == 7)
        #expect(ending.errors.contains("damaged.ppm: damaged"))
        let restoring = try flowpack.run("extract", path("out"), "-o", path("back"))
        #expect(restoring.status == 0)
        #expect(try folder.bytes("back/damaged.ppm") == folder.bytes("source/damaged.ppm"))
    }

    @Test func verifyFindsAFlippedBit() throws {
        try makeSource(folder)
        _ = try compress()
        #expect(try flowpack.run("verify", path("out")).status == 0)
        let shard = try #require(try folder.files("out").first { $0.hasSuffix(".fpk") })
        var bytes = try folder.bytes("out/\(shard)")
        bytes[100] ^= 4
        try folder.write(bytes, "out/\(shard)")

        let ending = try flowpack.run("verify", path("out"))

        #expect(ending.status == 8)
        #expect(ending.errors.contains(shard))
        #expect(ending.errors.contains("0.ppm"))
    }

    @Test func aDamagedBlockCostsOnlyItsOwnSamples() throws {
        try makeSource(folder)
        _ = try compress()
        let shard = try #require(try folder.files("out").first { $0.hasSuffix(".fpk") })
        var bytes = try folder.bytes("out/\(shard)")
        bytes[100] ^= 4  // In the first block, which holds the images.
        try folder.write(bytes, "out/\(shard)")

        let ending = try flowpack.run("extract", path("out"), "-o", path("back"))

        #expect(ending.status == 8)
        #expect(["0.ppm", "1.ppm", "2.ppm"].allSatisfy { ending.errors.contains($0) })
        #expect(try folder.files("back") == ["labels/0.txt"])
    }

    @Test func singleSamplesAreListedAndWritten() throws {
        try makeSource(folder)
        _ = try compress()

        let names = try flowpack.run("ls", path("out")).text
        #expect(names == "0.ppm\n1.ppm\n2.ppm\nlabels/0.txt\n")
        #expect(try flowpack.run("ls", path("out"), "--only", "*.txt").text == "labels/0.txt\n")
        let sample = try flowpack.run("cat", path("out"), "1.ppm")
        #expect(try sample.output == folder.bytes("source/1.ppm"))
        #expect(try flowpack.run("cat", path("out"), "none").status == 4)
        let only = try flowpack.run(
            "extract",
            path("out"),
            "-o",
            path("back"),
            "--only",
            "[01].ppm"
        )
        #expect(only.status == 0)
        #expect(try folder.files("back") == ["0.ppm", "1.ppm"])
    }

    @Test func infoTellsWhatIsInside() throws {
        try makeSource(folder)
        let summary = try compress()

        let info = try flowpack.run("info", path("out"), "--json")
        let fields = try snakeCase.decode(SummaryFields.self, from: Data(info.output))
        #expect(fields.datasetDigest == summary.datasetDigest)
        #expect(fields.bitsPerDimension == summary.bitsPerDimension)
        let shard = try #require(try folder.files("out").first { $0.hasSuffix(".fpk") })
        #expect(
            try flowpack.run("info", path("out/\(shard)")).text.contains("4 (3 flow, 1 stored)")
        )
    }

    @Test func aFolderThatIsNotOursIsLeftAlone() throws {
        try makeSource(folder)
        try folder.write([1], "out/precious")

        let ending = try flowpack.run("compress", path("source"), "-o", path("out"))

        #expect(ending.status == 1)
        #expect(ending.errors.contains("is not empty"))
        #expect(ending.errors.contains("Next: "))
        #expect(try folder.files("out") == ["precious"])
    }

    @Test func aFinishedDatasetIsNotWrittenAgain() throws {
        try makeSource(folder)
        _ = try compress()

        let ending = try flowpack.run("compress", path("source"), "-o", path("out"))

        #expect(ending.status == 1)
        #expect(ending.errors.contains("flowpack verify"))
    }

    @Test func aKilledRunGoesOnWhereItWas() throws {
        for index in 0..<12 as Range<UInt64> {
            try folder.write(picture(64, 64, seed: index), "source/\(index).ppm")
        }
        let arguments = [
            "compress", path("source"), "-o", path("out"), "--shard-bytes", "12KiB", "--threads",
            "1", "--progress", "none", "--json",
        ]
        let process = try flowpack.start(
            arguments,
            output: folder.url("output"),
            errors: folder.url("errors")
        )
        // The first shard in its place is the sign that the job is under way.
        while process.isRunning,
            try !folder.files("out").contains(where: { $0.hasPrefix("shards/0") })
        {
            usleep(1_000)
        }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        #expect(process.terminationReason == .uncaughtSignal)
        #expect(try flowpack.run("verify", path("out")).status == 4)

        let again = try flowpack.start(
            arguments,
            output: folder.url("output"),
            errors: folder.url("errors")
        )
        again.waitUntilExit()

        #expect(again.terminationStatus == 0)
        let summary = try snakeCase.decode(
            SummaryFields.self,
            from: Data(try folder.bytes("output"))
        )
        #expect(summary.samples == 12)
        #expect(try flowpack.run("verify", path("out")).status == 0)
        #expect(try !folder.files("out").contains { $0.contains(".flowpack") })
    }

    @Test func anInterruptedRunEndsWithItsOwnCode() throws {
        for index in 0..<12 as Range<UInt64> {
            try folder.write(picture(64, 64, seed: index), "source/\(index).ppm")
        }
        let process = try flowpack.start(
            [
                "compress", path("source"), "-o", path("out"), "--shard-bytes", "12KiB",
                "--threads", "1",
            ],
            output: folder.url("output"),
            errors: folder.url("errors")
        )
        while process.isRunning,
            try !folder.files("out").contains(where: { $0.hasPrefix("shards/0") })
        {
            usleep(1_000)
        }
        kill(process.processIdentifier, SIGINT)
        process.waitUntilExit()

        #expect(process.terminationReason == .exit)
        #expect(process.terminationStatus == 130)
        let errors = String(decoding: try folder.bytes("errors"), as: UTF8.self)
        #expect(errors.contains("type the same command again"))
    }

    static let commandLines: [(String, Int32)] = [
        ("compress", 2),
        ("compress /nonexistent -o /tmp/none", 4),
        ("compress /tmp -o /tmp/none --threads 0", 2),
        ("compress /tmp -o /tmp/none --shard-bytes many", 2),
        ("compress --help", 0),
        ("nonsense", 2),
        ("verify /nonexistent", 4),
        ("--version", 0),
        ("--help", 0),
        ("bench codec --batch 65", 2),
        ("bench codec --batch 1,", 2),
        ("bench kernels --isa mmx", 2),
        ("bench kernels --seconds 0", 2),
        ("bench queue --workers 0", 2),
        ("bench queue --shards 10,0", 2),
        ("jobs", 2),
        ("jobs --coordinator nonsense", 2),
        ("status x", 2),
    ]

    @Test(arguments: commandLines)
    func exitCodesAreAsDocumented(commandLine: String, status: Int32) throws {
        let process = try flowpack.start(
            commandLine.split(separator: " ").map(String.init),
            output: folder.url("output"),
            errors: folder.url("errors")
        )
        process.waitUntilExit()
        #expect(process.terminationStatus == status)
    }

    @Test func anInstructionSetThatIsNoneIsRefused() throws {
        try makeSource(folder)

        let ending = try flowpack.run(
            "compress",
            path("source"),
            "-o",
            path("out"),
            environment: ["FLOWPACK_ISA": "mmx"]
        )

        #expect(ending.status == 2)
        #expect(ending.errors.contains("available: reference"))
    }

    @Test func everyInstructionSetPassesTheSelftest() throws {
        let ending = try flowpack.run("selftest")
        #expect(ending.status == 0, "\(ending.text)\(ending.errors)")
        #expect(ending.text.contains("kernels reference"))
        #expect(ending.text.contains("model fast"))
    }

    @Test func theKernelBenchmarkPrintsItsRowsAsJSON() throws {
        struct Report: Decodable {
            struct Row: Decodable {
                let shape: String
                let isa: String
                let threads: Int
                let gmacsPerSecond: Double
                let shareOfPeak: Double?
            }

            let rows: [Row]
        }

        let ending = try flowpack.run(
            "bench",
            "kernels",
            "--isa=reference,sse41",
            "--seconds=0.001",
            "--json"
        )

        #expect(ending.text.contains("\"share_of_peak\" : null"))
        let rows = try snakeCase.decode(Report.self, from: Data(ending.output)).rows
        #expect(Set(rows.map(\.isa)) == ["reference", "sse41"])
        #expect(rows.contains { $0.shape == "3x3 64→64 16×16×16" })
        #expect(rows.contains { $0.shape == "3x3 48→6 16×32×32 last" })
        #expect(rows.allSatisfy { $0.gmacsPerSecond > 0 && $0.threads == 1 })
        #expect(rows.allSatisfy { ($0.shareOfPeak == nil) == ($0.isa == "reference") })
    }

    struct CodecReport: Decodable {
        struct Row: Decodable {
            let stage: String
            let profile: String
            let isa: String
            let threads: Int
            let batch: Int
            let bitsPerDimension: Double
            let megabytesPerSecond: Double
            let shareOfKernelPeak: Double?
        }

        let rows: [Row]
    }

    private func benchCodec(_ arguments: String) throws -> [CodecReport.Row] {
        let words = "bench codec --size 16 --seconds 0.001 --json \(arguments)"
        let ending = try flowpack.run(words.split(separator: " ").map(String.init))
        #expect(ending.status == 0, "\(ending.errors)")
        return try snakeCase.decode(CodecReport.self, from: Data(ending.output)).rows
    }

    @Test func theCodecBenchmarkHasARowForEveryStageBatchAndNumberOfThreads() throws {
        let rows = try benchCodec("--profile fast --threads 1,2 --batch 1,3 --isa sse41")

        let stages = Set(rows.map(\.stage))
        #expect(stages.isSuperset(of: ["forward", "rans_decode", "encode_and_verify"]))
        #expect(rows.count == stages.count * 4)
        #expect(Set(rows.map { [$0.threads, $0.batch] }) == [[1, 1], [1, 3], [2, 1], [2, 3]])
        #expect(rows.allSatisfy { $0.profile == "fast" && $0.isa == "sse41" })
        #expect(rows.allSatisfy { $0.megabytesPerSecond > 0 })
        #expect(
            rows.allSatisfy {
                ($0.shareOfKernelPeak != nil) == ["forward", "inverse"].contains($0.stage)
            }
        )
    }

    @Test func theQueueBenchmarkCompletesEveryShardOnce() throws {
        struct Report: Decodable {
            struct Row: Decodable {
                let shards: Int
                let workers: Int
                let phase: String
                let operation: String
                let count: Int
                let perSecond: Double
                let p50Ms: Double
                let p95Ms: Double
                let p99Ms: Double
                let maxMs: Double
                let coordinatorProcessorShare: Double
                let coordinatorProcessorMsPerRequest: Double?
                let coordinatorPeakMegabytes: Double
                let clientProcessorShare: Double
            }

            let rows: [Row]
        }

        let words = "bench queue --workers 3 --shards 6 --samples 2 --seconds 3 --json"
        let ending = try flowpack.run(words.split(separator: " ").map(String.init))

        #expect(ending.status == 0, "\(ending.errors)")
        let rows = try snakeCase.decode(Report.self, from: Data(ending.output)).rows
        func count(_ operation: String, _ phases: String...) -> Int {
            rows.filter { $0.operation == operation && phases.contains($0.phase) }
                .reduce(0) { $0 + $1.count }
        }
        #expect(count("register", "enrol") == 3)
        #expect(count("lease", "enrol") == 3)
        #expect(count("complete", "paced", "flat_out") == 6)
        #expect(count("lease", "restart") == 1)
        #expect(count("fdatasync", "paced") > 0)
        #expect(rows.allSatisfy { $0.shards == 6 && $0.workers == 3 && $0.perSecond > 0 })
        #expect(
            rows.allSatisfy {
                0 < $0.p50Ms && $0.p50Ms <= $0.p95Ms && $0.p95Ms <= $0.p99Ms
                    && $0.p99Ms <= $0.maxMs
            }
        )
        #expect(rows.allSatisfy { $0.coordinatorPeakMegabytes > 1 })
    }

    @Test func anInterruptedQueueBenchmarkSaysSoAndLeavesNothing() async throws {
        let temporary = try Folder()
        let benchmark = try flowpack.start(
            "bench queue --workers 3 --shards 6 --samples 2 --seconds 60"
                .split(separator: " ").map(String.init),
            environment: ["TMPDIR": temporary.path],
            output: folder.url("output"),
            errors: folder.url("errors")
        )
        func isListening() throws -> Bool {
            try temporary.files().contains { name in
                try name.hasSuffix("/log")
                    && String(decoding: temporary.bytes(name), as: UTF8.self).contains("listening")
            }
        }
        while benchmark.isRunning, try !isListening() { usleep(10_000) }
        usleep(300_000)
        benchmark.terminate()
        benchmark.waitUntilExit()

        #expect(benchmark.terminationReason == .exit && benchmark.terminationStatus == 130)
        #expect(
            String(decoding: try folder.bytes("errors"), as: UTF8.self).contains("interrupted")
        )
        #expect(try temporary.files() == [])
    }

    @Test func theCodecBenchmarkTakesTheTilesOfAFolder() throws {
        try folder.write(picture(40, 20, seed: 1), "source/a.ppm")
        try folder.write(picture(16, 16, seed: 2), "source/b.ppm")
        try folder.write("no image".utf8, "source/c.txt")

        let arguments = "--stage encode --images \(path("source"))"
        #expect(try benchCodec("\(arguments) --batch 3").count == 1)
        let ending = try flowpack.run(
            "bench codec --size 16 --batch 4 \(arguments)".split(separator: " ").map(String.init)
        )
        #expect(ending.status == 1)
        #expect(ending.errors.contains("fewer than 4"))
    }
}

struct WorkerProgramTests {
    @Test func aGPUIsRefusedClearly() throws {
        let ending = try Program("flowpack-worker").run(
            "--coordinator",
            "http://127.0.0.1:1",
            "--device",
            "cuda"
        )
        #expect(ending.status == 2)
        #expect(ending.errors.contains("CPUs only"))
    }
}
