import GRDB
import JobProtocol

// How effects become rows.
extension JobQueue {
    static func write(_ effect: Effect, at now: Timestamp, to db: Database) throws {
        switch effect {
        case .insertJob(let job): try insert(job, db)
        case .changeJob(let before, let after): try change(before, after, db)
        case .insertShard(let shard, let samples): try insert(shard, samples, db)
        case .changeShard(let before, let after): try change(before, after, db)
        case .cancelOpenShards(let job): try cancelOpenShards(of: job, db)
        case .reopenShards(let job): try reopenShards(of: job, db)
        case .insertAttempt(let attempt): try insert(attempt, db)
        case .changeAttempt(let before, let after): try change(before, after, db)
        case .setPace(let pace):
            try execute(
                "INSERT OR REPLACE INTO pace VALUES (?, ?, ?)",
                [pace.modelID, pace.deviceClass, pace.secondsPerByte],
                db
            )
        case .insertWorker(let worker): try insert(worker, db)
        case .changeWorker(let before, let after): try change(before, after, db)
        case .recordProblems(let job, let shard, let problems):
            for problem in problems {
                try execute(
                    "INSERT INTO problem (job, shard, name, reason) VALUES (?, ?, ?, ?)",
                    [job.rawValue, shard?.rawValue, problem.name, problem.reason],
                    db
                )
            }
        case .recordEvent(let job, let ordinal, let worker, let kind, let detail):
            try execute(
                """
                INSERT INTO event (job, at_ms, ordinal, worker, kind, detail)
                VALUES (?, ?, ?, ?, ?, ?)
                """,
                [
                    job.rawValue, now.milliseconds, ordinal, worker?.rawValue, kind.rawValue,
                    detail,
                ],
                db
            )
        case .prolongEveryLease(let deadline):
            try execute(
                "UPDATE attempt SET deadline_ms = ?, moved_ms = ? WHERE state = 'issued'",
                [deadline.milliseconds, now.milliseconds],
                db
            )
        case .seeEveryWorker(let now):
            try execute(
                "UPDATE worker SET seen_ms = ? WHERE state NOT IN ('gone', 'incompatible')",
                [now.milliseconds],
                db
            )
        case .raiseIncarnation:
            try execute("UPDATE meta SET value = value + 1 WHERE key = 'incarnation'", [], db)
        }
    }

    private static func execute(
        _ sql: String,
        _ arguments: StatementArguments,
        _ db: Database
    ) throws {
        try db.cachedStatement(sql: sql).execute(arguments: arguments)
    }

    /// Executes a guarded update, which must find its one row.
    private static func executeGuarded(
        _ sql: String,
        _ arguments: StatementArguments,
        _ db: Database
    ) throws {
        try execute(sql, arguments, db)
        guard db.changesCount == 1 else {
            throw RowError(description: "a guarded update changed \(db.changesCount) rows: \(sql)")
        }
    }

    private static func insert(_ job: JobRecord, _ db: Database) throws {
        try execute(
            """
            INSERT INTO job (id, source, destination, model_id, shard_bytes, priority, max_workers,
                idempotency_key, submitter, created_ms, state)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                job.id.rawValue, job.source, job.destination, job.modelID, job.shardBytes,
                job.priority, job.maxWorkers, job.idempotencyKey, job.submitter,
                job.createdAt.milliseconds, job.state.rawValue,
            ],
            db
        )
    }

    private static func change(_ before: JobRecord, _ after: JobRecord, _ db: Database) throws {
        try executeGuarded(
            """
            UPDATE job SET state = ?, is_scan_finished = ?, problems = ?, failure = ?,
                pause_reason = ?, breaker = ?, turn = ?, dataset_digest = ?, started_ms = ?,
                finished_ms = ?
            WHERE id = ? AND state = ?
            """,
            [
                after.state.rawValue, after.isScanFinished, after.problems, after.failure,
                after.pauseReason, after.breaker.map { json($0) }, after.turn,
                after.datasetDigest, after.startedAt?.milliseconds,
                after.finishedAt?.milliseconds, before.id.rawValue, before.state.rawValue,
            ],
            db
        )
    }

    private static func insert(
        _ shard: ShardRecord,
        _ samples: [ShardSample],
        _ db: Database
    ) throws {
        try execute(
            """
            INSERT INTO shard (id, job, ordinal, samples, source_bytes, state, fence, failures,
                crashes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                shard.id.rawValue, shard.job.rawValue, shard.ordinal, shard.samples,
                shard.sourceBytes, shard.state.rawValue, shard.fence.packed, shard.failures,
                shard.crashes,
            ],
            db
        )
        try execute(
            "INSERT INTO plan (shard, samples) VALUES (?, ?)",
            [shard.id.rawValue, json(samples)],
            db
        )
        try add(shard.tally, to: shard.job, "shard", shard.state.rawValue, db)
    }

