package import GRDB
import JobProtocol

// What each command has to know.
extension JobQueue {
    /// Leases, retries and workers that one `reap` looks at; the next one takes the rest.
    static let reapLimit = 1024
    /// Old leases of a job that one `lease` looks at.
    static let slowLimit = 8
    /// The condition under which the index `job_destination` is used.
    static let isUnfinished =
        "state NOT IN ('completed', 'completed_with_fallbacks', 'cancelled', 'failed')"

    static func load(
        for command: Command,
        now: Timestamp,
        leaseSeconds: Int,
        from db: Database
    ) throws -> QueueState {
        var loader = Loader(db: db, state: QueueState(incarnation: try incarnation(db)))
        loader.state.leaseSeconds = leaseSeconds
        try loader.load(for: command, now: now)
        return loader.state
    }

    static func incarnation(_ db: Database) throws -> UInt32 {
        let incarnation = try UInt32.fetchOne(
            db.cachedStatement(sql: "SELECT value FROM meta WHERE key = 'incarnation'")
        )
        guard let incarnation else { throw RowError(description: "meta has no incarnation") }
        return incarnation
    }
}

private struct Loader {
    let db: Database
    var state: QueueState

    mutating func load(for command: Command, now: Timestamp) throws {
        switch command {
        case .start(workersSurvived: true):
            break
        case .start(workersSurvived: false), .restored:
            try loadOldLeases(until: nil, limit: -1)
        case .submit(let request, _, let submitter):
            state.nextJob = JobID(rawValue: try next("job"))
            try loadJobs(
                "idempotency_key = ?",
                [request.idempotencyKey]
            )
            try loadJobs("destination = ? AND \(JobQueue.isUnfinished)", [request.destination])
            try loadOpenJobs(of: submitter)
        case .retry(let job, _, let submitter):
            try load(job)
            try loadOpenJobs(of: submitter)
            if let destination = state.jobs[job]?.destination {
                try loadJobs("destination = ? AND \(JobQueue.isUnfinished)", [destination])
            }
        case .appendShard(let job, _, _):
            state.nextShard = ShardID(rawValue: try next("shard"))
            try load(job)
        case .finishScan(let job, _), .seal(let job, _), .abandon(let job, _), .pause(let job),
            .resume(let job), .cancel(let job):
            try load(job)
        case .register(let registration):
            try load(registration.worker)
        case .pauseWorker(let worker), .resumeWorker(let worker), .drainWorker(let worker):
            try load(worker)
        case .reportSelftest(let report):
            try load(report.worker)
        case .lease(let worker, let shards):
            try load(worker)
            try loadPending(for: worker, limit: shards)
            if state.queue.count < shards { try loadSlowLeases(for: worker, now: now) }
        case .heartbeat(let heartbeat):
            try load(heartbeat.worker)
            for progress in heartbeat.leases {
                try load(progress.lease.shard)
                let movedAt = state.attempts[progress.lease]?.movedAt ?? now
                if movedAt <= now.advanced(bySeconds: -Limits.stuckSeconds) {
                    try loadFailures(beside: progress.lease)
                }
            }
        case .renew(let leases):
            for lease in leases { try load(lease.shard) }
        case .complete(let completion, _):
            try load(completion.lease)
            try loadPace(of: completion.lease)
        case .clear(let request):
            try load(request.lease)
        case .fail(let report):
            try load(report.lease)
            try loadFailures(beside: report.lease)
        case .release(let request):
            try load(request.lease)
        case .reap:
            try loadOldLeases(until: now, limit: JobQueue.reapLimit)
            try loadWaiting(until: now)
            try loadSilentWorkers(now: now)
        }
    }

