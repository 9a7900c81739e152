import Coordinator
import GRDB
import JobProtocol

// What lies in the queue's tables.
extension Simulation {
    func read<Value>(_ body: (Database) throws -> Value) throws -> Value {
        guard let queue else { preconditionFailure("the queue is open between steps") }
        return try queue.database.unsafeRead(body)
    }

    private func number(_ sql: String, _ arguments: StatementArguments = []) throws -> Int64 {
        try read { db in
            try Int64.fetchOne(db.cachedStatement(sql: sql), arguments: arguments)
        } ?? 0
    }

    func lastEvent() throws -> Int64 { try number("SELECT max(id) FROM event") }

    func incarnation() throws -> Int64 {
        try number("SELECT value FROM meta WHERE key = 'incarnation'")
    }

    func raiseIncarnation(to value: Int64) throws {
        try read { db in
            try db.execute(
                sql: "UPDATE meta SET value = max(value, ?) WHERE key = 'incarnation'",
                arguments: [value]
            )
        }
    }

    /// Failures and losses of all shards together.
    func tries() throws -> Int64 { try number("SELECT sum(failures + crashes) FROM shard") }

    func workerState(of worker: WorkerID) throws -> WorkerState? {
        try read { db in
            try String.fetchOne(
                db.cachedStatement(sql: "SELECT state FROM worker WHERE id = ?"),
                arguments: [worker.rawValue]
            )
        }.flatMap(WorkerState.init(rawValue:))
    }

    /// Returns the number of shards that a job has so far; nil when its scan has ended.
    func planned(of job: JobID) throws -> Int? {
        let isScanned = try number("SELECT is_scan_finished FROM job WHERE id = ?", [job.rawValue])
        guard isScanned == 0 else { return nil }
        return Int(try number("SELECT count(*) FROM shard WHERE job = ?", [job.rawValue]))
    }

    func events(after last: Int64) throws -> [Ledger.Event] {
        try read { db in
            try Row.fetchAll(
                db.cachedStatement(
                    sql: """
                        SELECT id, job, ordinal, worker, kind, detail FROM event WHERE id > ?
                        ORDER BY id
                        """
                ),
                arguments: [last]
            ).map { row in
                guard let kind = JobEvent.Kind(rawValue: row["kind"]) else {
                    throw Violation(description: "\(row) is no event")
                }
                let worker: String? = row["worker"]
                return Ledger.Event(
                    id: row["id"],
                    job: JobID(rawValue: row["job"]),
                    ordinal: row["ordinal"],
                    worker: worker.flatMap(WorkerID.init(rawValue:)),
                    kind: kind,
                    detail: row["detail"]
                )
            }
        }
    }

    /// Returns the jobs of leases.
    func jobs(of leases: [LeaseID]) throws -> [JobID] {
        try leases.map { lease in
            let sql = "SELECT job FROM shard WHERE id = ?"
            return JobID(rawValue: try number(sql, [lease.shard.rawValue]))
        }
    }

    /// Returns what jobs may expect when a worker asks for a shard.
    func claims(of worker: WorkerID) throws -> [Claim] {
        try read { db in
            try Row.fetchAll(
                db.cachedStatement(
                    sql: """
                        SELECT id, priority, max_workers, state,
                            (SELECT count(*) FROM shard
                                WHERE job = job.id AND state = 'leased') AS leased,
                            EXISTS (SELECT 1 FROM shard
                                WHERE job = job.id AND state = 'pending') AS is_pending,
                            (SELECT count(DISTINCT worker) FROM attempt
                                WHERE job = job.id AND state = 'issued') AS workers,
                            EXISTS (SELECT 1 FROM attempt WHERE job = job.id
                                AND state = 'issued' AND worker = ?) AS includes_asker
                        FROM job
                        """
                ),
                arguments: [worker.rawValue]
            ).map { row in
                let (workers, most) = (row["workers"] as Int, row["max_workers"] as Int?)
                let (isPending, includesAsker) = (
                    row["is_pending"] as Bool, row["includes_asker"] as Bool
                )
                let hasRoom = includesAsker || most.map { workers < $0 } ?? true
                let isLeasable = JobState(rawValue: row["state"])?.isLeasable == true
                return Claim(
                    job: JobID(rawValue: row["id"]),
                    priority: row["priority"],
                    leased: row["leased"],
                    isWaiting: isLeasable && isPending && hasRoom,
                    workers: workers,
                    maxWorkers: most
                )
            }
        }
    }

    /// Returns what a worker has to know about its leases.
    func described(_ leases: [LeaseID]) throws -> [Lease] {
        try read { db in
            try leases.map {
                try JobQueue.describe($0, leaseSeconds: Limits.leaseSeconds, in: db)
            }
        }
    }

    /// Returns the answer that a completion has to get; nil for other commands.
    func expectedAnswer(to command: Command) throws -> ExpectedAnswer? {
        guard case .complete(let completion, let mismatch) = command else { return nil }
        let lease = completion.lease
        let situation = try read { db in
            try Row.fetchOne(
                db.cachedStatement(
                    sql: """
                        SELECT shard.sha256 AS committed, shard.fence AS shard_fence, search,
                            shard.samples AS samples,
                            attempt.state AS attempt_state, job.state AS job_state
                        FROM attempt JOIN shard ON shard.id = attempt.shard
                            JOIN job ON job.id = attempt.job
                        WHERE attempt.shard = ? AND attempt.fence = ?
                        """
                ),
                arguments: [lease.shard.rawValue, packed(lease.fence)]
            ).map { row in
                guard let attempt = AttemptState(rawValue: row["attempt_state"]),
                    let job = JobState(rawValue: row["job_state"])
                else { throw Violation(description: "\(row) has no state") }
                return ExpectedAnswer.Situation(
                    lease: lease,
                    samples: row["samples"],
                    shardFence: Fence(packed: row["shard_fence"]),
                    committed: row["committed"],
                    attempt: attempt,
                    job: job,
                    isProbe: try search(row)?.probe != nil
                )
            }
        }
        return ExpectedAnswer(to: completion, isPlaced: mismatch == nil, in: situation)
    }

    func search(_ row: Row) throws -> PoisonSearch? {
        let text: String? = row["search"]
        return try text.map { try Wire.decode(PoisonSearch.self, from: Array($0.utf8)) }
    }

    func packed(_ fence: Fence) -> Int64 {
        Int64(fence.incarnation) << 32 | Int64(fence.counter)
    }
}
