import Archive
import Coordinator
import CrashPoints
import Foundation
import JobProtocol
import Kernels
import Logging
import S3
import Synchronization
import Worker

/// A job from start to end in this process: coordinator, worker and their state in OUT/.flowpack.
struct LocalJob: Sendable {
    struct Result: Sendable {
        let manifest: DatasetManifest
        let modelBytes: Int
        /// Of this run.
        let seconds: Double
        /// Source bytes that earlier runs had done.
        let sourceBytesBefore: Int64
    }

    /// Folder in OUT that holds the state of an unfinished job; removed at the end.
    static let stateFolder = ".flowpack"
    /// Pause between two looks at the job.
    private static let pollInterval = Duration.milliseconds(100)
    /// Pause between two heartbeats: they carry the progress that is shown.
    private static let heartbeatSeconds = 1

    /// Absolute path, or place in S3.
    let source: String
    /// The service of a source in S3.
    let s3: S3Client?
    let output: String
    /// Profile or file.
    let model: String
    let threads: Int
    let shardBytes: Int64

    private var state: String { "\(output)/\(Self.stateFolder)" }
    /// Where the state lies while it is removed: half a state must not pass for one.
    private var doomedState: String { "\(output)/\(DatasetLayout.partialPrefix)state" }

    func run(_ progress: ProgressDisplay) async throws -> Result {
        let instructionSet = try InstructionSet.selected(
            environment: ProcessInfo.processInfo.environment
        )
        try checkFolders()
        let modelPath = try ModelStore.path(ofModel: model)
        let modelBytes = try ModelStore.read(modelPath)
        let models = ModelStore(instructionSet: instructionSet)
        let modelID = try models.load(modelBytes, path: modelPath).id

        let result = try await runJob(modelID, modelBytes, models, progress)
        try removeLeftovers(result.manifest)
        return result
    }

    // MARK: - The folders

    private func checkFolders() throws {
        if s3 == nil { try checkSource() }
        try checkOutput()
    }