    /// Returns the number that the next row of a table with AUTOINCREMENT takes.
    private func next(_ table: String) throws -> Int64 {
        let last = try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT seq FROM sqlite_sequence WHERE name = ?"),
            arguments: [table]
        )
        return (last ?? 0) + 1
    }

    private mutating func loadOpenJobs(of submitter: Submitter?) throws {
        guard let submitter, submitter.openJobs != nil else { return }
        state.openJobs =
            try Int.fetchOne(
                db.cachedStatement(
                    sql: """
                        SELECT count(*) FROM job WHERE submitter = ? AND \(JobQueue.isUnfinished)
                        """
                ),
                arguments: [submitter.id]
            ) ?? 0
    }

    private mutating func loadJobs(
        _ condition: String,
        _ arguments: StatementArguments = []
    ) throws {
        let rows = try Row.fetchCursor(
            db.cachedStatement(sql: "SELECT * FROM job WHERE \(condition)"),
            arguments: arguments
        )
        while let row = try rows.next() {
            let job = try JobRecord(row)
            state.jobs[job.id] = job
        }
    }

    private mutating func load(_ job: JobID) throws {
        guard state.jobs[job] == nil else { return }
        try loadJobs("id = ?", [job.rawValue])
        state.tallies[job] = try JobQueue.tallies(of: job, in: db)
    }

    private mutating func load(_ worker: WorkerID) throws {
        guard state.workers[worker] == nil else { return }
        let row = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT * FROM worker WHERE id = ?"),
            arguments: [worker.rawValue]
        )
        state.workers[worker] = try row.map(WorkerRecord.init)
    }

    /// Loads a shard with its job and the attempts that hold it.
    private mutating func load(_ shard: ShardID) throws {
        let row = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT * FROM shard WHERE id = ?"),
            arguments: [shard.rawValue]
        )
        guard let row else { return }
        let record = try ShardRecord(row)
        state.shards[shard] = record
        try load(record.job)
        guard record.state == .leased else { return }
        let attempts = try Row.fetchCursor(
            db.cachedStatement(
                sql: "SELECT * FROM attempt WHERE shard = ? AND state = 'issued'"
            ),
            arguments: [shard.rawValue]
        )
        while let row = try attempts.next() {
            state.note(try AttemptRecord(row))
        }
    }

    /// Loads an attempt with its shard, its job and its worker, and the one that was committed.
    private mutating func load(_ lease: LeaseID) throws {
        try load(lease.shard)
        try loadAttempt(lease)
        if let shard = state.shards[lease.shard], shard.state == .committed {
            try loadAttempt(shard.lease)
        }
    }

    /// Loads an attempt with its worker.
    private mutating func loadAttempt(_ lease: LeaseID) throws {
        if state.attempts[lease] == nil {
            let row = try Row.fetchOne(
                db.cachedStatement(sql: "SELECT * FROM attempt WHERE shard = ? AND fence = ?"),
                arguments: [lease.shard.rawValue, lease.fence.packed]
            )
            guard let row else { return }
            state.note(try AttemptRecord(row))
        }
        if let worker = state.attempts[lease]?.worker {
            try load(worker)
        }
    }

    /// Loads the jobs with work, and the next shards of those whose turn it is, each job's in the
    /// order of the dataset.
    private mutating func loadPending(for worker: WorkerID, limit: Int) throws {
        try loadJobs("\(JobQueue.isUnfinished) AND state IN ('queued', 'running')")
        for job in state.jobs.values {
            state.tallies[job.id] = try JobQueue.tallies(of: job.id, in: db)
            if job.maxWorkers != nil {
                state.holders[job.id] = try holders(of: job.id, asker: worker)
            }
        }
        let turns = Dictionary(grouping: state.jobsToLease(shards: limit)) { $0 }
        for (job, turns) in turns {
            let rows = try Row.fetchCursor(
                db.cachedStatement(
                    sql: """
                        SELECT * FROM shard INDEXED BY shard_pending
                        WHERE job = ? AND state = 'pending' ORDER BY ordinal LIMIT ?
                        """
                ),
                arguments: [job.rawValue, turns.count]
            )
            while let row = try rows.next() {
                let shard = try ShardRecord(row)
                state.shards[shard.id] = shard
                state.queue.append(shard.id)
            }
        }
    }

    /// Loads the oldest leases of jobs with nothing pending, those aside whose shards have a second
    /// worker already.
    private mutating func loadSlowLeases(for worker: WorkerID, now: Timestamp) throws {
        let waiting = state.tallies.filter { ($1[.pending]?.shards ?? 0) > 0 }
        for job in state.jobs.keys.sorted() where waiting[job] == nil {
            let rows = try Row.fetchAll(
                db.cachedStatement(
                    sql: """
                        SELECT shard, fence FROM attempt INDEXED BY attempt_issued
                        WHERE job = ? AND state = 'issued' AND issued_ms < ? AND worker <> ?
                            AND NOT EXISTS (SELECT 1 FROM attempt AS other
                                WHERE other.shard = attempt.shard AND other.fence <> attempt.fence
                                    AND other.state = 'issued')
                        ORDER BY issued_ms LIMIT ?
                        """
                ),
                arguments: [
                    job.rawValue, now.advanced(bySeconds: -Limits.lateSeconds).milliseconds,
                    worker.rawValue, JobQueue.slowLimit,
                ]
            )
            for row in rows {
                let lease = LeaseID(row)
                try load(lease)
                try loadPace(of: lease)
                state.slowLeases.append(lease)
            }
        }
    }

    /// Loads the pace of a lease's model and of its worker's class.
    private mutating func loadPace(of lease: LeaseID) throws {
        guard let attempt = state.attempts[lease], let worker = state.workers[attempt.worker],
            let job = state.jobs[attempt.job]
        else { return }
        let (model, device) = (job.modelID, worker.registration.deviceClass)
        let seconds = try Double.fetchOne(
            db.cachedStatement(
                sql: "SELECT seconds_per_byte FROM pace WHERE model_id = ? AND device_class = ?"
            ),
            arguments: [model, device]
        )
        state.paces[.init(modelID: model, deviceClass: device)] = seconds.map {
            Pace(modelID: model, deviceClass: device, secondsPerByte: $0)
        }
    }

    private func holders(of job: JobID, asker: WorkerID) throws -> QueueState.Holders {
        let row = try Row.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT count(DISTINCT worker) AS n, ifnull(max(worker = ?), 0) AS includes_asker
                    FROM attempt INDEXED BY attempt_held WHERE job = ? AND state = 'issued'
                    """
            ),
            arguments: [asker.rawValue, job.rawValue]
        )
        return QueueState.Holders(
            count: row?["n"] ?? 0,
            includesAsker: row?["includes_asker"] ?? false
        )
    }

    /// Loads leases that a command ends, oldest deadline first, with everything that this touches.
    ///
    /// - Parameters:
    ///   - deadline: Those that ran out by then; nil for all.
    ///   - limit: Most leases; -1 for all.
    /// - Throws: What the database throws.
    private mutating func loadOldLeases(until deadline: Timestamp?, limit: Int) throws {
        let rows = try Row.fetchAll(
            db.cachedStatement(
                sql: """
                    SELECT shard, fence FROM attempt INDEXED BY attempt_deadline
                    WHERE state = 'issued' AND deadline_ms <= ? ORDER BY deadline_ms LIMIT ?
                    """
            ),
            arguments: [deadline?.milliseconds ?? Int64.max, limit]
        )
        for row in rows {
            let lease = LeaseID(row)
            try load(lease)
            try loadLosses(of: lease)
            state.oldLeases.append(lease)
        }
    }

    /// Loads shards whose wait is over.
    private mutating func loadWaiting(until now: Timestamp) throws {
        let rows = try Row.fetchAll(
            db.cachedStatement(
                sql: """
                    SELECT * FROM shard INDEXED BY shard_waiting
                    WHERE state = 'retry_wait' AND not_before_ms <= ? ORDER BY not_before_ms LIMIT ?
                    """
            ),
            arguments: [now.milliseconds, JobQueue.reapLimit]
        )
        for row in rows {
            let shard = try ShardRecord(row)
            state.shards[shard.id] = shard
            try load(shard.job)
            state.queue.append(shard.id)
        }
    }

    /// Loads what a failure of an attempt is to be seen with.
    private mutating func loadFailures(beside lease: LeaseID) throws {
        guard let attempt = state.attempts[lease] else { return }
        try loadLosses(of: lease)
        try loadOutcomes(beside: attempt.worker)
        state.succeeded[attempt.job] = try Int.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT n FROM counter
                    WHERE job = ? AND subject = 'attempt' AND state = 'succeeded'
                    """
            ),
            arguments: [attempt.job.rawValue]
        )
        state.fleetWorkers =
            try Int.fetchOne(
                db.cachedStatement(
                    sql: "SELECT count(*) FROM worker WHERE state NOT IN ('gone', 'incompatible')"
                )
            ) ?? 0
    }

    /// Loads which hosts a shard has cost workers, where one more loss may make it suspected.
    private mutating func loadLosses(of lease: LeaseID) throws {
        guard let shard = state.shards[lease.shard],
            shard.crashes + (state.leases[shard.id]?.count ?? 0) >= Limits.suspectLosses
        else { return }
        state.lossHosts[shard.id] = try Int.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT count(DISTINCT host) FROM worker WHERE id IN (
                        SELECT worker FROM attempt WHERE shard = ? AND (
                            fence = ? OR state IN ('expired', 'stuck', 'fenced')
                                OR failure_class = 'integrity'))
                    """
            ),
            arguments: [shard.id.rawValue, lease.fence.packed]
        )
        state.fleetHosts =
            try Int.fetchOne(
                db.cachedStatement(sql: "SELECT count(DISTINCT host) FROM worker")
            ) ?? 0
    }

    /// Loads what became of the other workers' attempts, where this one may soon be compared with them.
    private mutating func loadOutcomes(beside worker: WorkerID) throws {
        guard let own = state.workers[worker]?.outcomes.failed,
            own + 1 >= Limits.failuresForSuspicion
        else { return }
        let row = try Row.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT sum(completed - cleared_completed) AS completed,
                        sum(failed - cleared_failed) AS failed
                    FROM worker WHERE state NOT IN ('gone', 'incompatible') AND id <> ?
                    """
            ),
            arguments: [worker.rawValue]
        )
        state.otherOutcomes = row.map {
            Outcomes(completed: $0["completed"] ?? 0, failed: $0["failed"] ?? 0)
        }
    }

    private mutating func loadSilentWorkers(now: Timestamp) throws {
        let since = now.advanced(bySeconds: -state.leaseSeconds)
        let rows = try Row.fetchAll(
            db.cachedStatement(
                sql: """
                    SELECT * FROM worker WHERE state NOT IN ('gone', 'incompatible')
                    AND seen_ms <= ? LIMIT ?
                    """
            ),
            arguments: [since.milliseconds, JobQueue.reapLimit]
        )
        for row in rows {
            let worker = try WorkerRecord(row)
            state.workers[worker.id] = worker
            state.silentWorkers.append(worker.id)
        }
    }
}

