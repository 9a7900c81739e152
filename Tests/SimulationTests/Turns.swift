import JobProtocol

/// What a look at a job says about whether it should have got a worker.
struct Claim {
    let job: JobID
    let priority: Int
    /// Shards that have a worker.
    let leased: Int
    /// Whether a worker that asks might have had another shard of it.
    let isWaiting: Bool
    /// Workers that hold leases of it, and how many may.
    let workers: Int
    let maxWorkers: Int?
}

/// Whose turn it was, so that no job waits for ever.
struct Turns {
    /// For each job that has no worker how often each other one of its priority was served since it
    /// waits.
    private var passes: [JobID: [JobID: Int]] = [:]

    /// Checks that the right jobs were served.
    ///
    /// - Parameters:
    ///   - served: The jobs of the leases that a worker got, in this order.
    ///   - asked: Leases that it asked for.
    ///   - claims: All jobs, as they are after that.
    /// - Throws: `Violation`.
    mutating func serve(_ served: [JobID], asked: Int, _ claims: [Claim]) throws {
        for claim in claims where claim.maxWorkers.map({ claim.workers > $0 }) == true {
            throw Simulation.Violation(
                description: "job \(claim.job) has more workers than it allows"
            )
        }
        for waiting in claims {
            guard waiting.isWaiting else {
                passes[waiting.job] = nil
                continue
            }
            try require(served.count == asked, "a worker waits though job \(waiting.job) has work")
            for first in claims where served.contains(first.job) && first.job != waiting.job {
                try require(
                    first.priority > waiting.priority
                        || first.priority == waiting.priority
                            && first.leased - 1 <= waiting.leased,
                    "job \(waiting.job) waits behind \(first.job)"
                )
            }
            try pass(waiting, served, claims)
        }
    }

    /// A job that has no worker gets one before another of its priority is served a second time.
    private mutating func pass(_ waiting: Claim, _ served: [JobID], _ claims: [Claim]) throws {
        guard waiting.leased == 0 else { return passes[waiting.job] = nil }
        for first in claims where first.priority == waiting.priority {
            let count = served.count { $0 == first.job }
            passes[waiting.job, default: [:]][first.job, default: 0] += count
        }
        let most = passes[waiting.job]?.values.max() ?? 0
        try require(most <= 1, "job \(waiting.job) starves")
    }
}

/// Throws a broken promise, unless it was kept.
func require(_ condition: Bool, _ promise: @autoclosure () -> String) throws {
    guard condition else { throw Simulation.Violation(description: promise()) }
}
