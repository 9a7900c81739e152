import CrashPoints
import Foundation
package import JobProtocol
package import Logging
package import S3
import ServiceLifecycle
import Synchronization

/// A coordinator in this process: the queue, and the work that keeps it going.
///
/// `flowpack compress` uses it directly; the daemon puts an HTTP server in front of it. Calls are
/// answered from the moment it exists; `run` scans sources, ends leases and seals datasets.
package final class LocalCoordinator: CoordinatorAPI, Service {
    package let queue: JobQueue
    /// Sources and destinations in S3; nil without a key.
    private let s3: S3Client?
    private let clock: SteadyClock
    private let logger: Logger
    private let checks = OutputChecks()
    /// Jobs that a task of `run` scans or seals now.
    private let busy = Mutex<Set<JobID>>([])
    /// Failed tries to seal a job since the start.
    private let sealingFailures = Mutex<[JobID: Int]>([:])

    /// Whether the log says that the disk is full.
    private let isShortOfDisk = Atomic(false)

    /// Pause between two looks for leases that ran out and backoffs that ended.
    private static let housekeepingInterval = Duration.seconds(1)
    /// States in which a job's source is scanned.
    private static let scannable: [JobState] = [.planning, .queued, .paused, .running]

    /// Opens the queue in a folder; every lease in it gets a full lease time from now.
    ///
    /// - Parameters:
    ///   - folder: Where the state lies, on a local disk; made if it does not exist.
    ///   - leaseSeconds: Life of a lease without a heartbeat.
    ///   - workersSurvived: False when the workers lived in the process that had the queue before:
    ///     what they held is free at once.
    ///   - hasBallast: Whether disk space is kept for the last writes on a full disk.
    ///   - s3: Reads sources and makes datasets in S3; nil refuses them.
    ///   - logger: Takes what goes wrong in the work of `run`.
    /// - Throws: `StartError`, such as `locked` when another coordinator runs on the folder.
    package init(
        folder: String,
        leaseSeconds: Int = Limits.leaseSeconds,
        workersSurvived: Bool = true,
        hasBallast: Bool = false,
        s3: S3Client? = nil,
        logger: Logger
    ) throws(StartError) {
        self.s3 = s3
        do throws(SystemError) {
            try Files.makeFolder(folder)
        } catch {
            throw .unusable(path: folder, reason: error.description)
        }
        queue = try JobQueue(folder: folder, leaseSeconds: leaseSeconds, hasBallast: hasBallast)
        self.logger = logger
        let wall = Timestamp(milliseconds: Int64(Date().timeIntervalSince1970 * 1000))
        do throws(APIError) {
            // A wall clock that was set back must not make the pauses in the queue longer.
            clock = SteadyClock(wall: max(wall, try queue.lastEventTime() ?? wall))
            try queue.performBlocking(.start(workersSurvived: workersSurvived), now: clock.now)
        } catch {
            throw .unusable(path: folder, reason: error.message)
        }
    }
}

// MARK: - Jobs

extension LocalCoordinator {
    package func submit(_ request: SubmitRequest) async throws(APIError) -> SubmitReply {
        try await submit(request, by: nil)
    }

    /// As the other `submit`, within the limits of the submitter; nil has none.
    func submit(
        _ request: SubmitRequest,
        by submitter: Submitter?
    ) async throws(APIError) -> SubmitReply {
        try request.validate()
        let (source, destination) = (request.source, request.destination)
        let obstacle = await blocking {
            self.obstacle(from: source, to: destination, modelID: request.modelID)
        }
        let reply = try await queue.perform(
            .submit(request, obstacle: obstacle, by: submitter),
            now: clock.now
        )
        guard case .submitted(let submitted) = reply else {
            preconditionFailure("submit answers with a job")
        }
        return submitted
    }

    /// Returns where a source lies; nil for one in S3 without a key.
    private func tree(of source: String) -> SourceTree? {
        guard let location = S3Location(source) else { return .folder(path: source) }
        return s3.map { .bucket(location, $0) }
    }

    /// Returns where a dataset is made; nil for one in S3 without a key.
    private func destination(_ path: String) -> Destination? {
        guard let location = S3Location(path) else { return .folder(path: path) }
        return s3.map { .bucket(location, $0) }
    }

