/// A worker's wish for work.
package struct LeaseRequest: Equatable, Codable, Sendable {
    package var worker: WorkerID
    /// Most shards that the worker can start now, 1 to `Limits.shardsPerLease`.
    package var shards: Int
    /// Seconds to wait for work when there is none, 0 to `Limits.longPollSeconds`.
    package var waitSeconds: Int

    package init(worker: WorkerID, shards: Int, waitSeconds: Int = Limits.longPollSeconds) {
        self.worker = worker
        self.shards = shards
        self.waitSeconds = waitSeconds
    }
}

/// One file of the source.
package struct ShardSample: Equatable, Codable, Sendable {
    /// Path relative to the source folder, with "/".
    package var name: String
    /// Size in bytes when the source was scanned.
    package var bytes: Int64

    package init(name: String, bytes: Int64) {
        self.name = name
        self.bytes = bytes
    }
}

/// A shard to work on, for `leaseSeconds` from the answer, longer with heartbeats.
package struct Lease: Equatable, Codable, Sendable {
    /// What the worker shall do.
    package enum Purpose: String, Codable, Sendable {
        /// Make the shard and complete it.
        case shard
        /// Encode some of its samples, verify them, drop the result and clear the lease: to find out
        /// whether a worker survives them.
        case probe
    }

    package var lease: LeaseID
    package var purpose: Purpose
    package var job: JobID
    /// The shard's place in the dataset, from 0.
    package var ordinal: Int
    /// Absolute path of the source folder, or its place in S3: `s3://bucket/prefix`.
    package var source: String
    /// Absolute path of the dataset folder, where model and shards lie (`DatasetLayout`), or its
    /// place in S3.
    package var destination: String
    /// SHA-256 of the model file, 64 lower-case hexadecimal digits.
    package var modelID: String
    /// The samples in the order in which they belong into the shard; of a probe, some that follow
    /// one another.
    package var samples: [ShardSample]
    /// Those of `samples` that are kept as they are, unseen, because workers were lost on them;
    /// indices, ascending.
    package var verbatim: [Int]
    package var leaseSeconds: Int
    /// URLs under which anyone may read the samples for `Limits.urlSeconds`, in the same order; nil
    /// where the source is a folder.
    package var sampleURLs: [String]?
    /// A URL under which anyone may read the model for as long; nil where the destination is a folder.
    package var modelURL: String?

    package init(
        lease: LeaseID,
        purpose: Purpose = .shard,
        job: JobID,
        ordinal: Int,
        source: String,
        destination: String,
        modelID: String,
        samples: [ShardSample],
        verbatim: [Int] = [],
        leaseSeconds: Int
    ) {
        self.lease = lease
        self.purpose = purpose
        self.job = job
        self.ordinal = ordinal
        self.source = source
        self.destination = destination
        self.modelID = modelID
        self.samples = samples
        self.verbatim = verbatim
        self.leaseSeconds = leaseSeconds
    }
}

/// The shards that a worker may work on now; none when the wait was in vain.
package struct LeaseReply: Equatable, Codable, Sendable {
    package var leases: [Lease]
    /// Whether every job has ended, so that a worker without a home may go.
    package var isDrained: Bool
    /// For the process, as in a heartbeat's answer.
    package var directive: Directive

    package init(leases: [Lease], isDrained: Bool, directive: Directive) {
        self.leases = leases
        self.isDrained = isDrained
        self.directive = directive
    }
}

