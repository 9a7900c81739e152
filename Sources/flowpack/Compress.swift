import Archive
import ArgumentParser
import Foundation
import JobProtocol
import S3
import Worker

struct Compress: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compresses a folder into a dataset, on this machine.",
        discussion: """
            Every file of the folder is in the dataset: 8-bit RGB images by the model where that \
            is smaller, everything else as it is. Nothing is kept that was not decoded and \
            compared first. Interrupted or killed, the same command goes on where it was. A source \
            in S3 needs a key, from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or \
            ~/.aws/credentials.

            EXIT CODES: 0 ok · 3 another process works on OUT · 4 not found · \
            7 finished, with problems that are named · 10 no space · 130 interrupted
            """
    )

    @Argument(help: "Folder of images, or s3://bucket/prefix.", completion: .directory)
    var source: [String]

    @Option(name: [.short, .customLong("output")], help: "Folder of the new dataset.")
    var output: String

    @Option(help: "Profile or model file.")
    var model = "fast"

    @OptionGroup var threads: ThreadOptions

    @Option(help: "Source bytes of a shard, such as 64MiB.")
    var shardBytes = ByteSize(bytes: Limits.shardBytes)

    @Option(help: "URL of the S3 service (default: AWS_ENDPOINT_URL, else AWS's own).")
    var s3Endpoint: String?

    @OptionGroup var display: OutputOptions

    func validate() throws {
        guard source.count == 1 else {
            throw ValidationError(
                "This version makes a dataset of one folder. Put the sources into one, or run it once for each."
            )
        }
        if S3Location(output) != nil {
            throw ValidationError(
                "compress writes into a folder; flowpack submit -o \(output) writes to S3, and aws s3 cp --recursive copies a folder there."
            )
        }
    }

    /// The service of a source in S3; nil for a folder.
    private func s3() throws -> S3Client? {
        guard S3Location(absolutePlace(source[0])) != nil else { return nil }
        return S3Client(try S3Configuration(endpoint: s3Endpoint))
    }

    func run() async throws {
        let job = LocalJob(
            source: absolutePlace(source[0]),
            s3: try s3(),
            output: absolutePath(output),
            model: model,
            threads: threads.count,
            shardBytes: shardBytes.bytes
        )
        let progress = ProgressDisplay(display.style)
        let result: LocalJob.Result
        do {
            result = try await withStopSignals { try await job.run(progress) }
        } catch is CancellationError {
            throw CommandFailure(
                .interrupted,
                "interrupted; what is finished is kept.",
                next: "type the same command again to go on"
            )
        }
        let summary = DatasetSummary(
            result.manifest,
            modelBytes: result.modelBytes,
            seconds: result.seconds,
            sourceBytesBefore: result.sourceBytesBefore,
            memory: try MemoryUse(shardBytes: Int(shardBytes.bytes), threads: threads.count)
        )
        if display.json {
            Console.print(json: summary)
        } else {
            summary.printTable()
            summary.printProblems()
        }
        if !summary.problems.isEmpty { throw ExitStatus.finishedWithProblems.code }
    }
}

/// The memory of a run of `compress`.
struct MemoryUse {
    /// What the program takes before it has work: its code, the model, the queue's database.
    private static let programBytes = 64 << 20

    /// The most that it may take, in bytes; see `ShardEncoder.memoryBound`.
    let boundBytes: Int
    /// The most that this process had resident so far, in bytes.
    let peakBytes: Int

    /// - Parameters:
    ///   - shardBytes: Source bytes at which a shard is full.
    ///   - threads: Threads that code.
    /// - Throws: When this process cannot be looked up.
    init(shardBytes: Int, threads: Int) throws {
        boundBytes =
            Self.programBytes
            + ShardEncoder.memoryBound(sourceBytes: shardBytes, threads: threads)
        peakBytes = try peakMemoryBytes()
    }
}

/// What a dataset holds and what it took, for people and as JSON.
struct DatasetSummary: Encodable {
    let samples: Int
    let flowSamples: Int
    let storedSamples: Int
    let missingSamples: Int
    /// Why samples are not coded by the model, and how many for each reason.
    let storedReasons: [String: Int]
    let shards: Int
    let sourceBytes: Int64
    /// Bytes of all shards.
    let outputBytes: Int64
    let modelBytes: Int
    /// Source bytes per output byte.
    let ratio: Double?
    /// 8-bit samples coded by the model: pixels × 3.
    let flowDimensions: Int64
    /// Bytes of the shards without stored files: what the images coded by the model take.
    let flowBytes: Int64
    let bitsPerDimension: Double?
    let seconds: Double?
    /// 10^6 samples of images coded by the model, per second, encoding and verifying.
    let pixelMegabytesPerSecond: Double?
    let memoryBoundBytes: Int?
    let peakMemoryBytes: Int?
    let model: String
    let datasetDigest: String
    let problems: [SampleProblem]

