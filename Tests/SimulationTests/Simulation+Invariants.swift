import Coordinator
import GRDB
import JobProtocol

// What must be so between two commands, whatever happened.
extension Simulation {
    /// Queries that find the rows of a broken promise.
    private static let promises = [
        "a shard was committed without its fence": """
        SELECT 1 FROM shard WHERE (state = 'committed') <> ((
            SELECT count(*) FROM attempt WHERE attempt.shard = shard.id
                AND attempt.state = 'succeeded' AND attempt.fence = shard.fence) = 1)
        """,
        "a shard was committed twice": """
        SELECT 1 FROM attempt WHERE state = 'succeeded' GROUP BY shard HAVING count(*) > 1
        """,
        "leases and open attempts differ": """
        SELECT 1 FROM shard WHERE (state = 'leased') <> EXISTS (
            SELECT 1 FROM attempt
            WHERE attempt.shard = shard.id AND attempt.state = 'issued')
        """,
        "a shard has more than two workers, or one twice": """
        SELECT 1 FROM attempt WHERE state = 'issued' GROUP BY shard
        HAVING count(*) > 2 OR count(*) <> count(DISTINCT worker)
        """,
        "a job has more workers than it allows": """
        SELECT 1 FROM job WHERE max_workers < (
            SELECT count(DISTINCT worker) FROM attempt
            WHERE attempt.job = job.id AND attempt.state = 'issued')
        """,
        "a shard has too many tries": """
        SELECT 1 FROM shard WHERE failures >= \(Limits.triesPerShard)
        """,
    ]

    /// Checks all rows.
    func checkRows() throws {
        try read { db in
            let miscounts = try JobQueue.miscounts(in: db)
            try require(miscounts.isEmpty, "the counters are not a count: \(miscounts)")
            for (promise, query) in Self.promises {
                let broken = try Row.fetchOne(db.cachedStatement(sql: query))
                try require(broken == nil, promise)
            }
        }
        try checkOutputs()
    }

    /// What is committed is what was answered, lies in its place and is what its samples give,
    /// whatever happened on the way.
    private func checkOutputs() throws {
        var committed: [Ledger.Place: String] = [:]
        let rows = try read { db in
            try Row.fetchAll(
                db.cachedStatement(
                    sql: "SELECT job, ordinal, sha256, search FROM shard WHERE state = 'committed'"
                )
            )
        }
        for row in rows {
            let place = Ledger.Place(job: JobID(rawValue: row["job"]), ordinal: row["ordinal"])
            let sha256: String = row["sha256"]
            committed[place] = sha256
            let samples = samples(of: place)
            let verbatim = try search(row)?.found ?? []
            let deadly = samples.indices.filter { Self.isDeadly(samples[$0]) }
            try require(verbatim.contains(deadly), "shard \(place) holds what no worker survives")
            let digest = Self.digest(of: samples, verbatim: verbatim)
            try require(
                sha256 == digest
                    || sha256 == String(digest.reversed()) && oddOutputs.contains(sha256),
                "shard \(place) has other bytes"
            )
            try require(outputs.contains(sha256), "shard \(place) has no output")
        }
        for (place, sha256) in ledger.commits {
            try require(committed[place] == sha256, "shard \(place) lost a commit")
        }
    }

    /// Neither worker of two that made different bytes is trusted any more.
    func checkDistrust(after lease: LeaseID) throws {
        let trusted = try read { db in
            try String.fetchOne(
                db.cachedStatement(
                    sql: """
                        SELECT id FROM worker
                        WHERE state IN ('registered', 'active', 'paused') AND id IN (
                            SELECT worker FROM attempt
                            WHERE shard = ? AND (state = 'succeeded' OR fence = ?))
                        """
                ),
                arguments: [lease.shard.rawValue, packed(lease.fence)]
            )
        }
        try require(trusted == nil, "a worker is trusted though its bytes differ from another's")
    }

    /// The jobs ended as they should and have every sample once, in order.
    func checkEnd() throws {
        for job in Self.jobs where ledger.states[job] != .cancelled {
            let rows = try read { db in
                try Row.fetchAll(
                    db,
                    sql: """
                        SELECT plan.samples AS plan, search FROM shard
                        JOIN plan ON plan.shard = shard.id
                        WHERE state = 'committed' AND job = \(job) ORDER BY ordinal
                        """
                )
            }
            let found = try rows.flatMap { row in
                try Wire.decode([ShardSample].self, from: Array((row["plan"] as String).utf8))
            }
            try require(found == sources[job], "job \(job) has other samples")
            let hasProblems = try rows.contains { try search($0)?.found.isEmpty == false }
            let end: JobState = hasProblems ? .completedWithFallbacks : .completed
            try require(ledger.states[job] == end, "job \(job) ended as \(ledger.states)")
        }
        let first = ledger.states[Self.jobs[0]]
        try require(first == .completedWithFallbacks, "job 1 ended as \(ledger.states)")
    }

    // MARK: What workers make

    /// Whether a worker that looks at this sample dies.
    static func isDeadly(_ sample: ShardSample) -> Bool { sample.name == "1/16.png" }

    func samples(of place: Ledger.Place) -> [ShardSample] {
        let samples = sources[place.job] ?? []
        return Array(
            samples.dropFirst(place.ordinal * Self.samplesPerShard).prefix(Self.samplesPerShard)
        )
    }

    /// Returns the digest of the shard that holds these samples, in place of an encoder.
    static func digest(of samples: [ShardSample], verbatim: [Int]) -> String {
        // FNV-1a.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in "\(samples.map(\.name)) \(verbatim)".utf8 {
            hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3
        }
        let digits = String(hash, radix: 16)
        return String(repeating: "0", count: 64 - digits.count) + digits
    }
}
