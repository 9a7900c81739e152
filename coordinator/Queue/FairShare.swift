package import JobProtocol

/// Which jobs' shards a worker gets next.
///
/// Jobs with a higher priority come first. Among equals the next shard is of the job that has the
/// fewest shards with workers, of the one served longest ago among those: each gets the same share
/// of the workers, however many shards it has (max-min fairness; Bertsekas and Gallager, "Data
/// Networks", §6.5.2). A job without a worker is served before any equal one is served twice.
extension QueueState {
    private struct Claim {
        let job: JobID
        let priority: Int
        var leased: Int
        var pending: Int
        var turn: Int

        /// Smaller comes first.
        var rank: (Int, Int, Int, JobID) { (-priority, leased, turn, job) }
    }

    /// Returns a job for each shard that a worker gets, in this order.
    ///
    /// Takes time in proportion to the number of jobs, whatever number of shards they have.
    ///
    /// - Parameter count: Most shards.
    /// - Returns: `count` jobs, or fewer when fewer shards wait; a job with many shards comes often.
    package func jobsToLease(shards count: Int) -> [JobID] {
        var claims = jobs.values.filter { $0.state.isLeasable && hasRoom($0) }.map { job in
            Claim(
                job: job.id,
                priority: job.priority,
                leased: shards(of: job.id, .leased),
                pending: shards(of: job.id, .pending),
                turn: job.turn
            )
        }
        var order: [JobID] = []
        let firstTurn = nextTurn
        while order.count < count {
            let waiting = claims.indices.filter { claims[$0].pending > 0 }
            guard let next = waiting.min(by: { claims[$0].rank < claims[$1].rank }) else { break }
            order.append(claims[next].job)
            claims[next].turn = firstTurn + order.count
            claims[next].leased += 1
            claims[next].pending -= 1
        }
        return order
    }

    /// The turn of the next lease, where the jobs with work are loaded.
    var nextTurn: Int { (jobs.values.map(\.turn).max() ?? 0) + 1 }

    /// Whether the worker that asks may hold a lease of the job beside those who do.
    func hasRoom(_ job: JobRecord) -> Bool {
        guard let most = job.maxWorkers, let holders = holders[job.id] else { return true }
        return holders.includesAsker || holders.count < most
    }

    private func shards(of job: JobID, _ state: ShardState) -> Int {
        tallies[job]?[state]?.shards ?? 0
    }
}