/// What a shard holds, in numbers; adds up over shards.
package struct ShardTotals: Equatable, Codable, Sendable {
    /// Samples in the shard, side files included.
    package var samples: Int
    /// Samples coded by the flow.
    package var flowSamples: Int
    /// Samples kept as they were.
    package var storedSamples: Int
    /// Bytes of the source files.
    package var sourceBytes: Int64
    /// Channel values (pixels × 3) of the samples coded by the flow.
    package var flowDimensions: Int64
    /// Bytes that the flow made of them.
    package var flowBytes: Int64
    /// Why samples are not coded by the flow, and how many for each reason.
    package var storedReasons: [String: Int]

    package static let zero = ShardTotals(
        samples: 0,
        flowSamples: 0,
        storedSamples: 0,
        sourceBytes: 0,
        flowDimensions: 0,
        flowBytes: 0
    )

    package init(
        samples: Int,
        flowSamples: Int,
        storedSamples: Int,
        sourceBytes: Int64,
        flowDimensions: Int64,
        flowBytes: Int64,
        storedReasons: [String: Int] = [:]
    ) {
        self.samples = samples
        self.flowSamples = flowSamples
        self.storedSamples = storedSamples
        self.sourceBytes = sourceBytes
        self.flowDimensions = flowDimensions
        self.flowBytes = flowBytes
        self.storedReasons = storedReasons
    }

    package static func += (a: inout ShardTotals, b: ShardTotals) {
        a.samples += b.samples
        a.flowSamples += b.flowSamples
        a.storedSamples += b.storedSamples
        a.sourceBytes += b.sourceBytes
        a.flowDimensions += b.flowDimensions
        a.flowBytes += b.flowBytes
        a.storedReasons.merge(b.storedReasons, uniquingKeysWith: +)
    }
}

/// A sample that was not treated as it should have been, and why.
package struct SampleProblem: Equatable, Codable, Sendable {
    package var name: String
    package var reason: String

    package init(name: String, reason: String) {
        self.name = name
        self.reason = reason
    }
}

/// A worker's word that a shard's output lies in its place, decoded and compared.
package struct Completion: Equatable, Codable, Sendable {
    package var lease: LeaseID
    /// SHA-256 of the shard file, 64 lower-case hexadecimal digits.
    package var sha256: String
    /// Size of the shard file.
    package var bytes: Int64
    package var totals: ShardTotals
    package var problems: [SampleProblem]
    /// Seconds from the first byte read to this call.
    package var seconds: Double

    package init(
        lease: LeaseID,
        sha256: String,
        bytes: Int64,
        totals: ShardTotals,
        problems: [SampleProblem],
        seconds: Double
    ) {
        self.lease = lease
        self.sha256 = sha256
        self.bytes = bytes
        self.totals = totals
        self.problems = problems
        self.seconds = seconds
    }
}

/// Sent only after the commit is on the disk.
package struct CompletionReply: Equatable, Codable, Sendable {
    package var outcome: Outcome

    package enum Outcome: String, CaseIterable, Codable, Sendable {
        /// The output is the shard's output.
        case committed
        /// This very attempt was committed before; its answer was lost.
        case replay
        /// Another attempt was committed, and made the same bytes.
        case agreed
    }

    package init(outcome: Outcome) {
        self.outcome = outcome
    }
}

/// What kind of failure it was, which decides what happens next.
package enum FailureClass: String, CaseIterable, Codable, Sendable {
    /// Network, storage or memory: try again after a pause.
    case transient
    /// The job cannot work anywhere, such as a model that is missing: the job fails at once.
    case config
    /// The output did not decode to its source: try again elsewhere, and trust this worker no more.
    case integrity
}

/// A worker's word that an attempt failed.
package struct FailureReport: Equatable, Codable, Sendable {
    package var lease: LeaseID
    package var failureClass: FailureClass
    /// What failed and where, for people.
    package var message: String
    /// Seconds to wait at least before the next try, when storage said so.
    package var retryAfterSeconds: Int?

    package init(
        lease: LeaseID,
        failureClass: FailureClass,
        message: String,
        retryAfterSeconds: Int? = nil
    ) {
        self.lease = lease
        self.failureClass = failureClass
        self.message = message
        self.retryAfterSeconds = retryAfterSeconds
    }
}

/// A worker's word that the samples of a probe were encoded and verified.
package struct ClearRequest: Equatable, Codable, Sendable {
    package var lease: LeaseID

    package init(lease: LeaseID) {
        self.lease = lease
    }
}

/// Gives a shard back, unfinished and without blame.
package struct ReleaseRequest: Equatable, Codable, Sendable {
    package var lease: LeaseID
    /// For people.
    package var reason: String

    package init(lease: LeaseID, reason: String) {
        self.lease = lease
        self.reason = reason
    }
}

/// Nothing more to say than that it is done.
package struct Acknowledgement: Equatable, Codable, Sendable {
    package init() {}
}
