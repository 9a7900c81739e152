import Coordinator
import GRDB
import JobProtocol

// The promises of the queue, and what is read to check them.
extension Simulation {
    private func read<Value: Sendable>(
        _ body: @escaping @Sendable (Database) throws -> Value
    ) async throws -> Value {
        guard let queue else { preconditionFailure("the queue is open between steps") }
        return try await queue.database.read(body)
    }

    private func count(_ sql: String) async throws -> Int {
        try await read { db in try Int.fetchOne(db, sql: sql) } ?? 0
    }

    private func require(_ condition: Bool, _ promise: @autoclosure () -> String) throws {
        guard condition else { throw Violation(description: promise()) }
    }

    func jobStates() async throws -> [JobID: JobState] {
        try await read { db in
            try Row.fetchAll(db, sql: "SELECT id, state FROM job").reduce(into: [:]) {
                $0[JobID(rawValue: $1["id"])] = JobState(rawValue: $1["state"])
            }
        }
    }

    func haveEnded() async throws -> Bool {
        try await jobStates().values.allSatisfy(\.isFinal)
    }

    func committedShards(of job: JobID) async throws -> Int {
        try await count("SELECT count(*) FROM shard WHERE state = 'committed' AND job = \(job)")
    }

    /// The leases under which a shard is.
    func holders(of shard: ShardID) async throws -> [LeaseID] {
        try await read { db in
            try Int64.fetchAll(
                db,
                sql: "SELECT fence FROM attempt WHERE state = 'issued' AND shard = \(shard)"
            )
        }.map { LeaseID(shard: shard, fence: Fence(packed: $0)) }
    }

    func events() async throws -> [JobEvent.Kind: Int] {
        try await read { db in
            try Row.fetchAll(db, sql: "SELECT kind, count(*) AS n FROM event GROUP BY kind")
                .reduce(into: [:]) { events, row in
                    guard let kind = JobEvent.Kind(rawValue: row["kind"]) else { return }
                    events[kind] = row["n"]
                }
        }
    }

    func workerState(of worker: WorkerID) async throws -> WorkerState? {
        try await read { db in
            try String.fetchOne(db, sql: "SELECT state FROM worker WHERE id = '\(worker)'")
        }.flatMap(WorkerState.init(rawValue:))
    }

    /// Neither worker of two that made different bytes is trusted any more.
    func checkDistrust(after lease: LeaseID) async throws {
        let fence = Int64(lease.fence.incarnation) << 32 | Int64(lease.fence.counter)
        let trusted = try await count(
            """
            SELECT count(*) FROM worker WHERE state IN ('registered', 'active', 'paused') AND id IN (
                SELECT worker FROM attempt
                WHERE shard = \(lease.shard) AND (state = 'succeeded' OR fence = \(fence)))
            """
        )
        try require(trusted == 0, "a worker is trusted though its bytes differ from another's")
    }

    /// Failures and losses of all shards together.
    func tries() async throws -> Int {
        try await count("SELECT total(failures + crashes) FROM shard")
    }

    func checkInvariants() async throws {
        try await checkCounters()
        try await checkLimits()
        try await checkAttempts()
        try await checkOutputs()
        if let committedAtCancel {
            let committed = try await committedShards(of: Self.jobs[1])
            try require(committed == committedAtCancel, "a cancelled job gained a shard")
        }
        try await checkStuck()
        try await checkBreakers()
        let failures = try await count("SELECT max(failures) FROM shard")
        try require(failures < Limits.triesPerShard, "a shard has too many tries")
    }