    /// Most problems that are printed; the others are in the manifest and in JSON.
    static let printedProblems = 20

    enum CodingKeys: String, CodingKey {
        case samples, shards, ratio, seconds, model, problems
        case flowSamples = "flow_samples"
        case storedSamples = "stored_samples"
        case missingSamples = "missing_samples"
        case storedReasons = "stored_reasons"
        case sourceBytes = "source_bytes"
        case outputBytes = "output_bytes"
        case modelBytes = "model_bytes"
        case flowDimensions = "flow_dimensions"
        case flowBytes = "flow_bytes"
        case bitsPerDimension = "bits_per_dimension"
        case pixelMegabytesPerSecond = "pixel_megabytes_per_second"
        case memoryBoundBytes = "memory_bound_bytes"
        case peakMemoryBytes = "peak_memory_bytes"
        case datasetDigest = "dataset_digest"
    }

    /// - Parameters:
    ///   - manifest: The dataset's.
    ///   - modelBytes: Size of the model file.
    ///   - seconds: Time that the run took; nil for a dataset that was only opened.
    ///   - sourceBytesBefore: Source bytes that an earlier run had done.
    ///   - memory: What the run took; nil as `seconds`.
    init(
        _ manifest: DatasetManifest,
        modelBytes: Int,
        seconds: Double? = nil,
        sourceBytesBefore: Int64 = 0,
        memory: MemoryUse? = nil
    ) {
        let content = manifest.totals.content
        samples = content.samples
        flowSamples = content.flowSamples
        storedSamples = content.storedSamples
        missingSamples = content.samples - content.flowSamples - content.storedSamples
        storedReasons = content.storedReasons
        shards = manifest.shards.count
        sourceBytes = content.sourceBytes
        outputBytes = manifest.totals.outputBytes
        self.modelBytes = modelBytes
        ratio = outputBytes > 0 ? Double(sourceBytes) / Double(outputBytes) : nil
        flowDimensions = content.flowDimensions
        flowBytes = content.flowBytes
        bitsPerDimension =
            flowDimensions > 0 ? 8 * Double(flowBytes) / Double(flowDimensions) : nil
        self.seconds = seconds
        let done =
            sourceBytes > 0 ? Double(sourceBytes - sourceBytesBefore) / Double(sourceBytes) : 0
        let pixelBytes = Double(content.flowDimensions) * done
        pixelMegabytesPerSecond = seconds.map { pixelBytes / max($0, 1e-9) / 1e6 }
        memoryBoundBytes = memory?.boundBytes
        peakMemoryBytes = memory?.peakBytes
        model = manifest.modelID
        datasetDigest = manifest.datasetDigest
        problems = manifest.problems
    }

    func printTable() {
        var modes = "\(flowSamples) flow, \(storedSamples) stored"
        if missingSamples > 0 { modes += ", \(missingSamples) missing" }
        let reasons = storedReasons.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        var rows = [["samples", "\(samples) (\(modes))"]]
        if !reasons.isEmpty {
            rows.append(["stored", reasons.map { "\($0.value) \($0.key)" }.joined(separator: ", ")])
        }
        rows += [
            ["source", byteCount(Int(sourceBytes))],
            [
                "output",
                "\(byteCount(Int(outputBytes))) in \(shards) \(shards == 1 ? "shard" : "shards"), and the model, \(byteCount(modelBytes))",
            ],
        ]
        if let ratio { rows.append(["ratio", decimals(ratio, 3)]) }
        if let bitsPerDimension {
            rows.append(["bits per dimension", decimals(bitsPerDimension, 4)])
        }
        if let seconds { rows.append(["time", duration(seconds)]) }
        if let rate = pixelMegabytesPerSecond {
            rows.append(["pixels", "\(decimals(rate, 2)) MB/s, encoded and verified"])
        }
        if let peakMemoryBytes { rows.append(["memory", "\(byteCount(peakMemoryBytes)) at most"]) }
        rows += [["model", model], ["dataset", datasetDigest]]
        Console.table(rows)
    }

    func printProblems() {
        guard !problems.isEmpty else { return }
        Console.error("\(problems.count) \(problems.count == 1 ? "problem" : "problems"):")
        for problem in problems.prefix(Self.printedProblems) {
            Console.error("  \(problem.name): \(problem.reason)")
        }
        if problems.count > Self.printedProblems {
            Console.error("  … and \(problems.count - Self.printedProblems) more in manifest.json")
        }
    }
}