    private static func change(
        _ before: ShardRecord,
        _ after: ShardRecord,
        _ db: Database
    ) throws {
        try executeGuarded(
            """
            UPDATE shard SET state = ?, fence = ?, not_before_ms = ?, failures = ?, crashes = ?,
                search = ?, sha256 = ?, output_bytes = ?, totals = ?
            WHERE id = ? AND fence = ? AND state = ?
            """,
            [
                after.state.rawValue, after.fence.packed, after.notBefore?.milliseconds,
                after.failures, after.crashes, after.search.map { json($0) },
                after.output?.sha256, after.output?.bytes, after.output.map { json($0.totals) },
                before.id.rawValue, before.fence.packed, before.state.rawValue,
            ],
            db
        )
        guard after.state != before.state else { return }
        try subtract(before.tally, from: before.job, "shard", before.state.rawValue, db)
        try add(after.tally, to: after.job, "shard", after.state.rawValue, db)
    }

    private static func cancelOpenShards(of job: JobID, _ db: Database) throws {
        for state in ShardState.open {
            try move(state, to: .cancelled, of: job, setting: "not_before_ms = NULL", db)
        }
    }

    private static func reopenShards(of job: JobID, _ db: Database) throws {
        for state in ShardState.reopenable {
            let fresh = "failures = 0, crashes = 0, search = NULL"
            try move(state, to: .pending, of: job, setting: fresh, db)
        }
    }

    /// Moves every shard of a job from one state to another, with its counters.
    private static func move(
        _ before: ShardState,
        to after: ShardState,
        of job: JobID,
        setting columns: String,
        _ db: Database
    ) throws {
        guard let tally = try tallies(of: job, in: db)[before], tally.shards > 0 else { return }
        try execute(
            "UPDATE shard SET state = ?, \(columns) WHERE job = ? AND state = ?",
            [after.rawValue, job.rawValue, before.rawValue],
            db
        )
        guard db.changesCount == tally.shards else {
            throw RowError(description: "job \(job) has miscounted its \(before.rawValue) shards")
        }
        try subtract(tally, from: job, "shard", before.rawValue, db)
        try add(tally, to: job, "shard", after.rawValue, db)
    }