    /// The counters are what a count of the rows gives.
    private func checkCounters() async throws {
        let counted = """
            SELECT job, 'shard', state, count(*), sum(samples), sum(source_bytes),
                sum(ifnull(output_bytes, 0)) FROM shard GROUP BY job, state
            UNION ALL SELECT job, 'attempt', state, count(*), 0, 0, 0
            FROM attempt GROUP BY job, state
            """
        let kept = "SELECT * FROM counter WHERE n > 0"
        let differences = try await read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM (SELECT * FROM (\(counted)) EXCEPT \(kept))
                    UNION ALL SELECT * FROM (\(kept) EXCEPT SELECT * FROM (\(counted)))
                    """
            ).map(\.description)
        }
        try require(differences.isEmpty, "the counters are not a count: \(differences)")
    }

    /// One commit for each shard, under its fence; one open attempt for each lease, and no more than
    /// two for a shard.
    private func checkAttempts() async throws {
        let stale = try await count(
            """
            SELECT count(*) FROM shard WHERE (state = 'committed') <> ((
                SELECT count(*) FROM attempt WHERE attempt.shard = shard.id
                    AND attempt.state = 'succeeded' AND attempt.fence = shard.fence) = 1)
            """
        )
        try require(stale == 0, "a shard was committed without its fence")
        let succeeded = try await count(
            """
            SELECT max(n) FROM (
                SELECT count(*) AS n FROM attempt WHERE state = 'succeeded' GROUP BY shard)
            """
        )
        try require(succeeded <= 1, "a shard was committed twice")
        let open = try await count(
            """
            SELECT count(*) FROM shard WHERE (state = 'leased') <> EXISTS (
                SELECT 1 FROM attempt
                WHERE attempt.shard = shard.id AND attempt.state = 'issued')
            """
        )
        try require(open == 0, "leases and open attempts differ")
        let crowds = try await count(
            """
            SELECT count(*) FROM (
                SELECT count(*) AS n, count(DISTINCT worker) AS workers FROM attempt
                WHERE state = 'issued' GROUP BY shard)
            WHERE n > 2 OR n <> workers
            """
        )
        try require(crowds == 0, "a shard has more than two workers, or one twice")
    }

    /// No more workers hold leases of a job than it allows.
    private func checkLimits() async throws {
        let full = try await count(
            """
            SELECT count(*) FROM job WHERE max_workers < (
                SELECT count(DISTINCT worker) FROM attempt
                WHERE attempt.job = job.id AND attempt.state = 'issued')
            """
        )
        try require(full == 0, "a job has more workers than it allows")
    }

    /// No job goes on of whose last attempts too many failed.
    private func checkBreakers() async throws {
        let events = try await read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT job, ordinal, worker, kind FROM event
                    JOIN job ON job.id = event.job AND job.state IN ('queued', 'running')
                    WHERE kind IN ('committed', 'attempt_failed', 'stuck') AND event.id > (
                        SELECT ifnull(max(id), 0) FROM event AS pause WHERE pause.job = event.job
                            AND kind = 'job_state')
                    ORDER BY event.id DESC
                    """
            ).map { row -> (job: Int64, ordinal: Int, worker: String, isFailure: Bool) in
                (row["job"], row["ordinal"], row["worker"], row["kind"] != "committed")
            }
        }
        for (job, attempts) in Dictionary(grouping: events, by: \.job) {
            let failures = attempts.prefix(Limits.breakerAttempts).filter(\.isFailure)
            try require(
                failures.count * 100 <= Limits.breakerPercent * Limits.breakerAttempts
                    || Set(failures.map(\.ordinal)).count < Limits.breakerShards
                    || Set(failures.map(\.worker)).count < Limits.breakerWorkers,
                "job \(job) goes on though \(failures.count) of its last attempts failed"
            )
        }
    }

    /// Only workers that did nothing are taken for stuck.
    private func checkStuck() async throws {
        let workers = try await read { db in
            try String.fetchAll(db, sql: "SELECT worker FROM attempt WHERE state = 'stuck'")
        }
        let known = Set(hung.map(\.rawValue))
        try require(known.isSuperset(of: workers), "a worker at work was taken for stuck")
    }

    /// A job that a worker might have had shards of, as it is after the worker got its leases.
    private struct Competitor {
        let job: JobID
        let priority: Int
        let leased: Int
    }

    /// No job waits behind one of lower priority, or behind an equal one that has more leases.
    func checkTurns(of leases: [LeaseID], _ worker: WorkerID) async throws {
        guard !leases.isEmpty else { return }
        try await checkLimits()
        let shards = leases.map { "\($0.shard)" }.joined(separator: ", ")
        let isServed = "id IN (SELECT job FROM shard WHERE id IN (\(shards)))"
        let mightWait = """
            state IN ('queued', 'running')
            AND EXISTS (SELECT 1 FROM shard WHERE job = job.id AND state = 'pending')
            AND (max_workers IS NULL
                OR max_workers > (SELECT count(DISTINCT worker) FROM attempt
                    WHERE job = job.id AND state = 'issued')
                OR EXISTS (SELECT 1 FROM attempt
                    WHERE job = job.id AND state = 'issued' AND worker = '\(worker)'))
            """
        let served = try await competitors(isServed)
        for waiting in try await competitors(mightWait) {
            for first in served where first.job != waiting.job {
                try require(
                    first.priority > waiting.priority
                        || first.priority == waiting.priority
                            && first.leased - 1 <= waiting.leased,
                    "job \(waiting.job) waits behind \(first.job)"
                )
            }
        }
    }

    private func competitors(_ condition: String) async throws -> [Competitor] {
        try await read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT id, priority, (SELECT count(*) FROM shard
                        WHERE job = job.id AND state = 'leased') AS leased
                    FROM job WHERE \(condition)
                    """
            ).map {
                Competitor(
                    job: JobID(rawValue: $0["id"]),
                    priority: $0["priority"],
                    leased: $0["leased"]
                )
            }
        }
    }

    /// What is committed lies in its place and is what its samples give, whatever happened on the
    /// way; and what was acknowledged is committed.
    private func checkOutputs() async throws {
        let rows = try await read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT shard.id AS id, sha256, search, plan.samples AS plan FROM shard
                    JOIN plan ON plan.shard = shard.id WHERE state = 'committed'
                    """
            ).map { row -> (id: Int64, sha256: String, search: String?, plan: String) in
                (row["id"], row["sha256"], row["search"], row["plan"])
            }
        }
        var committed: [ShardID: String] = [:]
        for row in rows {
            let samples = try Wire.decode([ShardSample].self, from: Array(row.plan.utf8))
            let deadly = samples.indices.filter { Self.isDeadly(samples[$0]) }
            let digest = Self.digest(of: samples, verbatim: deadly)
            try require(
                row.sha256 == digest
                    || row.sha256 == String(digest.reversed()) && oddOutputs.contains(row.sha256),
                "shard \(row.id) has other bytes; search: \(row.search ?? "none")"
            )
            try require(outputs.contains(row.sha256), "shard \(row.id) has no output")
            committed[ShardID(rawValue: row.id)] = row.sha256
        }
        for (shard, sha256) in acknowledged {
            try require(committed[shard] == sha256, "shard \(shard) lost an acknowledged commit")
        }
    }

    /// The jobs have every sample once, in order.
    func checkEnd() async throws {
        let states = try await jobStates()
        try require(states[Self.jobs[0]] == .completedWithFallbacks, "job 1 ended as \(states)")
        let second: JobState = committedAtCancel == nil ? .completed : .cancelled
        try require(states[Self.jobs[1]] == second, "job 2 ended as \(states)")
        for job in Self.jobs where states[job] != .cancelled {
            let plans = try await read { db in
                try String.fetchAll(
                    db,
                    sql: """
                        SELECT plan.samples FROM shard JOIN plan ON plan.shard = shard.id
                        WHERE state = 'committed' AND job = \(job) ORDER BY ordinal
                        """
                )
            }
            let found = try plans.flatMap {
                try Wire.decode([ShardSample].self, from: Array($0.utf8))
            }
            try require(found == sources[job]?.samples, "job \(job) has other samples")
        }
    }
}