    /// Returns what is wrong with a source; nil if nothing is.
    private func obstacle(atSource source: String) throws(SystemError) -> Problem? {
        switch tree(of: source) {
        case .folder(let path):
            guard try Files.kind(of: path) != .folder else { return nil }
            return Problem(
                .sourceMissing,
                "\(source) is not a folder on the coordinator's machine.",
                next: "Submit a path on that machine, or s3://bucket/prefix."
            )
        case .bucket(let location, let client):
            let isEmpty: Bool
            do throws(S3Error) {
                isEmpty = try client.list(location) == S3Listing()
            } catch {
                return Problem(
                    .sourceMissing,
                    "\(source) cannot be listed: \(error.message).",
                    next: "Check the name, and the coordinator's key and endpoint."
                )
            }
            guard isEmpty else { return nil }
            return Problem(
                .sourceMissing,
                "There is nothing under \(source).",
                next: "Check the name."
            )
        case nil:
            return .noKey(.sourceMissing, source)
        }
    }

    /// Returns what is wrong with a destination; nil if nothing is.
    private func obstacle(
        atDestination path: String,
        modelID: String
    ) throws(DestinationError) -> Problem? {
        guard let destination = destination(path) else { return .noKey(.modelMissing, path) }
        let model = DatasetLayout.modelFile(id: modelID)
        guard try destination.contains(model) else {
            return Problem(
                .modelMissing,
                "\(destination.path(of: model)) is not there, as the coordinator sees it.",
                next: "Copy the model there, then submit again."
            )
        }
        guard try !destination.contains(DatasetLayout.manifestFile) else {
            return Problem(
                .destinationComplete,
                "\(path) holds a finished dataset.",
                next: "Choose another destination, or remove it first."
            )
        }
        return nil
    }

    /// Returns what stands in the way of a job in its source and in its destination.
    private func obstacle(
        from source: String,
        to destination: String,
        modelID: String
    ) -> Problem? {
        do throws(SystemError) {
            if let problem = try obstacle(atSource: source) { return problem }
        } catch {
            return Problem(
                .sourceMissing,
                "\(source) cannot be examined: \(error).",
                next: "Check the mount and the permissions on the coordinator's machine."
            )
        }
        do throws(DestinationError) {
            return try obstacle(atDestination: destination, modelID: modelID)
        } catch {
            return Problem(
                .modelMissing,
                "\(error.path) cannot be examined: \(error.reason).",
                next: "Check the mount and the permissions, or the coordinator's key and endpoint."
            )
        }
    }

    package func jobs() async throws(APIError) -> JobList {
        JobList(jobs: try await queue.statuses(now: clock.now))
    }

    package func job(_ job: JobID) async throws(APIError) -> JobStatus {
        try await queue.status(of: job, now: clock.now)
    }

    package func explain(_ job: JobID) async throws(APIError) -> Diagnosis {
        try await queue.explain(job, now: clock.now)
    }

    package func events(of job: JobID, after: Int64) async throws(APIError) -> EventList {
        EventList(events: try await queue.events(of: job, after: after))
    }

    package func shards(
        of job: JobID,
        in state: ShardState?,
        after ordinal: Int?
    ) async throws(APIError) -> ShardList {
        try await queue.shards(of: job, in: state, after: ordinal ?? -1)
    }

    package func pause(_ job: JobID) async throws(APIError) -> JobStatus {
        try await queue.perform(.pause(job), now: clock.now)
        return try await self.job(job)
    }

    package func resume(_ job: JobID) async throws(APIError) -> JobStatus {
        try await queue.perform(.resume(job), now: clock.now)
        return try await self.job(job)
    }

    package func cancel(_ job: JobID) async throws(APIError) -> JobStatus {
        try await queue.perform(.cancel(job), now: clock.now)
        return try await self.job(job)
    }

    package func retry(_ job: JobID) async throws(APIError) -> JobStatus {
        try await retry(job, by: nil)
    }

    /// As the other `retry`, within the limits of who asks; nil has none.
    func retry(_ job: JobID, by submitter: Submitter?) async throws(APIError) -> JobStatus {
        let status = try await self.job(job)
        let obstacle = await blocking {
            self.obstacle(from: status.source, to: status.destination, modelID: status.modelID)
        }
        try await queue.perform(.retry(job, obstacle: obstacle, by: submitter), now: clock.now)
        return try await self.job(job)
    }
}

