import Coordinator
import Foundation
import GRDB
import JobProtocol

/// A coordinator's folder with one job of many shards, all of them pending.
enum QueueFixture {
    /// Size of a sample in the plan; nobody reads it.
    private static let sampleBytes: Int64 = 1 << 16
    /// Shards that one transaction adds: its part of the write-ahead log stays small.
    private static let shardsPerTransaction = 100_000

    /// Makes the database.
    ///
    /// Job and first shard go through the queue's own commands; the other shards are copies of
    /// the first, made by SQL, because a million commands would take minutes.
    ///
    /// - Parameters:
    ///   - folder: Where `state.db` will lie; exists.
    ///   - destination: Dataset folder of the job.
    ///   - shards: Number of shards, at least 1.
    ///   - samples: Samples that the plan lists for each shard.
    /// - Returns: The job.
    /// - Throws: `StartError` or `APIError` of the queue, or what the database says.
    static func make(
        folder: String,
        destination: String,
        shards: Int,
        samples: Int
    ) async throws -> JobID {
        let queue = try JobQueue(folder: folder)
        let now = Timestamp(milliseconds: Int64(Date().timeIntervalSince1970 * 1000))
        let request = SubmitRequest(
            source: "\(destination)-source",
            destination: destination,
            modelID: String(repeating: "0", count: 64)
        )
        let plan = (0..<samples).map { index in
            ShardSample(name: "photographs/\(1_000_000 + index).png", bytes: sampleBytes)
        }
        guard
            case .submitted(let submitted) = try await queue.perform(
                .submit(request, obstacle: nil),
                now: now
            )
        else { preconditionFailure("submit answers with a job") }
        let job = submitted.job
        try await queue.perform(.appendShard(job, samples: plan, skipped: []), now: now)
        for first in stride(from: 1, to: shards, by: shardsPerTransaction) {
            let end = min(first + shardsPerTransaction, shards)
            try await queue.database.write { try copyFirstShard(to: first..<end, $0) }
        }
        try await queue.perform(.finishScan(job, skipped: []), now: now)
        return job
    }

    /// Adds shards with these ordinals, and keeps the counters.
    private static func copyFirstShard(to ordinals: Range<Int>, _ db: Database) throws {
        try db.execute(
            sql: """
                CREATE TEMP TABLE ordinals AS
                    WITH RECURSIVE series (n) AS (
                        SELECT :first UNION ALL SELECT n + 1 FROM series WHERE n < :last
                    )
                    SELECT n FROM series;
                CREATE TEMP TABLE first AS SELECT * FROM shard WHERE ordinal = 0;
                INSERT INTO shard (job, ordinal, samples, source_bytes, state, fence, failures,
                    crashes)
                SELECT job, n, samples, source_bytes, state, fence, failures, crashes
                FROM first CROSS JOIN ordinals;
                INSERT INTO plan (shard, samples)
                SELECT shard.id, plan.samples
                FROM first CROSS JOIN plan CROSS JOIN ordinals CROSS JOIN shard
                WHERE plan.shard = first.id AND shard.job = first.job AND shard.ordinal = n;
                UPDATE counter SET n = counter.n + :count,
                    samples = counter.samples + :count * first.samples,
                    source_bytes = counter.source_bytes + :count * first.source_bytes
                FROM first WHERE counter.job = first.job AND subject = 'shard'
                    AND counter.state = first.state;
                DROP TABLE temp.ordinals;
                DROP TABLE temp.first;
                """,
            arguments: [
                "first": ordinals.lowerBound, "last": ordinals.upperBound - 1,
                "count": ordinals.count,
            ]
        )
    }
}
