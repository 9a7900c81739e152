import Coordinator
import JobProtocol
import Testing

struct CircuitBreakerTests {
    /// Plays attempts and returns after how many the breaker opened; nil if it did not.
    private func play(
        _ attempts: [(shard: Int64, worker: String, isFailure: Bool)],
        workers: Int = 9
    ) throws -> Int? {
        var breaker = CircuitBreaker()
        var succeeded = 0
        for (index, attempt) in attempts.enumerated() {
            guard attempt.isFailure else {
                succeeded += 1
                continue
            }
            let reason = breaker.fail(
                shard: ShardID(rawValue: attempt.shard),
                worker: try worker(attempt.worker),
                succeeded: succeeded,
                workers: workers
            )
            if reason != nil { return index + 1 }
        }
        return nil
    }

    @Test func elevenFailuresInARowOpenIt() throws {
        let all = (0..<20).map { (shard: Int64($0), worker: "w\($0 % 2)", isFailure: true) }
        #expect(try play(all) == 11)
    }

    /// One in `period` attempts fails.
    @Test(arguments: [(4, true), (5, false), (6, false)])
    func moreThanAFifthOfTheLastFiftyOpenIt(period: Int, isOpened: Bool) throws {
        let attempts = (0..<1000).map {
            (shard: Int64($0), worker: "w\($0 / period % 2)", isFailure: $0 % period == 0)
        }
        #expect((try play(attempts) != nil) == isOpened)
    }

    @Test func whatIsLongAgoDoesNotCount() throws {
        let attempts = (0..<11).flatMap { burst in
            (0..<60).map {
                (shard: Int64(100 * burst + $0), worker: "w\($0 % 2)", isFailure: $0 < 9)
            }
        }
        #expect(try play(attempts) == nil)
    }

    @Test func fewShardsOrOneOfSeveralWorkersOpenNothing() throws {
        let shards = (0..<40).map { (shard: Int64($0 % 4), worker: "w\($0)", isFailure: true) }
        #expect(try play(shards) == nil)
        let lone = (0..<40).map { (shard: Int64($0), worker: "w", isFailure: true) }
        #expect(try play(lone) == nil)
        #expect(try play(lone, workers: 1) == 11)
    }

    @Test func aJobWhoseAttemptsFailIsPausedUntilItIsResumed() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            for name in ["a", "b"] {
                try await queue.perform(.register(try registration(name)), now: at(0))
            }
            let job = try await queue.makeJob(shards: 40)
            func fail(_ index: Int) async throws {
                let lease = try #require(
                    try await queue.lease(index % 2 == 0 ? "a" : "b", 1, now: at(1)).first
                )
                let report = FailureReport(
                    lease: lease,
                    failureClass: .transient,
                    message: "no route \(index)"
                )
                try await queue.perform(.fail(report), now: at(1))
            }
            for round in 0..<2 {
                for index in 0..<11 {
                    #expect(try await queue.state(of: job) != .paused, "\(round) \(index)")
                    try await fail(index)
                }
                let status = try await queue.status(of: job, now: at(2))
                #expect(status.state == .paused)
                #expect(
                    status.pauseReason
                        == "11 of the last 11 attempts failed, on 11 shards and 2 workers, the last "
                        + "time: no route 10"
                )
                let last = try #require(
                    try await queue.events(of: job, after: 0).last { $0.kind == .jobState }
                )
                #expect(last.detail.hasPrefix("paused: 11 of the last 11"))
                #expect(try await queue.lease("a", 1, now: at(2)) == [])
                try await queue.perform(.resume(job), now: at(3))
                #expect(try await queue.status(of: job, now: at(3)).pauseReason == nil)
            }
        }
    }
}