// MARK: - Workers

extension LocalCoordinator {
    package func workers() async throws(APIError) -> WorkerList {
        WorkerList(workers: try await queue.workers(now: clock.now))
    }

    package func pauseWorker(_ worker: WorkerID) async throws(APIError) -> Acknowledgement {
        try await acknowledge(.pauseWorker(worker))
    }

    package func resumeWorker(_ worker: WorkerID) async throws(APIError) -> Acknowledgement {
        try await acknowledge(.resumeWorker(worker))
    }

    package func drainWorker(_ worker: WorkerID) async throws(APIError) -> Acknowledgement {
        try await acknowledge(.drainWorker(worker))
    }

    package func register(
        _ registration: WorkerRegistration
    ) async throws(APIError) -> RegistrationReply {
        try registration.validate()
        try await queue.perform(.register(registration), now: clock.now)
        return RegistrationReply(
            leaseSeconds: queue.leaseSeconds,
            heartbeatSeconds: Limits.heartbeatSeconds(ofLease: queue.leaseSeconds)
        )
    }

    package func heartbeat(_ heartbeat: Heartbeat) throws(APIError) -> HeartbeatReply {
        try heartbeat.validate()
        return Self.directives(
            try queue.performBlocking(.heartbeat(heartbeat), now: clock.now)
        )
    }

    /// As `heartbeat`, but suspends the task instead of blocking its thread.
    func receive(_ heartbeat: Heartbeat) async throws(APIError) -> HeartbeatReply {
        try heartbeat.validate()
        return Self.directives(
            try await queue.perform(.heartbeat(heartbeat), now: clock.now)
        )
    }

    private static func directives(_ reply: Reply) -> HeartbeatReply {
        guard case .heartbeat(let directives) = reply else {
            preconditionFailure("a heartbeat answers with directives")
        }
        return directives
    }

    package func report(_ selftest: SelftestReport) async throws(APIError) -> SelftestReply {
        try selftest.validate()
        guard
            case .directed(let directive) = try await queue.perform(
                .reportSelftest(selftest),
                now: clock.now
            )
        else { preconditionFailure("a selftest answers with a directive") }
        return SelftestReply(directive: directive)
    }

    private func acknowledge(_ command: Command) async throws(APIError) -> Acknowledgement {
        try await queue.perform(command, now: clock.now)
        return Acknowledgement()
    }
}

// MARK: - Leases

extension LocalCoordinator {
    package func lease(_ request: LeaseRequest) async throws(APIError) -> LeaseReply {
        try request.validate()
        let end = ContinuousClock.now + .seconds(request.waitSeconds)
        while true {
            let rings = queue.bell.rings
            var reply = try await queue.lease(request, now: clock.now)
            let remaining = end - ContinuousClock.now
            let isOver = remaining <= .zero || Task.isCancelled
            guard reply.leases.isEmpty, reply.directive == .continue, !isOver else {
                reply.leases = await withURLs(reply.leases)
                return reply
            }
            await queue.bell.wait(past: rings, atMost: remaining)
        }
    }

    /// Adds what workers need to read samples and models that lie in S3.
    private func withURLs(_ leases: [Lease]) async -> [Lease] {
        guard let s3 else { return leases }
        return await blocking {
            leases.map { lease in
                var lease = lease
                lease.modelURL = self.destination(lease.destination)?
                    .url(of: DatasetLayout.modelFile(id: lease.modelID))
                lease.sampleURLs = S3Location(lease.source).map { location in
                    lease.samples.map {
                        s3.url(of: location.appending($0.name), seconds: Limits.urlSeconds)
                    }
                }
                return lease
            }
        }
    }

    /// Returns the requests with which a worker puts its output into S3.
    package func urls(for upload: UploadRequest) async throws(APIError) -> UploadReply {
        try upload.validate()
        let lease = try await queue.held(upload.lease)
        do {
            try lease.admit(outputBytes: upload.bytes)
        } catch {
            throw .refused(error)
        }
        let name = DatasetLayout.shardFile(ordinal: lease.ordinal, sha256: upload.sha256)
        let destination = try reachable(lease.destination)
        let requests = try await blocking { () throws(APIError) in
            try Self.retryable { () throws(DestinationError) in
                try destination.upload(of: name, sha256: upload.sha256, bytes: upload.bytes)
            }
        }
        guard let requests else {
            throw .refused(.malformed("The output of \(lease.lease) goes into a folder."))
        }
        return requests
    }

