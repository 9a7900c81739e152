import Archive
import ArgumentParser
import Flow
import Foundation
import JobProtocol
import Kernels
import Raster
import S3
import Synchronization
import Worker

/// A finished dataset, with the codec that reads it.
struct OpenDataset {
    let reader: DatasetReader
    let model: ModelStore.Loaded
    let modelBytes: Int

    init(_ path: String) throws {
        if let location = S3Location(path) {
            throw CommandFailure(
                .usage,
                "\(location) lies in S3; datasets are read from folders.",
                next: "aws s3 cp --recursive \(location) DIR"
            )
        }
        let folder = absolutePath(path)
        let files = FileManager.default
        guard files.fileExists(atPath: folder) else {
            throw CommandFailure(.notFound, "There is no dataset \(folder).")
        }
        if !files.fileExists(atPath: "\(folder)/\(DatasetLayout.manifestFile)") {
            let isUnfinished = files.fileExists(atPath: "\(folder)/\(LocalJob.stateFolder)")
            throw CommandFailure(
                .notFound,
                isUnfinished
                    ? "\(folder) is an unfinished dataset."
                    : "\(folder) is no dataset: it has no manifest.",
                next: isUnfinished ? "type the compress command again to finish it" : nil
            )
        }
        let instructionSet = try InstructionSet.selected(
            environment: ProcessInfo.processInfo.environment
        )
        reader = try DatasetReader(folder: folder)
        let bytes = try reader.model()
        modelBytes = bytes.count
        model = try ModelStore(instructionSet: instructionSet)
            .load(bytes, path: "\(folder)/\(reader.manifest.modelFile)")
    }

    /// Runs work on every shard in order, on a number of threads, and shows how far it is.
    ///
    /// A shard that cannot be opened goes to `unreadable`, and the others follow.
    func forEachShard(
        _ threads: Int,
        _ progress: ProgressDisplay,
        unreadable: (_ shard: DatasetManifest.Shard, ArchiveError) -> Void,
        _ body: @escaping @Sendable (DatasetManifest.Shard, ShardDecoder) async throws -> Void
    ) async throws {
        let pool = ComputePool(threads: threads)
        let totals = reader.manifest.totals
        var snapshot = ProgressSnapshot(
            imagesTotal: totals.content.samples,
            sourceBytesTotal: Int(totals.outputBytes),
            workers: 1,
            isPlanComplete: true
        )
        progress.update(snapshot)
        for shard in reader.manifest.shards {
            do {
                let decoder = try ShardDecoder(
                    reader: try reader.shard(shard.ordinal),
                    codec: model.codec
                )
                try await withTaskExecutorPreference(pool) { try await body(shard, decoder) }
            } catch let error as ArchiveError {
                unreadable(shard, error)
            }
            snapshot.images += shard.samples
            snapshot.sourceBytes += Int(shard.bytes)
            progress.update(snapshot)
        }
        progress.finish(snapshot)
    }
}

/// What verifying or restoring found, for people and as JSON.
struct ReadingSummary: Encodable {
    var samples = 0
    var missing: [SampleProblem] = []
    var failures: [SampleProblem] = []
    /// Of the images coded by the model: pixels × 3.
    var pixelBytes = 0
    /// Of the files as they were.
    var sourceBytes = 0
    var seconds = 0.0
    var pixelMegabytesPerSecond: Double { Double(pixelBytes) / max(seconds, 1e-9) / 1e6 }

    enum CodingKeys: String, CodingKey {
        case samples, missing, failures, seconds
        case pixelBytes = "pixel_bytes"
        case sourceBytes = "source_bytes"
        case pixelMegabytesPerSecond = "pixel_megabytes_per_second"
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(samples, forKey: .samples)
        try container.encode(missing, forKey: .missing)
        try container.encode(failures, forKey: .failures)
        try container.encode(pixelBytes, forKey: .pixelBytes)
        try container.encode(sourceBytes, forKey: .sourceBytes)
        try container.encode(seconds, forKey: .seconds)
        try container.encode(pixelMegabytesPerSecond, forKey: .pixelMegabytesPerSecond)
    }

    /// Counts the samples of a shard that were read.
    mutating func count(_ record: SampleRecord) {
        samples += 1
        sourceBytes += record.sourceBytes
        pixelBytes += 3 * record.width * record.height
        if record.mode == .missing {
            missing.append(SampleProblem(name: record.name, reason: record.reason))
        }
    }

    /// Says how it went and ends the command: 8 for failures, `statusOfMissing` for missing samples.
    func report(_ verb: String, json: Bool, statusOfMissing: ExitStatus?) throws {
        if json {
            Console.print(json: self)
        } else {
            Console.print(
                "\(verb) \(samples) samples in \(duration(seconds)), \(decimals(pixelMegabytesPerSecond, 2)) MB/s of pixels"
            )
            Self.printNamed("not in the dataset, since the source could not be read", missing)
            Self.printNamed("damaged", failures)
        }
        if !failures.isEmpty { throw ExitStatus.integrityFailure.code }
        if !missing.isEmpty, let statusOfMissing { throw statusOfMissing.code }
    }

