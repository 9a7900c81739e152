import Coordinator
import GRDB
import JobProtocol
import Testing

/// Second attempts at shards whose workers are late.
struct SpeculationTests {
    /// Runs a test with a job of three shards, of which `a` did one in 100 s and holds the other two.
    private func withLateShards(
        _ body: (JobQueue, JobID, _ slow: [LeaseID]) async throws -> Void
    ) async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            for name in ["a", "b", "c"] {
                try await queue.perform(.register(try registration(name)), now: at(0))
            }
            let job = try await queue.makeJob(shards: 3)
            let leases = try await queue.lease("a", 3, now: at(0))
            #expect(
                await queue.complete(completion(of: leases[0]), now: at(100))
                    == .outcome(.committed)
            )
            for second in stride(from: 15.0, through: 300, by: 15) {
                _ = try await queue.beat("a", leases, now: at(second))
                for name in ["b", "c"] { _ = try await queue.beat(name, [], now: at(second)) }
            }
            try await body(queue, job, Array(leases[1...]))
            #expect(try await queue.miscounts() == [])
        }
    }

    private func kinds(_ queue: JobQueue, _ job: JobID) async throws -> [JobEvent.Kind] {
        try await queue.events(of: job, after: 0).map(\.kind)
    }

    @Test func aLateShardIsTriedBySomebodyElse() async throws {
        try await withLateShards { queue, job, slow in
            #expect(try await queue.lease("b", 1, now: at(200)) == [])
            #expect(try await queue.lease("a", 1, now: at(201)) == [])
            let second = try await queue.lease("b", 1, now: at(201))
            #expect(second.map(\.shard) == [slow[0].shard])
            #expect(try #require(second.first).fence > slow[0].fence)
            // Two are enough for one shard, but the other one is late, too.
            #expect(try await queue.lease("c", 2, now: at(202)).map(\.shard) == [slow[1].shard])
            #expect(try await queue.lease("c", 2, now: at(203)) == [])
            let status = try await queue.status(of: job, now: at(203))
            #expect(status.shards == ["committed": 1, "leased": 2])
            #expect(status.inFlight.shards == 2)
            #expect(status.workers == 3)
            #expect(try await kinds(queue, job).filter { $0 == .speculated }.count == 2)
        }
    }

    @Test func theFirstCommitWinsAndTheOtherAgrees() async throws {
        try await withLateShards { queue, job, slow in
            let second = try await queue.lease("b", 1, now: at(201))[0]
            #expect(
                await queue.complete(completion(of: slow[0]), now: at(210)) == .outcome(.committed)
            )
            #expect(
                try await queue.beat("b", [second], now: at(211)).leases[0].directive == .cancel
            )
            for _ in 0..<2 {
                #expect(
                    await queue.complete(completion(of: second), now: at(212)) == .outcome(.agreed)
                )
            }
            #expect(try await kinds(queue, job).filter { $0 == .agreed }.count == 1)
            let status = try await queue.status(of: job, now: at(213))
            #expect(status.committed.shards == 2)
            #expect(status.failedAttempts == 0)
            try await queue.perform(
                .release(ReleaseRequest(lease: second, reason: "lost")),
                now: at(214)
            )
        }
    }

    @Test func theSecondAttemptMayWinAndTheFirstReplays() async throws {
        try await withLateShards { queue, job, slow in
            let second = try await queue.lease("b", 1, now: at(201))[0]
            #expect(
                await queue.complete(completion(of: second), now: at(210)) == .outcome(.committed)
            )
            #expect(await queue.complete(completion(of: second), now: at(211)) == .outcome(.replay))
            #expect(
                await queue.complete(completion(of: slow[0]), now: at(212)) == .outcome(.agreed)
            )
            #expect(try await queue.status(of: job, now: at(213)).committed.shards == 2)
        }
    }

    @Test func otherBytesOfTheLoserMakeBothWorkersSuspect() async throws {
        try await withLateShards { queue, job, slow in
            let second = try await queue.lease("b", 1, now: at(201))[0]
            #expect(
                await queue.complete(completion(of: second), now: at(210)) == .outcome(.committed)
            )
            let other = completion(of: slow[0], sha256: digest("b"))
            #expect(await queue.complete(other, now: at(211)) == .code(.nondeterminism))
            let states = try await queue.workers(now: at(212)).map(\.state)
            #expect(states == [.suspect, .suspect, .registered])
            #expect(try await kinds(queue, job).contains(.nondeterminism))
        }
    }

    @Test func oneOfTwoThatFailsLeavesTheShardToTheOther() async throws {
        try await withLateShards { queue, job, slow in
            let second = try await queue.lease("b", 1, now: at(201))[0]
            let report = FailureReport(
                lease: second,
                failureClass: .transient,
                message: "no route"
            )
            try await queue.perform(.fail(report), now: at(202))
            #expect(
                try await queue.status(of: job, now: at(202)).shards
                    == ["committed": 1, "leased": 2]
            )
            try await queue.perform(
                .release(ReleaseRequest(lease: slow[0], reason: "drained")),
                now: at(203)
            )
            #expect(try await queue.lease("c", 1, now: at(204)).map(\.shard) == [slow[0].shard])
        }
    }

    @Test func aShardThatBothHoldersLoseIsPendingAndHasTwoLosses() async throws {
        try await withLateShards { queue, job, slow in
            _ = try await queue.lease("b", 1, now: at(299))
            // Nobody beats any more.
            try await queue.perform(.reap, now: at(400))
            #expect(
                try await queue.status(of: job, now: at(400)).shards
                    == ["committed": 1, "pending": 2]
            )
            #expect(
                try await queue.database.read { db in
                    try Int.fetchOne(
                        db,
                        sql: "SELECT crashes FROM shard WHERE id = \(slow[0].shard)"
                    )
                } == 2
            )
        }
    }

    @Test func aModelThatIsMissingEndsBothAttempts() async throws {
        try await withLateShards { queue, job, slow in
            let second = try await queue.lease("b", 1, now: at(201))[0]
            let report = FailureReport(lease: second, failureClass: .config, message: "no model")
            try await queue.perform(.fail(report), now: at(202))
            #expect(try await queue.state(of: job) == .failed)
            #expect(
                await queue.complete(completion(of: slow[0]), now: at(203)) == .code(.cancelled)
            )
        }
    }

    @Test func aLimitOfWorkersHoldsForSecondAttempts() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            for name in ["a", "b"] {
                try await queue.perform(.register(try registration(name)), now: at(0))
            }
            _ = try await queue.makeJob(submission(maxWorkers: 1), shards: 2)
            let leases = try await queue.lease("a", 2, now: at(0))
            #expect(
                await queue.complete(completion(of: leases[0]), now: at(10)) == .outcome(.committed)
            )
            #expect(try await queue.lease("b", 1, now: at(100)) == [])
        }
    }

    @Test func thePaceGoesToTheMedianWhateverTheExtremes() {
        var pace = Pace(modelID: "", deviceClass: "", seconds: 1000, bytes: 10)
        for round in 0..<200 {
            pace.take(seconds: round % 4 == 0 ? 1_000_000 : 40, bytes: 10)
        }
        #expect((30..<60).contains(pace.seconds(forBytes: 10)))
        #expect(pace.seconds(forBytes: 20) == 2 * pace.seconds(forBytes: 10))
    }
}
