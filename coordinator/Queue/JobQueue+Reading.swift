import GRDB
package import JobProtocol

// What the queue tells about itself.
extension JobQueue {
    package func status(of job: JobID, now: Timestamp) async throws(APIError) -> JobStatus {
        try await read { db in
            let row = try Row.fetchOne(
                db,
                sql: "SELECT * FROM job WHERE id = ?",
                arguments: [job.rawValue]
            )
            guard let row else { throw Problem.noJob(job) }
            return try Self.status(of: JobRecord(row), now: now, db)
        }
    }

    package func statuses(now: Timestamp) async throws(APIError) -> [JobStatus] {
        try await read { db in
            try Row.fetchAll(db, sql: "SELECT * FROM job ORDER BY id").map { row in
                try Self.status(of: JobRecord(row), now: now, db)
            }
        }
    }

    private static func status(
        of job: JobRecord,
        now: Timestamp,
        _ db: Database
    ) throws -> JobStatus {
        let tallies = try tallies(of: job.id, in: db)
        let total = tallies.values.reduce(into: Tally.zero) { $0 += $1 }
        let committed = tallies[.committed] ?? .zero
        let inFlight = try inFlight(of: job.id, db)
        let done = committed.sourceBytes + inFlight.sourceBytes
        let seconds = job.startedAt.map { (job.finishedAt ?? now).seconds(since: $0) }
        let rate = seconds.flatMap { $0 > 0 ? Double(done) / $0 : nil }
        let isPredictable =
            job.isScanFinished && !job.state.isFinal && job.state != .paused && (rate ?? 0) > 0
        return JobStatus(
            job: job.id,
            state: job.state,
            source: job.source,
            destination: job.destination,
            modelID: job.modelID,
            priority: job.priority,
            maxWorkers: job.maxWorkers,
            workers: try holders(of: job.id, db),
            failure: job.failure,
            pauseReason: job.pauseReason,
            isScanFinished: job.isScanFinished,
            total: total,
            committed: committed,
            inFlight: inFlight,
            shards: tallies.filter { $1.shards > 0 }
                .reduce(into: [:]) { $0[$1.key.rawValue] = $1.value.shards },
            failedAttempts: try attempts(of: job.id, [.failed, .expired, .fenced], db),
            stuckAttempts: try attempts(of: job.id, [.stuck], db),
            problems: job.problems,
            createdMilliseconds: job.createdAt.milliseconds,
            startedMilliseconds: job.startedAt?.milliseconds,
            finishedMilliseconds: job.finishedAt?.milliseconds,
            sourceBytesPerSecond: rate,
            remainingSeconds: rate.flatMap { rate in
                isPredictable ? Double(total.sourceBytes - done) / rate : nil
            },
            datasetDigest: job.datasetDigest
        )
    }

