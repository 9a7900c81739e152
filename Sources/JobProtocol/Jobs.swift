/// What a job is to do.
package struct SubmitRequest: Equatable, Codable, Sendable {
    /// Absolute path of the source folder on the coordinator's machine, or its place in S3:
    /// `s3://bucket/prefix`.
    package var source: String
    /// Absolute path of the dataset folder, or its place in S3; it holds the model file already.
    package var destination: String
    /// SHA-256 of the model file, 64 lower-case hexadecimal digits.
    package var modelID: String
    /// Source bytes at which a shard is full.
    package var shardBytes: Int64
    /// Jobs with a larger number come first; one of `Limits.priorities`.
    package var priority: Int
    /// Most workers that hold shards of the job at one time; nil for as many as there are.
    package var maxWorkers: Int?
    /// The submitter's name for this request: submitting again under it returns the same job.
    package var idempotencyKey: String?

    package init(
        source: String,
        destination: String,
        modelID: String,
        shardBytes: Int64 = Limits.shardBytes,
        priority: Int = 0,
        maxWorkers: Int? = nil,
        idempotencyKey: String? = nil
    ) {
        self.source = source
        self.destination = destination
        self.modelID = modelID
        self.shardBytes = shardBytes
        self.priority = priority
        self.maxWorkers = maxWorkers
        self.idempotencyKey = idempotencyKey
    }

    /// Reads a request, in which only source, destination and model have to be named.
    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            source: try fields.decode(String.self, forKey: .source),
            destination: try fields.decode(String.self, forKey: .destination),
            modelID: try fields.decode(String.self, forKey: .modelID),
            shardBytes: try fields.decodeIfPresent(Int64.self, forKey: .shardBytes)
                ?? Limits.shardBytes,
            priority: try fields.decodeIfPresent(Int.self, forKey: .priority) ?? 0,
            maxWorkers: try fields.decodeIfPresent(Int.self, forKey: .maxWorkers),
            idempotencyKey: try fields.decodeIfPresent(String.self, forKey: .idempotencyKey)
        )
    }
}

/// The job that a request made, or that an earlier equal request had made.
package struct SubmitReply: Equatable, Codable, Sendable {
    package var job: JobID
    /// Whether the job existed before this request.
    package var isReplay: Bool

    package init(job: JobID, isReplay: Bool) {
        self.job = job
        self.isReplay = isReplay
    }
}

/// Shards, samples and bytes; a sum over shards.
package struct Tally: Equatable, Codable, Sendable {
    package var shards: Int
    package var samples: Int
    package var sourceBytes: Int64
    package var outputBytes: Int64

    package static let zero = Tally(shards: 0, samples: 0, sourceBytes: 0, outputBytes: 0)

    package init(shards: Int, samples: Int, sourceBytes: Int64, outputBytes: Int64) {
        self.shards = shards
        self.samples = samples
        self.sourceBytes = sourceBytes
        self.outputBytes = outputBytes
    }

    package static func += (a: inout Tally, b: Tally) {
        a.shards += b.shards
        a.samples += b.samples
        a.sourceBytes += b.sourceBytes
        a.outputBytes += b.outputBytes
    }

    package static func -= (a: inout Tally, b: Tally) {
        a.shards -= b.shards
        a.samples -= b.samples
        a.sourceBytes -= b.sourceBytes
        a.outputBytes -= b.outputBytes
    }
}

