package import JobProtocol

/// A row of the table `job`.
package struct JobRecord: Equatable, Sendable {
    package let id: JobID
    package let source: String
    package let destination: String
    package let modelID: String
    package let shardBytes: Int64
    package let priority: Int
    /// Most workers that hold leases of the job at one time; nil for any number.
    package let maxWorkers: Int?
    package let idempotencyKey: String?
    /// Who made it; nil without tokens.
    package let submitter: String?
    package let createdAt: Timestamp
    package var state: JobState
    package var isScanFinished = false
    /// Samples with a problem, those included that are not in any shard.
    package var problems = 0
    package var failure: String?
    /// Why the coordinator paused the job; only set while it is paused.
    package var pauseReason: String?
    /// Counts the last failures; nil before the first.
    package var breaker: CircuitBreaker?
    /// Larger than that of every job whose last lease is older; 0 before the first.
    package var turn = 0
    package var datasetDigest: String?
    /// When its first shard was leased.
    package var startedAt: Timestamp?
    package var finishedAt: Timestamp?

    package init(
        id: JobID,
        source: String,
        destination: String,
        modelID: String,
        shardBytes: Int64,
        priority: Int = 0,
        maxWorkers: Int? = nil,
        idempotencyKey: String?,
        submitter: String? = nil,
        createdAt: Timestamp,
        state: JobState
    ) {
        self.id = id
        self.source = source
        self.destination = destination
        self.modelID = modelID
        self.shardBytes = shardBytes
        self.priority = priority
        self.maxWorkers = maxWorkers
        self.idempotencyKey = idempotencyKey
        self.submitter = submitter
        self.createdAt = createdAt
        self.state = state
    }

    /// Whether nothing may be committed to the job any more, complete jobs aside.
    package var isOver: Bool {
        switch state {
        case .cancelling, .cancelled, .failed: true
        case .planning, .queued, .paused, .running, .sealing, .completed,
            .completedWithFallbacks:
            false
        }
    }
}

extension ShardState {
    /// States of shards that no worker holds and that are still to be done.
    static let open: [ShardState] = [.pending, .retryWait]
    /// States of shards that a failed job left undone.
    static let reopenable: [ShardState] = [.quarantined, .cancelled]
}

/// A row of the table `shard`.
package struct ShardRecord: Equatable, Sendable {
    package let id: ShardID
    package let job: JobID
    package let ordinal: Int
    package let samples: Int
    package let sourceBytes: Int64
    package var state: ShardState = .pending
    /// The fence of the last lease; of a committed shard, that of the attempt that was committed.
    package var fence = Fence(incarnation: 0, counter: 0)
    /// When the shard is pending again; set exactly while it waits for a retry.
    package var notBefore: Timestamp?
    /// Attempts whose worker reported a failure.
    package var failures = 0
    /// Attempts since the last search whose worker was lost or made a wrong output, probes aside.
    package var crashes = 0
    /// The search for samples that no worker survives; nil where none was needed.
    package var search: PoisonSearch?
    /// Set exactly when the shard is committed.
    package var output: Output?

    package struct Output: Equatable, Sendable {
        package let sha256: String
        package let bytes: Int64
        package let totals: ShardTotals

        package init(sha256: String, bytes: Int64, totals: ShardTotals) {
            self.sha256 = sha256
            self.bytes = bytes
            self.totals = totals
        }
    }

    package init(id: ShardID, job: JobID, ordinal: Int, samples: Int, sourceBytes: Int64) {
        self.id = id
        self.job = job
        self.ordinal = ordinal
        self.samples = samples
        self.sourceBytes = sourceBytes
    }

    package var lease: LeaseID { LeaseID(shard: id, fence: fence) }

    /// What the shard adds to its job's counters.
    package var tally: Tally {
        Tally(
            shards: 1,
            samples: samples,
            sourceBytes: sourceBytes,
            outputBytes: output?.bytes ?? 0
        )
    }
}

/// A row of the table `attempt`: a lease, while it is issued.
package struct AttemptRecord: Equatable, Sendable {
    package let lease: LeaseID
    package let job: JobID
    package let worker: WorkerID
    package let issuedAt: Timestamp
    package var state: AttemptState = .issued
    /// When the lease runs out; set exactly while it is issued.
    package var deadline: Timestamp?
    /// Samples that the worker has finished, as it last told.
    package var doneSamples = 0
    /// Source bytes of these samples.
    package var doneBytes: Int64 = 0
    /// Steps of work that the worker has done, as it last told.
    package var steps = 0
    /// When the steps last rose.
    package var movedAt: Timestamp
    package var failureClass: FailureClass?
    package var message: String?
    package var sha256: String?
    /// Seconds of work that the worker reports.
    package var seconds: Double?
    package var endedAt: Timestamp?

    /// An attempt that begins, and is to end by a deadline unless it is prolonged.
    package init(
        lease: LeaseID,
        job: JobID,
        worker: WorkerID,
        issuedAt: Timestamp,
        deadline: Timestamp?
    ) {
        self.lease = lease
        self.job = job
        self.worker = worker
        self.issuedAt = issuedAt
        movedAt = issuedAt
        self.deadline = deadline
    }
}

/// How many attempts ended well, and how many did not.
package struct Outcomes: Equatable, Sendable {
    package var completed: Int
    package var failed: Int

    package init(completed: Int, failed: Int) {
        self.completed = completed
        self.failed = failed
    }

    package var total: Int { completed + failed }

    /// Whether there are enough attempts on both sides to say that failures come this many times as
    /// often as with the others.
    package func fails(_ factor: Int, timesAsOftenAs others: Outcomes) -> Bool {
        failed >= Limits.failuresForSuspicion && others.total >= Limits.attemptsForComparison
            && failed * others.total > factor * others.failed * total
    }
}

/// A row of the table `worker`.
package struct WorkerRecord: Equatable, Sendable {
    package var registration: WorkerRegistration
    package var state: WorkerState
    package var seenAt: Timestamp
    package var sourceBytesPerSecond = 0.0
    package var completed = 0
    package var failed = 0
    /// Of these, what was before it was last cleared of a suspicion.
    package var cleared = Outcomes(completed: 0, failed: 0)
    /// Why the worker is suspect, or what its selftest found; nil in good standing.
    package var suspicion: String?
    /// Whether its selftest has confirmed the suspicion.
    package var hasFailedSelftest = false

    package init(registration: WorkerRegistration, state: WorkerState, seenAt: Timestamp) {
        self.registration = registration
        self.state = state
        self.seenAt = seenAt
    }

    package var id: WorkerID { registration.worker }

    /// What became of its attempts since it was last cleared.
    package var outcomes: Outcomes {
        Outcomes(completed: completed - cleared.completed, failed: failed - cleared.failed)
    }
}