    private static func printNamed(_ title: String, _ problems: [SampleProblem]) {
        guard !problems.isEmpty else { return }
        Console.error("\(problems.count) \(title):")
        for problem in problems.prefix(DatasetSummary.printedProblems) {
            Console.error("  \(problem.name): \(problem.reason)")
        }
        if problems.count > DatasetSummary.printedProblems {
            Console.error(
                "  … and \(problems.count - DatasetSummary.printedProblems) more; see --json"
            )
        }
    }
}

struct Verify: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Decodes a whole dataset and checks every digest.",
        discussion: "EXIT CODES: 0 sound · 4 not found · 8 any mismatch, each named"
    )

    @Argument(help: "Folder of the dataset.", completion: .directory)
    var dataset: String

    @OptionGroup var threads: ThreadOptions
    @OptionGroup var display: OutputOptions

    func run() async throws {
        let dataset = try OpenDataset(dataset)
        let threads = threads.count
        let display = display
        try await withStopSignals {
            let start = monotonicSeconds()
            let summary = Mutex(ReadingSummary())
            try await dataset.forEachShard(threads, ProgressDisplay(display.style)) {
                shard,
                error in
                summary.withLock {
                    $0.failures.append(SampleProblem(name: shard.file, reason: "\(error)"))
                }
            } _: { shard, decoder in
                let damage = damage(of: decoder.reader, sha256: shard.sha256)
                let failures = try await decoder.verify(threads: threads)
                summary.withLock { summary in
                    if let damage {
                        summary.failures.append(SampleProblem(name: shard.file, reason: damage))
                    }
                    for (number, sample) in decoder.reader.samples.enumerated() {
                        summary.count(sample)
                        if let error = failures[number] {
                            summary.failures.append(
                                SampleProblem(name: sample.name, reason: "\(error)")
                            )
                        }
                    }
                }
            }
            var result = summary.withLock(\.self)
            result.seconds = monotonicSeconds() - start
            try result.report("verified", json: display.json, statusOfMissing: nil)
        }
    }

    /// What the digests of a whole shard file say, the footer's and the manifest's; nil if right.
    private func damage(of shard: ShardReader, sha256: String) -> String? {
        do throws(ArchiveError) {
            let isRight = try shard.checkDigest().hex == sha256
            return isRight ? nil : "its SHA-256 is not the manifest's"
        } catch {
            return error.description
        }
    }
}

struct Extract: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Restores the files of a dataset.",
        discussion: """
            Images coded by the model come back with the same pixels and metadata, everything else \
            byte by byte. A file that is there already is replaced; nothing is written outside DIR.

            EXIT CODES: 0 ok · 4 not found · 7 the dataset lacks samples that could not be read · \
            8 damaged samples, each named; all others are restored · 10 no space
            """
    )

    @Argument(help: "Folder of the dataset.", completion: .directory)
    var dataset: String

    @Option(name: [.short, .customLong("output")], help: "Folder to restore into.")
    var output: String

    @Option(help: "Restore only names that match, such as 'cats/*.png'.")
    var only: String?

    @OptionGroup var threads: ThreadOptions
    @OptionGroup var display: OutputOptions

    func run() async throws {
        let dataset = try OpenDataset(dataset)
        let folder = try OutputFolder(path: absolutePath(output))
        let pattern = only.map { Glob($0) }
        let threads = threads.count
        let display = display
        try await withStopSignals {
            let start = monotonicSeconds()
            let summary = Mutex(ReadingSummary())
            try await dataset.forEachShard(threads, ProgressDisplay(display.style)) {
                shard,
                error in
                summary.withLock {
                    $0.failures.append(SampleProblem(name: shard.file, reason: "\(error)"))
                }
            } _: { _, decoder in
                let samples = decoder.reader.samples
                let wanted = samples.map { pattern?.matches($0.name) ?? true }
                summary.withLock { summary in
                    for (sample, isWanted) in zip(samples, wanted) where isWanted {
                        summary.count(sample)
                    }
                }
                try await decoder.restore(threads: threads, where: { wanted[$0] }) { number, file in
                    let name = samples[number].name
                    switch file {
                    case .success(let bytes):
                        try folder.write(bytes, name: name)
                    case .failure(let error):
                        summary.withLock {
                            $0.failures.append(SampleProblem(name: name, reason: "\(error)"))
                        }
                    }
                }
            }
            var result = summary.withLock(\.self)
            result.seconds = monotonicSeconds() - start
            if result.samples == 0, let only, result.failures.isEmpty {
                throw CommandFailure(
                    .notFound,
                    "No sample matches \"\(only)\".",
                    next: "flowpack ls \(self.dataset)"
                )
            }
            try result.report(
                "restored",
                json: display.json,
                statusOfMissing: .finishedWithProblems
            )
        }
    }
}

