import CoordinatorClient
import CrashPoints
import HTTPTransport
package import JobProtocol
import Kernels
package import Logging

/// Leases shards, does them, and hands them in, until it is told to stop.
///
/// It outlives its coordinator: while nobody answers it goes on with what it holds, for any length
/// of time, and hands it in when the heartbeats are answered again.
package final class Worker: Sendable {
    package struct Configuration: Sendable {
        package var worker: WorkerID
        /// Threads that encode and verify.
        package var slots: Int
        package var host: String
        package var version: String
        /// Longest pause between two heartbeats, in seconds; the coordinator may ask for less.
        package var heartbeatSeconds: Int
        package var dataPlane: DataPlaneChoice
        /// Told of every failed shard, beside the coordinator.
        package var onFailure: (@Sendable (JobRunError) -> Void)?

        package init(
            worker: WorkerID,
            slots: Int,
            host: String,
            version: String,
            heartbeatSeconds: Int = Limits.heartbeatSeconds,
            dataPlane: DataPlaneChoice = .auto,
            onFailure: (@Sendable (JobRunError) -> Void)? = nil
        ) {
            precondition(slots > 0, "a worker has a slot")
            self.worker = worker
            self.slots = slots
            self.host = host
            self.version = version
            self.heartbeatSeconds = heartbeatSeconds
            self.dataPlane = dataPlane
            self.onFailure = onFailure
        }

        /// Shards in work at a time: the blocks of a shard run in parallel, so that two shards fill
        /// sixteen threads also while one of them is being read, ends or is placed.
        var shardsInWork: Int { min(Limits.shardsPerLease, 1 + (slots + 15) / 16) }
    }

    private let configuration: Configuration
    private let api: any CoordinatorAPI
    private let blobs: (any BlobAPI)?
    /// Reads and writes by URLs that are signed.
    private let transfers = HTTPClient()
    private let logger: Logger
    private let models: ModelStore
    private let pool: ComputePool
    private let keeper: LeaseKeeper

    /// - Parameters:
    ///   - configuration: Who it is and how much it takes.
    ///   - models: Where models are kept once loaded; says the instruction set to work with.
    ///   - api: The coordinator.
    ///   - blobs: The coordinator again, where it hands out bytes; nil for one in this process.
    ///   - logger: Told of every shard.
    package init(
        configuration: Configuration,
        models: ModelStore,
        api: any CoordinatorAPI,
        blobs: (any BlobAPI)? = nil,
        logger: Logger
    ) {
        self.configuration = configuration
        self.api = api
        self.blobs = blobs
        self.logger = logger
        self.models = models
        pool = ComputePool(threads: configuration.slots)
        keeper = LeaseKeeper(
            api: api,
            worker: configuration.worker,
            heartbeatSeconds: configuration.heartbeatSeconds,
            logger: logger
        )
    }

    /// Works until it was drained, by ``drain()`` or by the coordinator, and holds nothing more.
    ///
    /// Cancelling the task gives the shards in work back and then returns.
    ///
    /// - Throws: `APIError` when the coordinator refuses this worker for good.
    package func run() async throws(APIError) {
        guard try await register() else { return }
        keeper.start()
        var refusal: APIError?
        do throws(APIError) {
            try await work()
        } catch {
            refusal = error
        }
        await keeper.stop()
        if let refusal { throw refusal }
    }

    /// Takes no more shards; ``run()`` returns when those in work are handed in.
    package func drain() {
        logger.info("Draining: finishing the shards in work.")
        keeper.drain()
    }

    // MARK: - Asking for work

    /// Whether the worker is registered; false when it is to stop first.
    private func register() async throws(APIError) -> Bool {
        let registration = WorkerRegistration(
            worker: configuration.worker,
            version: configuration.version,
            host: configuration.host,
            device: "cpu",
            instructionSet: models.instructionSet.rawValue,
            slots: configuration.slots
        )
        var backoff = Backoff()
        var generator = SystemRandomNumberGenerator()
        while !isStopping {
            do {
                _ = try await api.register(registration)
                keeper.registered()
                return true
            } catch  where error.isRetryable {
                let seconds = backoff.nextDelaySeconds(using: &generator)
                logger.warning("Not registered; trying again. \(error.message)")
                await pause(seconds: seconds)
            }
        }
        return false
    }

    /// Waits, but not beyond a change of the directive or the end of the task.
    private func pause(seconds: Double) async {
        let directive = keeper.directive
        await withTaskGroup(of: Void.self) { group in
            group.addTask { try? await Task.sleep(for: .seconds(seconds)) }
            group.addTask { await self.keeper.untilDirective(isNot: directive) }
            await group.next()
            group.cancelAll()
        }
    }

    private var isStopping: Bool { Task.isCancelled || keeper.directive == .drain }

    private func work() async throws(APIError) {
        var refusal: APIError?
        await withTaskGroup(of: Void.self) { group in
            var inWork = 0
            while !isStopping {
                if inWork == configuration.shardsInWork {
                    await group.next()
                    inWork -= 1
                    continue
                }
                do throws(APIError) {
                    for lease in try await nextLeases(configuration.shardsInWork - inWork) {
                        keeper.add(lease)
                        inWork += 1
                        group.addTask { await self.work(on: lease) }
                    }
                } catch {
                    refusal = error
                    break
                }
            }
            await group.waitForAll()
        }
        if let refusal { throw refusal }
    }

    /// Some leases, or none after a while or a change of the directive; waits out every reason that
    /// may pass.
    private func nextLeases(_ count: Int) async throws(APIError) -> [Lease] {
        switch keeper.directive {
        case .drain:
            return []
        case .pause:
            await keeper.untilDirective(isNot: .pause)
            return []
        case .selftest:
            try await runSelftest()
            return []
        case .reRegister:
            _ = try await register()
            return []
        case .continue, .cancel:
            break
        }
        do {
            return try await leaseUnlessDirected(count).leases
        } catch  where error.code == .unknownWorker {
            _ = try await register()
            return []
        } catch  where error.isRetryable {
            logger.warning("No lease; trying again. \(error.message)")
            await keeper.untilReachable()
            return []
        }
    }

    /// Runs the selftest that the coordinator asks for, and does what it says then.
    private func runSelftest() async throws(APIError) {
        logger.warning("The coordinator asks for a selftest.")
        let checks = await withTaskExecutorPreference(pool) { KernelSelftest.checks() }
        for check in checks where !check.isOK {
            logger.critical("Selftest: \(check.name): \(check.detail)")
        }
        do {
            let report = SelftestReport(worker: configuration.worker, checks: checks)
            keeper.directed(try await api.report(report).directive)
        } catch  where error.code == .unknownWorker {
            _ = try await register()
        } catch  where error.isRetryable {
            logger.warning("The selftest is not reported; trying again. \(error.message)")
            await keeper.untilReachable()
        }
    }

    /// Asks for leases; ends early, with none, when the directive changes.
    private func leaseUnlessDirected(_ count: Int) async throws(APIError) -> LeaseReply {
        let request = LeaseRequest(worker: configuration.worker, shards: count)
        let nothing = LeaseReply(leases: [], isDrained: false, directive: .continue)
        let result = await withTaskGroup(of: Result<LeaseReply, APIError>?.self) { group in
            group.addTask {
                do throws(APIError) {
                    return .success(try await self.api.lease(request))
                } catch {
                    return .failure(error)
                }
            }
            group.addTask {
                await self.keeper.untilDirective(isNot: .continue)
                return nil
            }
            var result: Result<LeaseReply, APIError>?
            for await ended in group {
                group.cancelAll()
                if let ended, result == nil { result = ended }
            }
            return result
        }
        // A request that was cancelled by a directive or by our own end is no failure.
        if case .failure(let error) = result, keeper.directive == .continue, !Task.isCancelled {
            throw error
        }
        guard case .success(let reply) = result else { return nothing }
        return reply
    }

    // MARK: - One shard

    /// Does a leased shard and tells the coordinator how it ended.
    private func work(on lease: Lease) async {
        defer { keeper.remove(lease.lease) }
        let end = await runUntilLost(lease)
        do throws(APIError) {
            switch end {
            case .success(.cleared):
                logger.info("A probe of shard \(lease.ordinal) of job \(lease.job) went well.")
            case .success(.completed(let completion)):
                logger.info(
                    "Shard \(lease.ordinal) of job \(lease.job) is done.",
                    metadata: ["bytes": "\(completion.bytes)", "seconds": "\(completion.seconds)"]
                )
            case .failure(let error) where error.reason == .lost:
                logger.warning("Shard \(lease.ordinal) of job \(lease.job): \(error.message)")
                await release(lease.lease, reason: error.message)
            case .failure(let error):
                logger.error("Shard \(lease.ordinal) of job \(lease.job): \(error.message)")
                configuration.onFailure?(error)
                if case .failed(let failureClass) = error.reason {
                    let report = FailureReport(
                        lease: lease.lease,
                        failureClass: failureClass,
                        message: error.message
                    )
                    _ = try await api.fail(report)
                }
            }
        } catch {
            // The lease runs out by itself and says the same.
            logger.warning("Shard \(lease.ordinal): not reported. \(error.message)")
        }
    }

    /// Gives a lease back; in a task of its own, since a cancelled one could not send this any more.
    private func release(_ lease: LeaseID, reason: String) async {
        let release = Task {
            do throws(APIError) {
                _ = try await self.api.release(ReleaseRequest(lease: lease, reason: reason))
            } catch  where error.code == .fenced {
                // It was lost indeed.
            } catch {
                self.logger.warning("Not given back: lease \(lease). \(error.message)")
            }
        }
        await release.value
    }

    private func runUntilLost(_ lease: Lease) async -> Result<JobRun.Outcome, JobRunError> {
        let lost = JobRunError(.lost, "The lease \(lease.lease) was given up.")
        return await withTaskGroup(of: Result<JobRun.Outcome, JobRunError>?.self) { group in
            group.addTask {
                do {
                    let run = JobRun(
                        lease: lease,
                        models: self.models,
                        keeper: self.keeper,
                        plane: self.plane(for: lease),
                        threads: self.pool.threads
                    )
                    let outcome = try await withTaskExecutorPreference(self.pool) {
                        try await run.run()
                    }
                    try await self.handIn(outcome, of: lease.lease)
                    return .success(outcome)
                } catch let error as JobRunError {
                    return .failure(error)
                } catch {
                    return .failure(lost)
                }
            }
            group.addTask {
                await self.keeper.untilLost(lease.lease)
                return nil
            }
            // Whoever ends first ends the other; a shard that was handed in meanwhile counts.
            var end: Result<JobRun.Outcome, JobRunError>?
            for await ended in group {
                group.cancelAll()
                end = ended ?? end
            }
            return end ?? .failure(lost)
        }
    }

    /// The way to the bytes of a lease.
    private func plane(for lease: Lease) -> any DataPlane {
        var plane = planeWithoutURLs(for: lease)
        if let urls = lease.sampleURLs {
            plane = SampleURLPlane(lease, urls: urls, rest: plane, http: transfers)
        }
        if let url = lease.modelURL, let blobs {
            plane = DatasetURLPlane(
                lease,
                modelURL: url,
                rest: plane,
                api: blobs,
                http: transfers
            )
        }
        return plane
    }

    private func planeWithoutURLs(for lease: Lease) -> any DataPlane {
        let folder = FolderPlane(lease)
        guard let blobs else { return folder }
        switch configuration.dataPlane {
        case .folder: return folder
        case .auto where folder.isVisible: return folder
        case .auto, .http:
            logger.debug("Shard \(lease.ordinal) of job \(lease.job) comes from the coordinator.")
            return CoordinatorPlane(lease, api: blobs)
        }
    }

    /// Hands in what was done; waits for a coordinator that is away.
    private func handIn(
        _ outcome: JobRun.Outcome,
        of lease: LeaseID
    ) async throws(JobRunError) {
        while true {
            guard await keeper.settledStanding(of: lease) == .held else {
                throw JobRunError(.lost, "The lease \(lease) is no longer held.")
            }
            do throws(APIError) {
                CrashPoint.reached(.beforeComplete)
                switch outcome {
                case .completed(let completion): _ = try await api.complete(completion)
                case .cleared(let request): _ = try await api.clear(request)
                }
                CrashPoint.reached(.afterComplete)
                return
            } catch {
                switch error.code {
                case .fenced, .cancelled, .nondeterminism, .unknownWorker, .notFound:
                    throw JobRunError(.lost, error.message)
                case _ where error.isRetryable:
                    logger.warning("Not handed in; trying again. \(error.message)")
                    await keeper.untilReachable()
                default:
                    throw JobRunError(.failed(.transient), error.message)
                }
            }
        }
    }
}