    private static func insert(_ attempt: AttemptRecord, _ db: Database) throws {
        try execute(
            """
            INSERT INTO attempt (shard, fence, job, worker, issued_ms, state, deadline_ms,
                done_samples, done_bytes, steps, moved_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                attempt.lease.shard.rawValue, attempt.lease.fence.packed, attempt.job.rawValue,
                attempt.worker.rawValue, attempt.issuedAt.milliseconds, attempt.state.rawValue,
                attempt.deadline?.milliseconds, attempt.doneSamples, attempt.doneBytes,
                attempt.steps, attempt.movedAt.milliseconds,
            ],
            db
        )
        try add(.one, to: attempt.job, "attempt", attempt.state.rawValue, db)
    }

    private static func change(
        _ before: AttemptRecord,
        _ after: AttemptRecord,
        _ db: Database
    ) throws {
        try executeGuarded(
            """
            UPDATE attempt SET state = ?, deadline_ms = ?, done_samples = ?, done_bytes = ?,
                steps = ?, moved_ms = ?, failure_class = ?, message = ?, sha256 = ?, seconds = ?,
                ended_ms = ?
            WHERE shard = ? AND fence = ? AND state = ?
            """,
            [
                after.state.rawValue, after.deadline?.milliseconds, after.doneSamples,
                after.doneBytes, after.steps, after.movedAt.milliseconds,
                after.failureClass?.rawValue, after.message, after.sha256,
                after.seconds, after.endedAt?.milliseconds, before.lease.shard.rawValue,
                before.lease.fence.packed, before.state.rawValue,
            ],
            db
        )
        guard after.state != before.state else { return }
        try subtract(.one, from: before.job, "attempt", before.state.rawValue, db)
        try add(.one, to: after.job, "attempt", after.state.rawValue, db)
    }

    private static func insert(_ worker: WorkerRecord, _ db: Database) throws {
        let registration = worker.registration
        try execute(
            """
            INSERT INTO worker (id, protocol_version, version, host, device, instruction_set,
                slots, state, seen_ms, source_bytes_per_second, completed, failed)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                worker.id.rawValue, registration.protocolVersion, registration.version,
                registration.host, registration.device, registration.instructionSet,
                registration.slots, worker.state.rawValue, worker.seenAt.milliseconds,
                worker.sourceBytesPerSecond, worker.completed, worker.failed,
            ],
            db
        )
    }

    private static func change(
        _ before: WorkerRecord,
        _ after: WorkerRecord,
        _ db: Database
    ) throws {
        let registration = after.registration
        try executeGuarded(
            """
            UPDATE worker SET protocol_version = ?, version = ?, host = ?, device = ?,
                instruction_set = ?, slots = ?, state = ?, seen_ms = ?,
                source_bytes_per_second = ?, completed = ?, failed = ?, cleared_completed = ?,
                cleared_failed = ?, suspicion = ?, has_failed_selftest = ?
            WHERE id = ? AND state = ?
            """,
            [
                registration.protocolVersion, registration.version, registration.host,
                registration.device, registration.instructionSet, registration.slots,
                after.state.rawValue, after.seenAt.milliseconds, after.sourceBytesPerSecond,
                after.completed, after.failed, after.cleared.completed, after.cleared.failed,
                after.suspicion, after.hasFailedSelftest, before.id.rawValue,
                before.state.rawValue,
            ],
            db
        )
    }
}

// MARK: - Counters

extension Tally {
    /// One attempt.
    fileprivate static let one = Tally(shards: 1, samples: 0, sourceBytes: 0, outputBytes: 0)
}

extension JobQueue {
    private static func add(
        _ tally: Tally,
        to job: JobID,
        _ subject: String,
        _ state: String,
        _ db: Database
    ) throws {
        try execute(
            """
            INSERT INTO counter (job, subject, state, n, samples, source_bytes, output_bytes)
            VALUES (?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (job, subject, state) DO UPDATE SET n = n + excluded.n,
                samples = samples + excluded.samples,
                source_bytes = source_bytes + excluded.source_bytes,
                output_bytes = output_bytes + excluded.output_bytes
            """,
            [
                job.rawValue, subject, state, tally.shards, tally.samples, tally.sourceBytes,
                tally.outputBytes,
            ],
            db
        )
    }

    private static func subtract(
        _ tally: Tally,
        from job: JobID,
        _ subject: String,
        _ state: String,
        _ db: Database
    ) throws {
        try executeGuarded(
            """
            UPDATE counter SET n = n - ?, samples = samples - ?, source_bytes = source_bytes - ?,
                output_bytes = output_bytes - ?
            WHERE job = ? AND subject = ? AND state = ?
            """,
            [
                tally.shards, tally.samples, tally.sourceBytes, tally.outputBytes, job.rawValue,
                subject, state,
            ],
            db
        )
    }
}
