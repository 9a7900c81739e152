package import JobProtocol

/// Everything that can happen to the queue.
package enum Command: Sendable {
    /// The coordinator starts: every lease and every worker gets one full lease time from now; or,
    /// when the workers ended with the coordinator before, their shards are free at once.
    case start(workersSurvived: Bool)
    /// The database was restored from a backup: no fence handed out before holds any more.
    case restored

    /// A job is asked for. `obstacle` is what stands in the way of a new one in the file system.
    case submit(SubmitRequest, obstacle: Problem?, by: Submitter? = nil)
    /// The scan filled a shard; `skipped` are the entries on the way that are no samples.
    case appendShard(JobID, samples: [ShardSample], skipped: [SampleProblem])
    /// The scan reached the end of the source.
    case finishScan(JobID, skipped: [SampleProblem])
    /// The manifest is in its place.
    case seal(JobID, datasetDigest: String)
    /// The coordinator cannot go on with the job.
    case abandon(JobID, reason: String)
    case pause(JobID)
    case resume(JobID)
    case cancel(JobID)
    /// A failed job is tried again. `obstacle` as for `submit`.
    case retry(JobID, obstacle: Problem?, by: Submitter? = nil)

    case register(WorkerRegistration)
    case pauseWorker(WorkerID)
    case resumeWorker(WorkerID)
    case drainWorker(WorkerID)
    case reportSelftest(SelftestReport)

    case lease(WorkerID, shards: Int)
    case heartbeat(Heartbeat)
    /// The outputs of these leases are being checked: none of them runs out meanwhile.
    case renew(Set<LeaseID>)
    /// `mismatch` tells how the output in its place differs from what the worker says; nil if not.
    case complete(Completion, mismatch: String?)
    case clear(ClearRequest)
    case fail(FailureReport)
    case release(ReleaseRequest)
    /// Time has passed: leases run out, backoffs end, silent workers are forgotten.
    case reap
}

/// Somebody who makes jobs.
package struct Submitter: Equatable, Sendable {
    /// The same for all that they submit.
    package let id: String
    /// Jobs of theirs that may be unfinished at one time; nil for any number.
    package let openJobs: Int?

    package init(id: String, openJobs: Int?) {
        self.id = id
        self.openJobs = openJobs
    }
}

/// What a command answers.
package enum Reply: Equatable, Sendable {
    case done
    case submitted(SubmitReply)
    case leased([LeaseID], Directive)
    case heartbeat(HeartbeatReply)
    case directed(Directive)
    case completed(CompletionReply.Outcome)
}

/// The part of the queue that a command concerns, as it was before.
package struct QueueState: Sendable {
    package var incarnation: UInt32
    /// Life of a lease without a heartbeat.
    package var leaseSeconds = Limits.leaseSeconds
    /// The number that a new job takes.
    package var nextJob = JobID(rawValue: 1)
    /// The number that a new shard takes.
    package var nextShard = ShardID(rawValue: 1)
    package var jobs: [JobID: JobRecord] = [:]
    /// Unfinished jobs of the submitter who asks; 0 where the number is not limited.
    package var openJobs = 0
    /// The counters of these jobs.
    package var tallies: [JobID: [ShardState: Tally]] = [:]
    package var shards: [ShardID: ShardRecord] = [:]
    package var attempts: [LeaseID: AttemptRecord] = [:]
    /// The leases under which shards are.
    package var leases: [ShardID: Set<LeaseID>] = [:]
    package var workers: [WorkerID: WorkerRecord] = [:]
    /// Attempts of jobs that succeeded, where an attempt may have failed.
    package var succeeded: [JobID: Int] = [:]
    /// Workers that there are; 0 where no job may be paused.
    package var fleetWorkers = 0
    /// What became of the attempts of all other workers; nil where no worker may be compared.
    package var otherOutcomes: Outcomes?
    /// The leases that `lease` may give a second worker the shards of, oldest first.
    package var slowLeases: [LeaseID] = []
    /// The known paces of the models and classes of device that the command is about.
    package var paces: [PaceKey: Pace] = [:]
    /// Who holds leases of the jobs that limit their workers, as seen by the worker that asks.
    package var holders: [JobID: Holders] = [:]
    /// Hosts that workers were lost on, the present holders' included, of shards that may be suspected.
    package var lossHosts: [ShardID: Int] = [:]
    /// Hosts that workers ever came from; 0 where no shard may be suspected.
    package var fleetHosts = 0
    /// The shards that `lease` and `reap` may take, in the order to take them.
    package var queue: [ShardID] = []
    /// The leases that `reap`, `start` and `restored` may end.
    package var oldLeases: [LeaseID] = []
    /// The workers that `reap` may forget.
    package var silentWorkers: [WorkerID] = []

    /// What a pace is of.
    package struct PaceKey: Hashable, Sendable {
        let modelID: String
        let deviceClass: String

        package init(modelID: String, deviceClass: String) {
            self.modelID = modelID
            self.deviceClass = deviceClass
        }
    }

    /// The workers that hold leases of a job.
    package struct Holders: Sendable {
        package var count: Int
        /// Whether the worker that asks is one of them.
        package var includesAsker: Bool

        package init(count: Int, includesAsker: Bool) {
            self.count = count
            self.includesAsker = includesAsker
        }
    }

    package init(incarnation: UInt32) {
        self.incarnation = incarnation
    }

    /// Takes in an attempt as it is now.
    package mutating func note(_ attempt: AttemptRecord) {
        attempts[attempt.lease] = attempt
        if attempt.state == .issued {
            leases[attempt.lease.shard, default: []].insert(attempt.lease)
        } else {
            leases[attempt.lease.shard]?.remove(attempt.lease)
        }
    }
}

/// A write to the database.
///
/// A change carries the record before and after: the row is written only where state and fence
/// are still those of the record before, and the counters move by the difference.
package enum Effect: Equatable, Sendable {
    case insertJob(JobRecord)
    case changeJob(JobRecord, JobRecord)
    case insertShard(ShardRecord, [ShardSample])
    case changeShard(ShardRecord, ShardRecord)
    /// Moves every pending or waiting shard of the job to `cancelled`.
    case cancelOpenShards(JobID)
    /// Moves every shard of the job that was given up or cancelled to `pending`, its tries forgotten.
    case reopenShards(JobID)
    case insertAttempt(AttemptRecord)
    case changeAttempt(AttemptRecord, AttemptRecord)
    case setPace(Pace)
    case insertWorker(WorkerRecord)
    case changeWorker(WorkerRecord, WorkerRecord)
    case recordProblems(JobID, ShardID?, [SampleProblem])
    case recordEvent(JobID, ordinal: Int?, WorkerID?, JobEvent.Kind, String)
    /// Sets the deadline of every lease; the time without a step begins anew.
    case prolongEveryLease(until: Timestamp)
    /// Sets the last sign of life of every worker that is not gone.
    case seeEveryWorker(at: Timestamp)
    case raiseIncarnation
}

/// The outcome of a command: what to write, and what to answer once it is written.
///
/// A refusal may come with writes: an attempt that reports too late is marked as fenced.
package struct Decision: Sendable {
    package let effects: [Effect]
    package let reply: Result<Reply, Problem>
}
