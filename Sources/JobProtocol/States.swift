/// A state machine's states, with the moves that are allowed between them.
///
/// The enumerations below, the diagrams in JobLifecycle.md and the CHECK constraints of the
/// coordinator's database are the same lists; a test compares them.
package protocol LifecycleState: RawRepresentable<String>, CaseIterable, Hashable, Codable,
    Sendable
{
    /// The states that may follow this one.
    var successors: Set<Self> { get }
    /// Whether nothing follows, unless somebody asks for it.
    var isFinal: Bool { get }
}

extension LifecycleState {
    package var isFinal: Bool { successors.isEmpty }
}

/// The life of a job.
package enum JobState: String, LifecycleState {
    /// The source is being scanned and no shard exists yet.
    case planning
    /// Shards wait; none was leased yet.
    case queued
    /// No shard is leased out until the job is resumed; shards in flight may finish. Also when too
    /// many attempts failed.
    case paused
    /// At least one shard was leased.
    case running
    /// Every shard is committed; the manifest is being written.
    case sealing
    /// The dataset is complete.
    case completed
    /// The dataset is complete, and the manifest names samples that had a problem.
    case completedWithFallbacks = "completed_with_fallbacks"
    /// No new lease; waits for the leases in flight to be given back or to expire.
    case cancelling
    /// Ended by its user. Nothing is committed any more.
    case cancelled
    /// Ended by an error, which the job's `failure` tells; may be tried again.
    case failed

    package var successors: Set<JobState> {
        switch self {
        case .planning: [.queued, .paused, .sealing, .cancelling, .failed]
        case .queued: [.paused, .running, .cancelling, .failed]
        case .paused: [.planning, .queued, .running, .cancelling, .failed]
        case .running: [.paused, .sealing, .cancelling, .failed]
        case .sealing: [.completed, .completedWithFallbacks, .failed]
        case .cancelling: [.cancelled]
        case .failed: [.planning, .queued, .running]
        case .completed, .completedWithFallbacks, .cancelled: []
        }
    }

    package var isFinal: Bool { self == .failed || successors.isEmpty }

    /// Whether the shards of a job in this state may be leased.
    package var isLeasable: Bool { self == .queued || self == .running }
}

/// The life of a shard.
package enum ShardState: String, LifecycleState {
    /// Waits for a worker.
    case pending
    /// A worker holds it until the lease's deadline, or two do, because the first is late.
    case leased
    /// Its output exists, was checked, and is final.
    case committed
    /// An attempt failed; pending again when its backoff is over.
    case retryWait = "retry_wait"
    /// Failed too often; pending again when its job is tried again.
    case quarantined
    /// Its job was cancelled or failed first; pending again when a failed job is tried again.
    case cancelled

    package var successors: Set<ShardState> {
        switch self {
        case .pending: [.leased, .cancelled]
        case .leased: [.committed, .retryWait, .pending, .quarantined, .cancelled]
        case .retryWait: [.pending, .cancelled]
        case .quarantined, .cancelled: [.pending]
        case .committed: []
        }
    }
}

/// The life of an attempt: one lease of one shard.
package enum AttemptState: String, LifecycleState {
    /// The worker holds the lease.
    case issued
    /// Its output was committed.
    case succeeded
    /// The worker reported a failure.
    case failed
    /// The lease ran out.
    case expired
    /// The lease was taken away: its worker was there, but did nothing on the shard for long.
    case stuck
    /// It reported after it had lost the lease; its output, if any, was compared and dropped.
    case fenced
    /// The worker gave the shard back; counts as no failure.
    case released
    /// Another attempt at the shard was committed first; counts as no failure.
    case superseded
    /// Its job was cancelled.
    case cancelled

    package var successors: Set<AttemptState> {
        switch self {
        case .issued:
            [.succeeded, .failed, .expired, .stuck, .released, .superseded, .cancelled]
        case .failed, .expired, .stuck, .released: [.fenced]
        case .succeeded, .fenced, .superseded, .cancelled: []
        }
    }
}

/// The life of a worker process as the coordinator sees it.
package enum WorkerState: String, LifecycleState {
    /// Known, has not asked for work yet.
    case registered
    /// Asks for work and heartbeats.
    case active
    /// Keeps what it has, gets nothing new.
    case paused
    /// Finishes what it has and leaves.
    case draining
    /// Said goodbye, or was silent for too long.
    case gone
    /// Gave reason for doubt, such as bytes that differ from another worker's; gets work again once
    /// its selftest went well.
    case suspect
    /// Speaks another protocol version.
    case incompatible

    package var successors: Set<WorkerState> {
        switch self {
        case .registered: [.active, .paused, .draining, .gone, .suspect, .incompatible]
        case .active: [.registered, .paused, .draining, .gone, .suspect, .incompatible]
        case .paused: [.registered, .active, .draining, .gone, .suspect, .incompatible]
        case .draining: [.gone, .suspect, .incompatible]
        case .gone: [.registered, .suspect, .incompatible]
        case .suspect: [.active, .draining, .gone]
        case .incompatible: [.gone, .registered]
        }
    }
}