struct Info: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Tells what a dataset or a shard file holds."
    )

    @Argument(help: "Folder of the dataset, or a file NAME.fpk.")
    var path: String

    @Flag(help: "Print the result as JSON.")
    var json = false

    func run() async throws {
        if path.hasSuffix(".fpk") {
            try printShard()
        } else {
            let dataset = try OpenDataset(path)
            let summary = DatasetSummary(dataset.reader.manifest, modelBytes: dataset.modelBytes)
            if json {
                Console.print(json: summary)
            } else {
                summary.printTable()
                Console.table([
                    ["profile", dataset.model.model.profile],
                    ["MACs per byte", decimals(dataset.model.model.macsPerByte, 0)],
                ])
                summary.printProblems()
            }
        }
    }

    private struct ShardInfo: Encodable {
        let samples: Int
        let flowSamples: Int
        let storedSamples: Int
        let blocks: Int
        let sourceBytes: Int
        let bytes: Int
        let model: String

        enum CodingKeys: String, CodingKey {
            case samples, blocks, bytes, model
            case flowSamples = "flow_samples"
            case storedSamples = "stored_samples"
            case sourceBytes = "source_bytes"
        }
    }

    private func printShard() throws {
        let path = absolutePath(path)
        let reader = try ShardReader(path: path, name: path)
        let summary = ShardSummary(reader)
        let info = ShardInfo(
            samples: summary.samples,
            flowSamples: summary.flowSamples,
            storedSamples: summary.storedSamples,
            blocks: reader.blocks.count,
            sourceBytes: summary.sourceBytes,
            bytes: reader.byteCount,
            model: reader.modelID.hex
        )
        if json {
            Console.print(json: info)
        } else {
            Console.table([
                [
                    "samples",
                    "\(info.samples) (\(info.flowSamples) flow, \(info.storedSamples) stored)",
                ],
                ["blocks", "\(info.blocks)"], ["source", byteCount(info.sourceBytes)],
                ["shard", byteCount(info.bytes)], ["model", info.model],
            ])
        }
    }
}

struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls",
        abstract: "Lists the samples of a dataset in their order."
    )

    @Argument(help: "Folder of the dataset.", completion: .directory)
    var dataset: String

    @Option(help: "List only names that match, such as 'cats/*.png'.")
    var only: String?

    @Flag(help: "Print an array of objects instead of names.")
    var json = false

    private struct Entry: Encodable {
        let name: String
        let mode: String
        let format: String?
        let bytes: Int
        let width: Int?
        let height: Int?
        let reason: String?
    }

    func run() async throws {
        let reader = try OpenDataset(dataset).reader
        let pattern = only.map { Glob($0) }
        var entries: [Entry] = []
        for number in reader.manifest.shards.indices {
            for sample in try reader.shard(number).samples
            where pattern?.matches(sample.name) ?? true {
                if json {
                    entries.append(
                        Entry(
                            name: sample.name,
                            mode: "\(sample.mode)",
                            format: sample.format?.rawValue,
                            bytes: sample.sourceBytes,
                            width: sample.mode == .flow ? sample.width : nil,
                            height: sample.mode == .flow ? sample.height : nil,
                            reason: sample.reason.isEmpty ? nil : sample.reason
                        )
                    )
                } else {
                    Console.print(sample.name)
                }
            }
        }
        if json { Console.print(json: entries) }
    }
}

struct Concatenate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cat",
        abstract: "Writes one sample of a dataset to stdout."
    )

    @Argument(help: "Folder of the dataset.", completion: .directory)
    var dataset: String

    @Argument(help: "Name of the sample, as flowpack ls prints it.")
    var name: String

    func run() async throws {
        let dataset = try OpenDataset(dataset)
        for number in dataset.reader.manifest.shards.indices {
            let shard = try dataset.reader.shard(number)
            guard let sample = shard.sample(named: name) else { continue }
            let decoder = try ShardDecoder(reader: shard, codec: dataset.model.codec)
            guard let bytes = try decoder.file(at: sample) else {
                throw CommandFailure(
                    .notFound,
                    "\(name) could not be read when the dataset was made: \(shard.samples[sample].reason)"
                )
            }
            try FileHandle.standardOutput.write(contentsOf: Data(bytes))
            return
        }
        throw CommandFailure(
            .notFound,
            "There is no sample \"\(name)\".",
            next: "flowpack ls \(self.dataset)"
        )
    }
}
