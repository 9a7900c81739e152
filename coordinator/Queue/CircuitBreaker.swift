package import JobProtocol

/// Says when so many of a job's last attempts failed that it should not go on by itself (after
/// Nygard, "Release It!", 2007, §5.2).
///
/// Only failures are kept: how many attempts lie between two of them follows from how many had
/// succeeded at each, so that a success changes nothing here.
package struct CircuitBreaker: Equatable, Codable, Sendable {
    private struct Failure: Equatable, Codable, Sendable {
        /// Attempts of the job that had succeeded before.
        let succeeded: Int
        let shard: ShardID
        let worker: WorkerID
    }

    /// Those among the last attempts, oldest first.
    private var failures: [Failure] = []

    package init() {}

    /// Takes in a failed attempt.
    ///
    /// - Parameters:
    ///   - shard: What it was about.
    ///   - worker: Whose it was.
    ///   - succeeded: Attempts of the job that have succeeded so far.
    ///   - workers: Workers that there are.
    /// - Returns: Why the job should be paused; nil while it should not.
    package mutating func fail(
        shard: ShardID,
        worker: WorkerID,
        succeeded: Int,
        workers: Int
    ) -> String? {
        failures.append(Failure(succeeded: succeeded, shard: shard, worker: worker))
        while attempts(by: succeeded) > Limits.breakerAttempts { failures.removeFirst() }
        let shards = Set(failures.map(\.shard)).count
        let failing = Set(failures.map(\.worker)).count
        guard failures.count * 100 > Limits.breakerPercent * Limits.breakerAttempts,
            shards >= Limits.breakerShards,
            failing >= min(Limits.breakerWorkers, workers)
        else { return nil }
        return "\(failures.count) of the last \(attempts(by: succeeded)) attempts failed, on "
            + "\(shards) shards and \(failing) workers"
    }

    /// Attempts since the oldest failure, itself included, when so many have succeeded.
    private func attempts(by succeeded: Int) -> Int {
        failures.first.map { succeeded - $0.succeeded + failures.count } ?? 0
    }
}