    private func checkSource() throws {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: source, isDirectory: &isFolder) else {
            throw CommandFailure(.notFound, "There is no folder \(source).")
        }
        guard isFolder.boolValue else {
            throw CommandFailure(
                .error,
                "\(source) is a file; a dataset is made of a folder.",
                next: "put it into a folder of its own"
            )
        }
        guard !"\(output)/".hasPrefix("\(source)/"), !"\(source)/".hasPrefix("\(output)/") else {
            throw CommandFailure(
                .usage,
                "\(source) and \(output) lie in each other.",
                next: "choose an output folder outside the source"
            )
        }
    }

    private func checkOutput() throws {
        try OutputFolder.makeFolders(output)
        let entries: [String]
        do {
            entries = try FileManager.default.contentsOfDirectory(atPath: output)
        } catch {
            throw CommandFailure(
                .error,
                "cannot list \(output): \(error.localizedDescription)",
                next: "choose a folder that you may write to"
            )
        }
        if entries.isEmpty || entries.contains(Self.stateFolder) { return }
        if entries.contains(DatasetLayout.manifestFile) {
            // There when the run that finished it was ended in its last moment.
            try? FileManager.default.removeItem(atPath: doomedState)
            throw CommandFailure(
                .error,
                "\(output) holds a finished dataset.",
                next: "flowpack verify \(output), or choose another output folder"
            )
        }
        throw CommandFailure(
            .error,
            "\(output) is not empty, and what is in it is not an unfinished dataset.",
            next: "choose an empty or new folder"
        )
    }

    /// Removes what no finished dataset holds: the job's state, and shards of an earlier try that
    /// the manifest does not name.
    private func removeLeftovers(_ manifest: DatasetManifest) throws {
        let files = FileManager.default
        let shardFolder = "\(output)/\(DatasetLayout.shardFolder)"
        let kept = Set(manifest.shards.map { String($0.file.split(separator: "/").last ?? "") })
        for name in (try? files.contentsOfDirectory(atPath: shardFolder)) ?? []
        where !kept.contains(name) {
            try files.removeItem(atPath: "\(shardFolder)/\(name)")
        }
        for name in try files.contentsOfDirectory(atPath: output)
        where name.hasPrefix(DatasetLayout.partialPrefix) || isOtherModel(name, manifest.modelFile)
        {
            try files.removeItem(atPath: "\(output)/\(name)")
        }
        CrashPoint.reached(.beforeStateRemoval)
        try files.moveItem(atPath: state, toPath: doomedState)
        CrashPoint.reached(.duringStateRemoval)
        try files.removeItem(atPath: doomedState)
        try syncFolder(output)
    }

    private func isOtherModel(_ name: String, _ modelFile: String) -> Bool {
        name != modelFile && name.hasPrefix("model-") && name.hasSuffix(".safetensors")
    }

    // MARK: - The job

    /// What the worker said when the output's device was full.
    private final class NoSpace: Sendable {
        let message = Mutex<String?>(nil)
    }

    private func runJob(
        _ modelID: String,
        _ modelBytes: [UInt8],
        _ models: ModelStore,
        _ progress: ProgressDisplay
    ) async throws -> Result {
        var logger = Logger(label: "flowpack") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = .critical
        let coordinator = try LocalCoordinator(
            folder: state,
            workersSurvived: false,
            s3: s3,
            logger: logger
        )
        try await dismissEarlierWorkers(of: coordinator)
        let (job, before) = try await submit(to: coordinator, modelID, modelBytes)

        let start = monotonicSeconds()
        let noSpace = NoSpace()
        var generator = SystemRandomNumberGenerator()
        let worker = Worker(
            configuration: .init(
                worker: .random(using: &generator),
                slots: threads,
                host: ProcessInfo.processInfo.hostName,
                version: flowpackVersion,
                heartbeatSeconds: Self.heartbeatSeconds,
                onFailure: { error in
                    if error.isNoSpace { noSpace.message.withLock { $0 = error.message } }
                }
            ),
            models: models,
            api: coordinator,
            logger: logger
        )

        let end = try await withThrowingTaskGroup(of: JobStatus?.self) { group in
            group.addTask {
                try await coordinator.run()
                return nil
            }
            group.addTask {
                try await worker.run()
                return nil
            }
            group.addTask {
                let status = try await watch(job, of: coordinator, progress) {
                    if let message = noSpace.message.withLock({ $0 }) {
                        throw CommandFailure(
                            .noSpace,
                            message,
                            next: "free space, then type the same command again"
                        )
                    }
                }
                worker.drain()
                return status
            }
            // The watcher returns the end; an error of any of them ends all.
            while let status = try await group.next() {
                guard let status else { continue }
                group.cancelAll()
                return status
            }
            throw CancellationError()
        }
        guard end.state == .completed || end.state == .completedWithFallbacks else {
            throw CommandFailure(
                .error,
                "The job failed: \(end.failure ?? end.state.rawValue)",
                next: "mend the cause, then type the same command again"
            )
        }
        return Result(
            manifest: try DatasetReader(folder: output).manifest,
            modelBytes: modelBytes.count,
            seconds: monotonicSeconds() - start,
            sourceBytesBefore: before
        )
    }

    /// Only one process has the lock, so workers of an earlier run are dead: they leave the list.
    private func dismissEarlierWorkers(of coordinator: LocalCoordinator) async throws {
        for worker in try await coordinator.workers().workers where worker.state != .gone {
            let goodbye = Heartbeat(worker: worker.worker, isLeaving: true)
            _ = try coordinator.heartbeat(goodbye)
        }
    }

    /// The unfinished job of an earlier run, or a new one.
    ///
    /// - Returns: The job, and the source bytes that are done already.
    private func submit(
        to coordinator: LocalCoordinator,
        _ modelID: String,
        _ modelBytes: [UInt8]
    ) async throws -> (JobID, sourceBytesBefore: Int64) {
        let earlier = try await coordinator.jobs().jobs.last { job in
            switch job.state {
            case .failed, .cancelled: false
            default: true
            }
        }
        if let earlier {
            guard earlier.source == source, earlier.modelID == modelID else {
                throw CommandFailure(
                    .error,
                    "\(output) holds an unfinished dataset of \(earlier.source) with the model \(earlier.modelID.prefix(16)).",
                    next: "type the command that began it, or choose another output folder"
                )
            }
            return (earlier.job, earlier.committed.sourceBytes)
        }
        _ = try placeFile(modelBytes, name: DatasetLayout.modelFile(id: modelID), in: output)
        let reply = try await coordinator.submit(
            SubmitRequest(
                source: source,
                destination: output,
                modelID: modelID,
                shardBytes: shardBytes
            )
        )
        return (reply.job, 0)
    }

    /// Shows the job's progress until it ends; `check` is called at every look and may end it.
    private func watch(
        _ job: JobID,
        of coordinator: LocalCoordinator,
        _ progress: ProgressDisplay,
        check: () throws -> Void
    ) async throws -> JobStatus {
        while true {
            let status = try await coordinator.job(job)
            let snapshot = ProgressSnapshot(status, workers: 1)
            if status.state.isFinal {
                progress.finish(snapshot)
                return status
            }
            progress.update(snapshot)
            try check()
            try await Task.sleep(for: Self.pollInterval)
        }
    }
}

extension ProgressSnapshot {
    /// A job's progress as the coordinator tells it.
    init(_ status: JobStatus, workers: Int) {
        self.init(
            images: status.committed.samples + status.inFlight.samples,
            imagesTotal: status.total.samples,
            sourceBytes: Int(status.committed.sourceBytes + status.inFlight.sourceBytes),
            sourceBytesTotal: Int(status.total.sourceBytes),
            committedBytes: Int(status.committed.sourceBytes),
            outputBytes: Int(status.committed.outputBytes),
            workers: workers,
            isPlanComplete: status.isScanFinished
        )
    }
}