extension JobQueue {
    /// Returns a job's shard counters; states that never occurred are absent.
    static func tallies(of job: JobID, in db: Database) throws -> [ShardState: Tally] {
        var tallies: [ShardState: Tally] = [:]
        let rows = try Row.fetchCursor(
            db.cachedStatement(
                sql: "SELECT * FROM counter WHERE job = ? AND subject = 'shard'"
            ),
            arguments: [job.rawValue]
        )
        while let row = try rows.next() {
            tallies[try row.state("state")] = Tally(row)
        }
        return tallies
    }

    /// Returns what the counters say that a count of the rows does not say, and the reverse.
    ///
    /// Reads every shard and attempt.
    package static func miscounts(in db: Database) throws -> [String] {
        let counted = """
            SELECT job, 'shard' AS subject, state, count(*) AS n, sum(samples) AS samples,
                sum(source_bytes) AS source_bytes,
                sum(ifnull(output_bytes, 0)) AS output_bytes
            FROM shard GROUP BY job, state
            UNION ALL SELECT job, 'attempt', state, count(*), 0, 0, 0
            FROM attempt GROUP BY job, state
            """
        let kept = """
            SELECT job, subject, state, n, samples, source_bytes, output_bytes
            FROM counter WHERE n > 0 OR samples > 0 OR source_bytes > 0 OR output_bytes > 0
            """
        return try Row.fetchAll(
            db,
            sql: """
                SELECT * FROM (SELECT * FROM (\(counted)) EXCEPT \(kept))
                UNION ALL SELECT * FROM (\(kept) EXCEPT SELECT * FROM (\(counted)))
                """
        ).map(\.description)
    }
}
