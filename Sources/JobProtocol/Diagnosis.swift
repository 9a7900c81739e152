/// Why a job is not moving, or that it is, and what to do.
package struct Diagnosis: Equatable, Codable, Sendable {
    /// One thing that was found, the most important ones first.
    package struct Finding: Equatable, Codable, Sendable {
        /// For people.
        package var text: String
        /// What to type or to do; nil where there is nothing to do.
        package var next: String?

        package init(_ text: String, next: String? = nil) {
            self.text = text
            self.next = next
        }
    }

    package var job: JobID
    package var state: JobState
    package var findings: [Finding]

    /// Looks for what holds a job up.
    ///
    /// - Parameters:
    ///   - job: The job.
    ///   - others: Every other job, oldest first.
    ///   - workers: Every worker that has not left.
    ///   - troubles: The job's latest events that are no progress, newest first.
    ///   - leaseSeconds: Life of a lease without a heartbeat.
    package init(
        job: JobStatus,
        others: [JobStatus],
        workers: [WorkerStatus],
        troubles: [JobEvent],
        leaseSeconds: Int = Limits.leaseSeconds
    ) {
        self.job = job.job
        state = job.state
        findings = Self.findings(about: job)
        guard job.state == .planning || job.state.isLeasable else { return }
        findings += Self.findings(about: workers, leaseSeconds: leaseSeconds)
        if job.pending > 0 { findings += Self.findings(aboutTurnOf: job, among: others) }
        findings += Self.findings(aboutShardsOf: job)
        findings += troubles.map { Finding(Self.text($0)) }
    }

    private static func findings(about job: JobStatus) -> [Finding] {
        let held = job.shards[ShardState.leased.rawValue] ?? 0
        return switch job.state {
        case .planning where job.total.shards == 0:
            [Finding("The source \(job.source) is being scanned; no shard is full yet.")]
        case .planning, .queued, .running:
            job.isScanFinished ? [] : [Finding("The source is still being scanned.")]
        case .paused:
            [
                job.pauseReason.map { reason in
                    Finding(
                        "The job was paused: \(reason)",
                        next: "mend the cause, then flowpack resume \(job.job)"
                    )
                }
                    ?? Finding(
                        "The job is paused; \(held) shards in flight may finish.",
                        next: "flowpack resume \(job.job)"
                    )
            ]
        case .sealing:
            [Finding("Every shard is committed; the manifest is being written.")]
        case .cancelling:
            [Finding("The job is being cancelled; \(held) shards are waited for.")]
        case .completed, .cancelled:
            [Finding("The job has ended.")]
        case .completedWithFallbacks:
            [
                Finding(
                    "The job has ended; \(job.problems) samples had a problem.",
                    next: "flowpack info \(job.destination)"
                )
            ]
        case .failed:
            [
                Finding(
                    "The job failed. \(job.failure ?? "")",
                    next: (job.shards[ShardState.quarantined.rawValue] ?? 0) > 0
                        ? "flowpack shards \(job.job) --state quarantined; mend the cause, then "
                            + "flowpack retry \(job.job)"
                        : "mend the cause, then flowpack retry \(job.job)"
                )
            ]
        }
    }

    private static func findings(
        about workers: [WorkerStatus],
        leaseSeconds: Int
    ) -> [Finding] {
        let pauseSeconds = Limits.heartbeatSeconds(ofLease: leaseSeconds)
        var findings: [Finding] = []
        let ready = workers.filter { $0.state == .active || $0.state == .registered }
        if ready.isEmpty {
            let isSuspected = !workers.isEmpty && workers.allSatisfy { $0.state == .suspect }
            findings.append(
                isSuspected
                    ? Finding("Every worker is suspect; they get work when their selftest is well.")
                    : Finding(
                        "No worker asks for work.",
                        next: "start flowpack-worker on some machine"
                    )
            )
        }
        for worker in ready where worker.silentSeconds >= Double(2 * pauseSeconds) {
            findings.append(
                Finding(
                    "\(name(worker)) is silent for \(Int(worker.silentSeconds)) s; after "
                        + "\(leaseSeconds) s its \(worker.leases) shards are free again.",
                    next: "look whether it runs and reaches the coordinator"
                )
            )
        }
        for worker in workers {
            switch worker.state {
            case .paused:
                findings.append(
                    Finding("\(name(worker)) is paused.", next: "resume it, with an admin's token")
                )
            case .suspect:
                findings.append(
                    Finding(
                        "\(name(worker)) is suspect: \(worker.suspicion ?? "unknown why")",
                        next: "run flowpack selftest there, and look at its log"
                    )
                )
            case .incompatible:
                findings.append(
                    Finding(
                        "\(name(worker)) runs version \(worker.version), which does not fit.",
                        next: "install this coordinator's release there"
                    )
                )
            case .registered, .active, .draining, .gone:
                break
            }
        }
        return findings
    }

    /// Why a job with pending shards may get no worker, though there are some.
    private static func findings(
        aboutTurnOf job: JobStatus,
        among others: [JobStatus]
    ) -> [Finding] {
        var findings: [Finding] = []
        if let most = job.maxWorkers, job.workers >= most {
            findings.append(
                Finding(
                    "\(job.workers) workers hold shards of it, as many as it was submitted with."
                )
            )
        }
        let waiting = others.filter { $0.state.isLeasable && $0.pending > 0 }
        for other in waiting where other.priority > job.priority {
            findings.append(
                Finding(
                    "\(other.pending) shards of job \(other.job) come first: its priority is "
                        + "\(other.priority), this one's \(job.priority).",
                    next: "wait for it, or flowpack pause \(other.job)"
                )
            )
        }
        let equals = waiting.filter { $0.priority == job.priority }.map { "\($0.job)" }
        if !equals.isEmpty {
            let list = equals.joined(separator: ", ")
            findings.append(Finding("It shares the workers with jobs of its priority: \(list)."))
        }
        return findings
    }

    private static func findings(aboutShardsOf job: JobStatus) -> [Finding] {
        var findings: [Finding] = []
        if let waiting = job.shards[ShardState.retryWait.rawValue] {
            findings.append(Finding("\(waiting) shards wait for another try after a failure."))
        }
        if let held = job.shards[ShardState.leased.rawValue] {
            findings.append(
                Finding(
                    "\(held) shards are in work, \(job.inFlight.samples) of their samples are done."
                )
            )
        }
        if job.pending > 0 {
            findings.append(Finding("\(job.pending) shards wait for a worker."))
        }
        return findings
    }

    private static func name(_ worker: WorkerStatus) -> String {
        "Worker \(worker.worker) on \(worker.host)"
    }

    private static func text(_ event: JobEvent) -> String {
        let shard = event.ordinal.map { "shard \($0), " } ?? ""
        let kind = event.kind.rawValue.split(separator: "_").joined(separator: " ")
        return "Before: \(shard)\(kind): \(event.detail)"
    }
}

extension JobStatus {
    /// Shards that wait for a worker.
    fileprivate var pending: Int { shards[ShardState.pending.rawValue] ?? 0 }
}