/// A job as it stands: what it is, how far it is, how fast it goes.
package struct JobStatus: Equatable, Codable, Sendable {
    package var job: JobID
    package var state: JobState
    package var source: String
    package var destination: String
    package var modelID: String
    package var priority: Int
    package var maxWorkers: Int?
    /// Workers that hold shards of it now.
    package var workers: Int
    /// Why the job failed; nil unless it did.
    package var failure: String?
    /// Why the coordinator paused the job; nil unless it did.
    package var pauseReason: String?
    /// Whether every sample of the source is in a shard, so that `total` is final.
    package var isScanFinished: Bool
    /// All shards.
    package var total: Tally
    /// Committed shards.
    package var committed: Tally
    /// Finished part of the shards that workers hold now, as they last told: `shards` is the
    /// number of shards held, `outputBytes` is 0.
    package var inFlight: Tally
    /// Number of shards in each state, keyed by the state's name; states without shards are absent.
    package var shards: [String: Int]
    /// Attempts that failed, and leases that ran out.
    package var failedAttempts: Int
    /// Leases that were taken from workers that did nothing for long.
    package var stuckAttempts: Int
    /// Samples with a problem so far.
    package var problems: Int
    /// Milliseconds since 1970.
    package var createdMilliseconds: Int64
    /// Milliseconds since 1970 of the first lease.
    package var startedMilliseconds: Int64?
    /// Milliseconds since 1970 of the end.
    package var finishedMilliseconds: Int64?
    /// Source bytes per second since the first lease, pauses included; nil before the first.
    package var sourceBytesPerSecond: Double?
    /// Predicted seconds to the end; nil when unknown or finished.
    package var remainingSeconds: Double?
    /// SHA-256 over the digests of all shards in order, once the job is complete.
    package var datasetDigest: String?

    package init(
        job: JobID,
        state: JobState,
        source: String,
        destination: String,
        modelID: String,
        priority: Int,
        maxWorkers: Int?,
        workers: Int,
        failure: String?,
        pauseReason: String?,
        isScanFinished: Bool,
        total: Tally,
        committed: Tally,
        inFlight: Tally,
        shards: [String: Int],
        failedAttempts: Int,
        stuckAttempts: Int,
        problems: Int,
        createdMilliseconds: Int64,
        startedMilliseconds: Int64?,
        finishedMilliseconds: Int64?,
        sourceBytesPerSecond: Double?,
        remainingSeconds: Double?,
        datasetDigest: String?
    ) {
        self.job = job
        self.state = state
        self.source = source
        self.destination = destination
        self.modelID = modelID
        self.priority = priority
        self.maxWorkers = maxWorkers
        self.workers = workers
        self.failure = failure
        self.pauseReason = pauseReason
        self.isScanFinished = isScanFinished
        self.total = total
        self.committed = committed
        self.inFlight = inFlight
        self.shards = shards
        self.failedAttempts = failedAttempts
        self.stuckAttempts = stuckAttempts
        self.problems = problems
        self.createdMilliseconds = createdMilliseconds
        self.startedMilliseconds = startedMilliseconds
        self.finishedMilliseconds = finishedMilliseconds
        self.sourceBytesPerSecond = sourceBytesPerSecond
        self.remainingSeconds = remainingSeconds
        self.datasetDigest = datasetDigest
    }
}

/// Every job, oldest first.
package struct JobList: Equatable, Codable, Sendable {
    package var jobs: [JobStatus]

    package init(jobs: [JobStatus]) {
        self.jobs = jobs
    }
}

/// Something that happened to a job.
package struct JobEvent: Equatable, Codable, Sendable {
    /// Rises by time; ask for the events after the last one you saw.
    package var id: Int64
    /// Milliseconds since 1970.
    package var milliseconds: Int64
    package var job: JobID
    /// The shard's ordinal, when it happened to a shard.
    package var ordinal: Int?
    package var worker: WorkerID?
    package var kind: Kind
    /// For people.
    package var detail: String

    package enum Kind: String, CaseIterable, Codable, Sendable {
        /// The job moved to the state that `detail` names.
        case jobState = "job_state"
        /// A shard was committed.
        case committed
        /// A worker reported a failure.
        case attemptFailed = "attempt_failed"
        /// A lease ran out.
        case leaseExpired = "lease_expired"
        /// A lease was taken from a worker that did nothing for long.
        case stuck
        /// A second worker got a shard, because the first is late.
        case speculated
        /// Workers were lost on a shard: its samples are tried in parts.
        case suspected
        /// Workers were lost on single samples: they are kept as they are.
        case isolated
        /// A shard failed too often.
        case quarantined
        /// A late attempt made the same bytes.
        case agreed
        /// A late attempt made other bytes.
        case nondeterminism
        /// A worker at it became suspect.
        case workerSuspected = "worker_suspected"
        /// An entry of the source is not a sample.
        case skipped
    }

    package init(
        id: Int64,
        milliseconds: Int64,
        job: JobID,
        ordinal: Int?,
        worker: WorkerID?,
        kind: Kind,
        detail: String
    ) {
        self.id = id
        self.milliseconds = milliseconds
        self.job = job
        self.ordinal = ordinal
        self.worker = worker
        self.kind = kind
        self.detail = detail
    }
}

/// Some events of a job, oldest first, at most `Limits.eventsPerReply`.
package struct EventList: Equatable, Codable, Sendable {
    package var events: [JobEvent]

    package init(events: [JobEvent]) {
        self.events = events
    }
}