    package func complete(_ completion: Completion) async throws(APIError) -> CompletionReply {
        try completion.validate()
        guard let place = try await queue.place(of: completion.lease.shard) else {
            throw .refused(.fenced(completion.lease))
        }
        let file = DatasetLayout.shardFile(ordinal: place.ordinal, sha256: completion.sha256)
        let destination = try reachable(place.destination)
        let outcome = await checks.outcome(of: completion, file: file, in: destination)
        let mismatch = try Self.retryable { () throws(DestinationError) in
            try outcome.get()
        }
        let reply = try await queue.perform(
            .complete(completion, mismatch: mismatch),
            now: clock.now
        )
        guard case .completed(let outcome) = reply else {
            preconditionFailure("complete answers with an outcome")
        }
        return CompletionReply(outcome: outcome)
    }

    /// The destination of a job that was accepted.
    private func reachable(_ path: String) throws(APIError) -> Destination {
        guard let destination = destination(path) else {
            throw .refused(.noKey(.unavailable, path))
        }
        return destination
    }

    /// Does work on a destination; its errors ask the worker to come again.
    private static func retryable<Value>(
        _ work: () throws(DestinationError) -> Value
    ) throws(APIError) -> Value {
        do {
            return try work()
        } catch {
            throw .refused(
                Problem(
                    .unavailable,
                    "\(error.path) cannot be examined: \(error.reason).",
                    next: "Check the coordinator's mount, or its key and endpoint.",
                    retryAfterSeconds: Limits.heartbeatSeconds
                )
            )
        }
    }

    package func fail(_ report: FailureReport) async throws(APIError) -> Acknowledgement {
        try report.validate()
        return try await acknowledge(.fail(report))
    }

    package func clear(_ request: ClearRequest) async throws(APIError) -> Acknowledgement {
        try await acknowledge(.clear(request))
    }

    package func release(_ request: ReleaseRequest) async throws(APIError) -> Acknowledgement {
        try await acknowledge(.release(request))
    }
}

// MARK: - What goes on by itself

extension LocalCoordinator {
    /// Scans, reaps and seals until the task is cancelled or the program shuts down gracefully.
    ///
    /// - Throws: `StartError.damaged`, when the database turns out to be so.
    package func run() async throws {
        try await cancelWhenGracefulShutdown {
            try await withThrowingDiscardingTaskGroup { group in
                group.addTask { try await self.checkIntegrity() }
                var lastReap = ContinuousClock.now - Self.housekeepingInterval
                while !Task.isCancelled, !group.isCancelled {
                    let rings = self.queue.bell.rings
                    do throws(APIError) {
                        if ContinuousClock.now - lastReap >= Self.housekeepingInterval {
                            lastReap = .now
                            self.keepBallast()
                            try await self.renewLeasesUnderCheck()
                            try await self.queue.perform(.reap, now: self.clock.now)
                        }
                        try await self.startTasks(in: &group)
                    } catch {
                        self.logger.error("housekeeping failed: \(error.message)")
                    }
                    await self.queue.bell.wait(past: rings, atMost: Self.housekeepingInterval)
                }
                group.cancelAll()
            }
        }
    }

    /// The leases whose outputs the coordinator is reading, to see whether they are what was said.
    package var leasesUnderCheck: Set<LeaseID> { checks.leases }

    /// Keeps leases from running out while the coordinator itself takes the time.
    private func renewLeasesUnderCheck() async throws(APIError) {
        let leases = leasesUnderCheck
        guard !leases.isEmpty else { return }
        try await queue.perform(.renew(leases), now: clock.now)
    }

    /// Takes the ballast on board again when there is room, and says when it is gone and back.
    private func keepBallast() {
        guard queue.ballast.isSpent else { return }
        if queue.ballast.refill() {
            isShortOfDisk.store(false, ordering: .relaxed)
            logger.notice("the disk has room again: new work is taken on")
        } else if !isShortOfDisk.exchange(true, ordering: .relaxed) {
            logger.error(
                """
                the disk is full: what workers hold is finished, new work is refused until there \
                is room for \(queue.ballast.path) again
                """
            )
        }
    }