    private static func inFlight(of job: JobID, _ db: Database) throws -> Tally {
        let row = try Row.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT count(*) AS n, total(samples) AS samples,
                        total(bytes) AS source_bytes, 0 AS output_bytes
                    FROM (SELECT max(done_samples) AS samples, max(done_bytes) AS bytes
                        FROM attempt INDEXED BY attempt_held
                        WHERE job = ? AND state = 'issued' GROUP BY shard)
                    """
            ),
            arguments: [job.rawValue]
        )
        return row.map(Tally.init) ?? .zero
    }

    /// Returns the number of workers that hold leases of a job.
    private static func holders(of job: JobID, _ db: Database) throws -> Int {
        try Int.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT count(DISTINCT worker) FROM attempt INDEXED BY attempt_held
                    WHERE job = ? AND state = 'issued'
                    """
            ),
            arguments: [job.rawValue]
        ) ?? 0
    }

    /// Returns the number of attempts that are in one of these states; fenced ones were lost before.
    private static func attempts(
        of job: JobID,
        _ states: [AttemptState],
        _ db: Database
    ) throws -> Int {
        let list = states.map { "'\($0.rawValue)'" }.joined(separator: ", ")
        return try Int.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT sum(n) FROM counter
                    WHERE job = ? AND subject = 'attempt' AND state IN (\(list))
                    """
            ),
            arguments: [job.rawValue]
        ) ?? 0
    }

    package func explain(_ job: JobID, now: Timestamp) async throws(APIError) -> Diagnosis {
        let status = try await status(of: job, now: now)
        let others = try await statuses(now: now).filter { $0.job != job }
        let workers = try await workers(now: now).filter { $0.state != .gone }
        let troubles = try await read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM event WHERE job = ? AND kind NOT IN ('committed', 'job_state')
                    ORDER BY id DESC LIMIT ?
                    """,
                arguments: [job.rawValue, Limits.troublesPerDiagnosis]
            ).map { try JobEvent($0) }
        }
        return Diagnosis(
            job: status,
            others: others,
            workers: workers,
            troubles: troubles,
            leaseSeconds: leaseSeconds
        )
    }

    /// Returns when the newest event happened; nil before the first.
    func lastEventTime() throws(APIError) -> Timestamp? {
        do {
            return try database.unsafeRead(Self.lastEventTime)
        } catch {
            throw .refused(.failed(error))
        }
    }

    static func lastEventTime(_ db: Database) throws -> Timestamp? {
        try Int64.fetchOne(db, sql: "SELECT at_ms FROM event ORDER BY id DESC LIMIT 1")
            .map(Timestamp.init(milliseconds:))
    }

    /// Throws `Problem` if there is no such job.
    private static func requireJob(_ job: JobID, in db: Database) throws {
        let sql = "SELECT 1 FROM job WHERE id = ?"
        guard try Bool.fetchOne(db, sql: sql, arguments: [job.rawValue]) != nil else {
            throw Problem.noJob(job)
        }
    }

    package func events(
        of job: JobID,
        after: Int64
    ) async throws(APIError) -> [JobEvent] {
        try await read { db in
            try Self.requireJob(job, in: db)
            let rows = try Row.fetchAll(
                db,
                sql: "SELECT * FROM event WHERE job = ? AND id > ? ORDER BY id LIMIT ?",
                arguments: [job.rawValue, after, Limits.eventsPerReply]
            )
            return try rows.map { try JobEvent($0) }
        }
    }

    package func shards(
        of job: JobID,
        in state: ShardState?,
        after ordinal: Int
    ) async throws(APIError) -> ShardList {
        try await read { db in
            try Self.requireJob(job, in: db)
            let tallies = try Self.tallies(of: job, in: db)
            if let state, (tallies[state]?.shards ?? 0) == 0 {
                return ShardList(shards: [], next: nil)
            }
            let total = tallies.values.reduce(0) { $0 + $1.shards }
            let end = min(ordinal, total) + Limits.shardsPerScan
            let shards = try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM shard WHERE job = ? AND ordinal > ? AND ordinal <= ?
                        AND state = ifnull(?, state) ORDER BY ordinal LIMIT ?
                    """,
                arguments: [job.rawValue, ordinal, end, state?.rawValue, Limits.shardsPerReply]
            ).map { try Self.status(of: ShardRecord($0), db) }
            let isFull = shards.count == Limits.shardsPerReply
            return ShardList(
                shards: shards,
                next: isFull ? shards.last?.ordinal : end < total - 1 ? end : nil
            )
        }
    }

    private static func status(of shard: ShardRecord, _ db: Database) throws -> ShardStatus {
        let workers =
            shard.state != .leased
            ? []
            : try String.fetchAll(
                db.cachedStatement(
                    sql: """
                        SELECT worker FROM attempt WHERE shard = ? AND state = 'issued'
                        ORDER BY fence
                        """
                ),
                arguments: [shard.id.rawValue]
            )
        let message =
            shard.failures == 0
            ? nil
            : try String.fetchOne(
                db.cachedStatement(
                    sql: """
                        SELECT message FROM attempt WHERE shard = ? AND message IS NOT NULL
                        ORDER BY fence DESC LIMIT 1
                        """
                ),
                arguments: [shard.id.rawValue]
            )
        return ShardStatus(
            ordinal: shard.ordinal,
            state: shard.state,
            samples: shard.samples,
            sourceBytes: shard.sourceBytes,
            outputBytes: shard.output?.bytes,
            failures: shard.failures,
            losses: shard.crashes,
            workers: workers.compactMap(WorkerID.init(rawValue:)),
            message: message
        )
    }

    package func workers(now: Timestamp) async throws(APIError) -> [WorkerStatus] {
        try await read { db in
            let held = try Row.fetchAll(
                db,
                sql: """
                    SELECT worker, count(*) AS n FROM attempt WHERE state = 'issued'
                    GROUP BY worker
                    """
            ).reduce(into: [String: Int]()) { $0[$1["worker"]] = $1["n"] }
            return try Row.fetchAll(db, sql: "SELECT * FROM worker ORDER BY number").map { row in
                let worker = try WorkerRecord(row)
                return WorkerStatus(
                    worker: worker.id,
                    state: worker.state,
                    suspicion: worker.suspicion,
                    version: worker.registration.version,
                    host: worker.registration.host,
                    device: worker.registration.device,
                    instructionSet: worker.registration.instructionSet,
                    slots: worker.registration.slots,
                    leases: held[worker.id.rawValue] ?? 0,
                    completed: worker.completed,
                    failed: worker.failed,
                    sourceBytesPerSecond: worker.sourceBytesPerSecond,
                    silentSeconds: max(0, now.seconds(since: worker.seenAt))
                )
            }
        }
    }

    /// Whether every job has ended.
    func isDrained() async throws(APIError) -> Bool {
        try await read(Self.isDrained)
    }

    static func isDrained(_ db: Database) throws -> Bool {
        try Bool.fetchOne(
            db.cachedStatement(sql: "SELECT 1 FROM job WHERE \(isUnfinished) LIMIT 1")
        ) == nil
    }

    /// Returns the jobs that are in one of these states, oldest first.
    func jobs(where states: [JobState]) async throws(APIError) -> [JobRecord] {
        let list = states.map { "'\($0.rawValue)'" }.joined(separator: ", ")
        return try await read { db in
            try Row.fetchAll(
                db.cachedStatement(sql: "SELECT * FROM job WHERE state IN (\(list)) ORDER BY id")
            ).map(JobRecord.init)
        }
    }

    /// Where a shard's output belongs; nil when there is no such shard.
    func place(of shard: ShardID) async throws(APIError) -> (destination: String, ordinal: Int)? {
        try await read { db in
            try Row.fetchOne(
                db.cachedStatement(
                    sql: """
                        SELECT destination, ordinal FROM shard JOIN job ON job.id = shard.job
                        WHERE shard.id = ?
                        """
                ),
                arguments: [shard.rawValue]
            ).map { ($0["destination"], $0["ordinal"]) }
        }
    }

    /// The last sample that the scan of a job has put into a shard; nil before the first.
    func lastSample(of job: JobID) async throws(APIError) -> ShardSample? {
        try await read { db in
            try Row.fetchOne(
                db,
                sql: """
                    SELECT plan.samples AS plan FROM shard JOIN plan ON plan.shard = shard.id
                    WHERE job = ? ORDER BY ordinal DESC LIMIT 1
                    """,
                arguments: [job.rawValue]
            ).flatMap { try $0.json([ShardSample].self, "plan").last }
        }
    }

    /// Rows that one read takes at most, so that other requests need not wait for long.
    private static let rowsPerRead = 4096

    /// Returns a job's committed shards in order, and its problems by name.
    ///
    /// It is read in parts, between which others have their turn: the job must not change meanwhile.
    func content(
        of job: JobID
    ) async throws(APIError) -> (shards: [ShardRecord], problems: [SampleProblem]) {
        var shards: [ShardRecord] = []
        while true {
            let part = try await committedShards(of: job, after: shards.last?.ordinal ?? -1)
            shards += part
            guard part.count == Self.rowsPerRead else { break }
        }
        var problems: [SampleProblem] = []
        var last: Int64 = 0
        while true {
            let part = try await self.problems(of: job, after: problems.last, last)
            problems += part.map(\.problem)
            guard part.count == Self.rowsPerRead else { break }
            last = part.last?.id ?? last
        }
        return (shards, problems)
    }

    private func committedShards(
        of job: JobID,
        after ordinal: Int
    ) async throws(APIError) -> [ShardRecord] {
        try await read { db in
            try Row.fetchAll(
                db.cachedStatement(
                    sql: """
                        SELECT * FROM shard WHERE job = ? AND ordinal > ? AND state = 'committed'
                        ORDER BY ordinal LIMIT ?
                        """
                ),
                arguments: [job.rawValue, ordinal, Self.rowsPerRead]
            ).map(ShardRecord.init)
        }
    }

    private func problems(
        of job: JobID,
        after last: SampleProblem?,
        _ id: Int64
    ) async throws(APIError) -> [(id: Int64, problem: SampleProblem)] {
        try await read { db in
            try Row.fetchAll(
                db.cachedStatement(
                    sql: """
                        SELECT id, name, reason FROM problem
                        WHERE job = ? AND (name, reason, id) > (?, ?, ?)
                        ORDER BY name, reason, id LIMIT ?
                        """
                ),
                arguments: [
                    job.rawValue, last?.name ?? "", last?.reason ?? "", id, Self.rowsPerRead,
                ]
            ).map { ($0["id"], SampleProblem(name: $0["name"], reason: $0["reason"])) }
        }
    }

    /// What `/metrics` shows: sums over the counters of all jobs, and numbers of jobs and workers.
    package struct Census: Sendable {
        package var jobs: [JobState: Int] = [:]
        package var shards: [ShardState: Tally] = [:]
        package var attempts: [AttemptState: Int] = [:]
        package var workers: [WorkerState: Int] = [:]
        package var problems = 0
        package var sourceBytesPerSecond = 0.0
    }

    package func census() async throws(APIError) -> Census {
        try await read { db in
            var census = Census()
            for row in try Row.fetchAll(
                db,
                sql: "SELECT state, count(*) AS n, sum(problems) AS p FROM job GROUP BY state"
            ) {
                census.jobs[try row.state("state")] = row["n"]
                census.problems += row["p"] as Int
            }
            for row in try Row.fetchAll(db, sql: "SELECT * FROM counter") {
                switch row["subject"] as String {
                case "shard": census.shards[try row.state("state"), default: .zero] += Tally(row)
                default: census.attempts[try row.state("state"), default: 0] += row["n"]
                }
            }
            for row in try Row.fetchAll(
                db,
                sql: """
                    SELECT state, count(*) AS n, sum(source_bytes_per_second) AS rate
                    FROM worker GROUP BY state
                    """
            ) {
                let state: WorkerState = try row.state("state")
                census.workers[state] = row["n"]
                census.sourceBytesPerSecond += state == .gone ? 0 : row["rate"]
            }
            return census
        }
    }
}

extension JobEvent {
    /// Reads a row of `event`.
    fileprivate init(_ row: Row) throws {
        self.init(
            id: row["id"],
            milliseconds: row["at_ms"],
            job: JobID(rawValue: row["job"]),
            ordinal: row["ordinal"],
            worker: row.workerIfAny("worker"),
            kind: try row.state("kind"),
            detail: row["detail"]
        )
    }
}