    private func checkIntegrity() async throws {
        do {
            try await queue.checkIntegrity()
        } catch  where Task.isCancelled {
            // The next start reads it again.
        }
    }

    /// Starts a task for each job that has to be scanned or sealed and has none.
    private func startTasks(
        in group: inout ThrowingDiscardingTaskGroup<any Error>
    ) async throws(APIError) {
        for job in try await queue.jobs(where: Self.scannable) where !job.isScanFinished {
            start(job.id, in: &group) { await self.plan(job.id) }
        }
        guard queue.isSound else { return }
        for job in try await queue.jobs(where: [.sealing]) {
            start(job.id, in: &group) { await self.seal(job.id) }
        }
    }

    /// Starts a task unless the job has one; the task looks at the job afresh.
    private func start(
        _ job: JobID,
        in group: inout ThrowingDiscardingTaskGroup<any Error>,
        _ work: @escaping @Sendable () async -> Void
    ) {
        guard busy.withLock({ $0.insert(job).inserted }) else { return }
        group.addTask {
            await work()
            _ = self.busy.withLock { $0.remove(job) }
        }
    }

    /// Scans a job's source from where the last scan stopped, and appends shards as they fill.
    private func plan(_ id: JobID) async {
        do {
            let jobs = try await queue.jobs(where: Self.scannable)
            guard let job = jobs.first(where: { $0.id == id }), !job.isScanFinished else { return }
            let last = try await queue.lastSample(of: id)
            guard let tree = tree(of: job.source) else {
                throw SourceError(path: job.source, reason: "the coordinator has no key for it")
            }
            var planner = try await blocking { () throws(SourceError) in
                ShardPlanner(
                    scan: try SourceScan(tree, after: last?.name),
                    shardBytes: job.shardBytes
                )
            }
            while !Task.isCancelled {
                let before = planner
                let (part, after) = try await blocking { () throws(SourceError) in
                    var planner = before
                    return (try planner.next(), planner)
                }
                planner = after
                guard !part.samples.isEmpty else {
                    try await queue.perform(
                        .finishScan(id, skipped: part.skipped),
                        now: clock.now
                    )
                    return
                }
                try await queue.perform(
                    .appendShard(id, samples: part.samples, skipped: part.skipped),
                    now: clock.now
                )
                CrashPoint.reached(.duringPlanning)
            }
        } catch let error as SourceError {
            await abandon(id, "The source \(error.path) cannot be read: \(error.reason).")
        } catch let error as APIError {
            // A job that was ended meanwhile takes no more shards. Anything else is tried again.
            if error.code != .wrongState && !Task.isCancelled {
                logger.error("job \(id) cannot be planned: \(error.message)")
            }
        } catch {
            preconditionFailure("planning throws nothing else: \(error)")
        }
    }

    private func seal(_ id: JobID) async {
        do {
            let jobs = try await queue.jobs(where: [.sealing])
            guard let job = jobs.first(where: { $0.id == id }) else { return }
            let (shards, problems) = try await queue.content(of: id)
            let destination = try reachable(job.destination)
            let digest = try await BlobStore.onItsThreads {
                try Sealer.seal(job, in: destination, shards: shards, problems: problems)
            }
            try await queue.perform(.seal(id, datasetDigest: digest), now: clock.now)
        } catch let error as DestinationError {
            logger.error("job \(id) cannot be sealed: \(error.path): \(error.reason)")
            let failures = sealingFailures.withLock { failures in
                failures[id, default: 0] += 1
                return failures[id, default: 0]
            }
            if failures >= Limits.triesPerShard {
                await abandon(id, "The manifest cannot be written: \(error.reason).")
            }
        } catch {
            logger.error("job \(id) cannot be sealed: \(error)")
        }
    }

    private func abandon(_ id: JobID, _ reason: String) async {
        do throws(APIError) {
            try await queue.perform(.abandon(id, reason: reason), now: clock.now)
        } catch {
            logger.error("job \(id) cannot be ended: \(error.message)")
        }
    }
}
