import Coordinator
import GRDB
import JobProtocol
import Testing

/// The queue on its database, with a clock set by hand.
struct JobQueueTests {
    /// Runs a test with a queue that knows the workers `a` and `b`.
    private func withQueue(_ body: (JobQueue, _ folder: String) async throws -> Void) async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            for name in ["a", "b"] {
                try await queue.perform(.register(try registration(name)), now: at(0))
            }
            try await body(queue, folder)
            #expect(try await queue.miscounts() == [])
        }
    }

    // MARK: Leases

    @Test func aLeaseLivesAsLongAsTheQueueIsTold() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder, leaseSeconds: 8)
            try await queue.perform(.register(try registration("a")), now: at(0))
            _ = try await queue.makeJob(shards: 1)
            let leases = try await queue.lease("a", 1, now: at(0))
            #expect(try await queue.describe(leases).map(\.leaseSeconds) == [8])

            let reply = try await queue.beat("a", leases, now: at(5))
            #expect(reply.leaseSeconds == 8)
            #expect(reply.heartbeatSeconds == 2)
            try await queue.perform(.reap, now: at(12))
            #expect(try await queue.lease("a", 1, now: at(12)) == [])
            try await queue.perform(.reap, now: at(13))
            #expect(try await queue.lease("a", 1, now: at(13)).map(\.description) == ["1.1.2"])
        }
    }

    @Test func aJobGoesFromLeaseToSeal() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 2)
            #expect(try await queue.state(of: job) == .queued)

            let leases = try await queue.lease("a", 5, now: at(1))
            #expect(leases.map(\.description) == ["1.1.1", "2.1.1"])
            #expect(try await queue.state(of: job) == .running)
            for lease in leases {
                #expect(
                    await queue.complete(completion(of: lease), now: at(2)) == .outcome(.committed)
                )
            }
            #expect(try await queue.state(of: job) == .sealing)

            try await queue.perform(.seal(job, datasetDigest: digest("e")), now: at(3))
            let status = try await queue.status(of: job, now: at(9))
            #expect(status.state == .completed)
            #expect(status.datasetDigest == digest("e"))
            #expect(
                status.committed
                    == Tally(shards: 2, samples: 4, sourceBytes: 40, outputBytes: 10)
            )
            #expect(status.total == status.committed)
            #expect(status.finishedMilliseconds == at(3).milliseconds)
            #expect(status.sourceBytesPerSecond == 20)
        }
    }

    @Test func jobsOfOnePriorityShareTheWorkersEachInTheOrderOfItsDataset() async throws {
        try await withQueue { queue, _ in
            _ = try await queue.makeJob(submission(destination: "/one"), shards: 5)
            #expect(try await queue.lease("a", 2, now: at(1)).map(\.shard.rawValue) == [1, 2])
            _ = try await queue.makeJob(submission(destination: "/two"), shards: 4)
            let leases = try await queue.lease("a", 5, now: at(1))
            #expect(leases.map(\.shard.rawValue) == [6, 7, 3, 8, 4])
        }
    }

    @Test func aJobOfHigherPriorityComesFirst() async throws {
        try await withQueue { queue, _ in
            _ = try await queue.makeJob(submission(destination: "/one"), shards: 2)
            let urgent = submission(destination: "/two", priority: 1)
            let job = try await queue.makeJob(urgent, shards: 2)
            let leases = try await queue.lease("a", 3, now: at(1))
            #expect(leases.map(\.shard.rawValue) == [3, 4, 1])
            #expect(try await queue.status(of: job, now: at(1)).priority == 1)
        }
    }

    @Test func noMoreWorkersThanTheJobAllowsHoldItsLeases() async throws {
        try await withQueue { queue, _ in
            let limited = submission(destination: "/one", priority: 1, maxWorkers: 1)
            let job = try await queue.makeJob(limited, shards: 4)
            _ = try await queue.makeJob(submission(destination: "/two"), shards: 1)
            let first = try await queue.lease("a", 1, now: at(1))
            #expect(first.map(\.shard.rawValue) == [1])
            #expect(try await queue.lease("b", 2, now: at(1)).map(\.shard.rawValue) == [5])
            // Who holds a lease may take more.
            #expect(try await queue.lease("a", 1, now: at(1)).map(\.shard.rawValue) == [2])
            let status = try await queue.status(of: job, now: at(2))
            #expect(status.workers == 1)
            #expect(status.maxWorkers == 1)
            for lease in [1, 2] {
                let id = try #require(LeaseID("\(lease).1.1"))
                #expect(
                    await queue.complete(completion(of: id), now: at(2)) == .outcome(.committed)
                )
            }
            #expect(try await queue.lease("b", 1, now: at(3)).map(\.shard.rawValue) == [3])
        }
    }

    @Test func leaseExpiresOnceAndOnlyOnce() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 1)
            let lease = try await queue.lease("a", 1, now: at(0))[0]

            try await queue.perform(.reap, now: at(59.999))
            #expect(try await queue.status(of: job, now: at(60)).shards == ["leased": 1])
            try await queue.perform(.reap, now: at(60))
            try await queue.perform(.reap, now: at(60))
            try await queue.perform(.reap, now: at(61))

            let status = try await queue.status(of: job, now: at(61))
            #expect(status.shards == ["pending": 1])
            #expect(status.failedAttempts == 1)
            let expired = try await queue.events(of: job, after: 0)
                .filter { $0.kind == .leaseExpired }
            #expect(expired.map(\.worker) == [try worker("a")])
            #expect(try await queue.beat("a", [lease], now: at(61)).leases[0].directive == .cancel)
        }
    }

    @Test func aHeartbeatProlongsTheLeasesItNames() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 2)
            let leases = try await queue.lease("a", 2, now: at(0))

            let reply = try await queue.beat("a", [leases[0]], now: at(50))
            #expect(reply.directive == .continue)
            #expect(reply.leases.map(\.directive) == [.continue])
            try await queue.perform(.reap, now: at(100))

            let status = try await queue.status(of: job, now: at(100))
            #expect(status.shards == ["leased": 1, "pending": 1])
            #expect(
                status.inFlight == Tally(shards: 1, samples: 1, sourceBytes: 10, outputBytes: 0)
            )
        }
    }

    @Test func aWorkerThatDoesNothingForLongLosesTheShard() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 1)
            let lease = try await queue.lease("a", 1, now: at(0))[0]
            // A step after ten minutes, none from then on.
            for second in stride(from: 15.0, through: 2385, by: 15) {
                let reply = try await queue.beat(
                    "a",
                    [lease],
                    steps: second < 600 ? 0 : 1,
                    now: at(second)
                )
                #expect(reply.leases[0].directive == .continue, "\(second) s")
            }
            for _ in 0..<2 {
                let reply = try await queue.beat("a", [lease], steps: 1, now: at(2400))
                #expect(reply.leases[0].directive == .cancel)
                #expect(reply.directive == .continue)
            }
            let status = try await queue.status(of: job, now: at(2400))
            #expect(status.shards == ["pending": 1])
            #expect(status.stuckAttempts == 1)
            #expect(status.failedAttempts == 0)
            let events = try await queue.events(of: job, after: 0).filter { $0.kind == .stuck }
            #expect(events.map(\.worker) == [try worker("a")])
            #expect(await queue.complete(completion(of: lease), now: at(2401)) == .code(.fenced))
            #expect(try await queue.lease("b", 1, now: at(2402)).count == 1)
        }
    }

    @Test func aLeaseWhoseOutputIsCheckedDoesNotRunOut() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 2)
            let leases = try await queue.lease("a", 2, now: at(0))
            try await queue.perform(.renew([leases[0]]), now: at(50))
            try await queue.perform(.reap, now: at(60))
            #expect(
                try await queue.status(of: job, now: at(60)).shards
                    == ["leased": 1, "pending": 1]
            )
            #expect(
                await queue.complete(completion(of: leases[0]), now: at(61))
                    == .outcome(.committed)
            )
            // One that is not held any more is not brought back.
            try await queue.perform(.renew(Set(leases)), now: at(62))
            #expect(await queue.complete(completion(of: leases[1]), now: at(63)) == .code(.fenced))
        }
    }

    @Test func timeWithoutACoordinatorIsNoStandstill() async throws {
        try await withQueue { queue, _ in
            _ = try await queue.makeJob(shards: 1)
            let lease = try await queue.lease("a", 1, now: at(0))[0]
            try await queue.perform(.start(workersSurvived: true), now: at(5000))
            let reply = try await queue.beat("a", [lease], now: at(5001))
            #expect(reply.leases[0].directive == .continue)
        }
    }

    @Test func nobodyProlongsAnothersLease() async throws {
        try await withQueue { queue, _ in
            _ = try await queue.makeJob(shards: 1)
            let leases = try await queue.lease("a", 1, now: at(0))
            #expect(try await queue.beat("b", leases, now: at(1)).leases[0].directive == .cancel)
        }
    }

    @Test func progressBeyondTheShardIsCut() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 1)
            let lease = try await queue.lease("a", 1, now: at(0))[0]
            let boast = Heartbeat(
                worker: try worker("a"),
                sourceBytesPerSecond: -1,
                leases: [LeaseProgress(lease: lease, samples: .max, sourceBytes: -5, steps: 1)]
            )
            try await queue.perform(.heartbeat(boast), now: at(1))
            #expect(
                try await queue.status(of: job, now: at(1)).inFlight
                    == Tally(shards: 1, samples: 2, sourceBytes: 0, outputBytes: 0)
            )
        }
    }

    // MARK: Completing

    @Test func aSecondCompleteIsAReplay() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 2)
            let lease = try await queue.lease("a", 1, now: at(0))[0]
            let done = completion(of: lease, problems: [SampleProblem(name: "x", reason: "y")])
            #expect(await queue.complete(done, now: at(1)) == .outcome(.committed))
            #expect(await queue.complete(done, now: at(2)) == .outcome(.replay))
            let status = try await queue.status(of: job, now: at(2))
            #expect(status.committed.shards == 1)
            #expect(status.problems == 1)
        }
    }

    @Test func aStaleFenceIsFencedWhileTheShardIsOpen() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 1)
            let old = try await queue.lease("a", 1, now: at(0))[0]
            _ = try await queue.beat("b", [], now: at(50))
            try await queue.perform(.reap, now: at(60))
            #expect(await queue.complete(completion(of: old), now: at(61)) == .code(.fenced))
            let new = try await queue.lease("b", 1, now: at(62))[0]
            #expect(new.fence == Fence(incarnation: 1, counter: 2))
            #expect(await queue.complete(completion(of: old), now: at(63)) == .code(.fenced))
            #expect(try await queue.status(of: job, now: at(63)).shards == ["leased": 1])
            #expect(await queue.complete(completion(of: new), now: at(64)) == .outcome(.committed))
        }
    }

    @Test func aLateAttemptThatAgreesIsWelcome() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 1)
            let old = try await queue.lease("a", 1, now: at(0))[0]
            _ = try await queue.beat("b", [], now: at(50))
            try await queue.perform(.reap, now: at(60))
            let new = try await queue.lease("b", 1, now: at(61))[0]
            #expect(await queue.complete(completion(of: new), now: at(62)) == .outcome(.committed))
            for _ in 0..<2 {
                #expect(await queue.complete(completion(of: old), now: at(63)) == .outcome(.agreed))
            }
            let agreements = try await queue.events(of: job, after: 0).filter { $0.kind == .agreed }
            #expect(agreements.count == 1)
            #expect(try await queue.status(of: job, now: at(63)).committed.shards == 1)
        }
    }

    @Test func otherBytesMakeBothWorkersSuspect() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 2)
            let old = try await queue.lease("a", 1, now: at(0))[0]
            _ = try await queue.beat("b", [], now: at(50))
            try await queue.perform(.reap, now: at(60))
            try await queue.perform(.register(try registration("a")), now: at(60))
            let new = try await queue.lease("b", 1, now: at(61))[0]
            #expect(await queue.complete(completion(of: new), now: at(62)) == .outcome(.committed))

            let other = completion(of: old, sha256: digest("b"))
            #expect(await queue.complete(other, now: at(63)) == .code(.nondeterminism))

            let workers = try await queue.workers(now: at(63))
            #expect(workers.map(\.state) == [.suspect, .suspect])
            #expect(try await queue.lease("b", 1, now: at(64)) == [])
            #expect(try await queue.beat("b", [], now: at(64)).directive == .selftest)
            let events = try await queue.events(of: job, after: 0)
            #expect(events.filter { $0.kind == .nondeterminism }.count == 1)
        }
    }

    @Test func anOutputThatIsNotThereIsNotCommitted() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 1)
            let lease = try await queue.lease("a", 1, now: at(0))[0]
            #expect(
                await queue.complete(completion(of: lease), mismatch: "it is missing", now: at(1))
                    == .code(.outputMismatch)
            )
            #expect(
                await queue.complete(completion(of: lease, samples: 3), now: at(1))
                    == .code(.outputMismatch)
            )
            #expect(try await queue.status(of: job, now: at(1)).shards == ["leased": 1])
            #expect(await queue.complete(completion(of: lease), now: at(2)) == .outcome(.committed))
        }
    }

    @Test(arguments: ["1.1.9", "9.1.1", "1.2.1", "1.0.0"])
    func aForgedLeaseIsFencedAndChangesNothing(text: String) async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 1)
            let lease = try await queue.lease("a", 1, now: at(0))[0]
            #expect(await queue.complete(completion(of: lease), now: at(1)) == .outcome(.committed))
            let forged = completion(of: try #require(LeaseID(text)), sha256: digest("f"))
            #expect(await queue.complete(forged, now: at(2)) == .code(.fenced))
            #expect(try await queue.workers(now: at(2)).map(\.state) == [.active, .registered])
            #expect(try await queue.state(of: job) == .sealing)
        }
    }

    // MARK: Failing

    @Test func aFailureWaitsAndIsTriedAgain() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 1)
            let lease = try await queue.lease("a", 1, now: at(0))[0]
            let report = FailureReport(
                lease: lease,
                failureClass: .transient,
                message: "no route",
                retryAfterSeconds: 7
            )
            for _ in 0..<2 {
                try await queue.perform(.fail(report), now: at(1), random: 3)
            }
            #expect(try await queue.status(of: job, now: at(1)).shards == ["retry_wait": 1])
            try await queue.perform(.reap, now: at(7.999))
            #expect(try await queue.lease("b", 1, now: at(7.999)) == [])
            try await queue.perform(.reap, now: at(8))
            #expect(try await queue.lease("b", 1, now: at(8)).count == 1)
        }
    }

    @Test(arguments: [UInt64(1), 2, 3, 4])
    func theEighthFailureFailsTheJobWithItsReason(random: UInt64) async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 2)
            var now = 0.0
            for attempt in 1...8 {
                let lease = try await queue.lease("a", 1, now: at(now))[0]
                #expect(lease.fence.counter == UInt32(attempt))
                try await queue.perform(
                    .fail(
                        FailureReport(
                            lease: lease,
                            failureClass: .transient,
                            message: "disk \(attempt)"
                        )
                    ),
                    now: at(now),
                    random: random
                )
                // The wait is at most 1 s · 2ⁿ.
                now += Double(1 << attempt)
                try await queue.perform(.register(try registration("a")), now: at(now))
                try await queue.perform(.reap, now: at(now))
            }
            let status = try await queue.status(of: job, now: at(now))
            #expect(status.state == .failed)
            #expect(
                status.failure
                    == "Shard 0 was given up: it failed 8 times, the last time: disk 8."
            )
            #expect(status.shards == ["quarantined": 1, "cancelled": 1])
            #expect(try await queue.lease("a", 1, now: at(now)) == [])
        }
    }

    @Test func aConfigurationErrorFailsTheJobAtOnce() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 3)
            let leases = try await queue.lease("a", 2, now: at(0))
            try await queue.perform(
                .fail(
                    FailureReport(
                        lease: leases[0],
                        failureClass: .config,
                        message: "the model is damaged"
                    )
                ),
                now: at(1)
            )
            #expect(try await queue.state(of: job) == .failed)
            #expect(
                try await queue.beat("a", [leases[1]], now: at(2)).leases[0].directive == .cancel
            )
            #expect(
                await queue.complete(completion(of: leases[1]), now: at(3)) == .code(.cancelled)
            )
            #expect(
                try await queue.status(of: job, now: at(3)).shards
                    == ["quarantined": 1, "cancelled": 2]
            )
        }
    }

    @Test func aFailedJobGoesOnWhereItWas() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 4)
            let leases = try await queue.lease("a", 3, now: at(0))
            _ = await queue.complete(completion(of: leases[0]), now: at(1))
            let report = FailureReport(lease: leases[1], failureClass: .config, message: "no model")
            try await queue.perform(.fail(report), now: at(1))
            #expect(
                try await queue.status(of: job, now: at(2)).shards
                    == ["committed": 1, "quarantined": 1, "cancelled": 1, "leased": 1]
            )

            for _ in 0..<2 {
                try await queue.perform(.retry(job, obstacle: nil), now: at(3))
            }

            let status = try await queue.status(of: job, now: at(3))
            #expect(status.state == .running)
            #expect(status.failure == nil)
            #expect(status.finishedMilliseconds == nil)
            #expect(status.shards == ["committed": 1, "pending": 2, "leased": 1])
            let again = try await queue.lease("a", 3, now: at(4))
            #expect(again.count == 2)
            for lease in again + [leases[2]] {
                #expect(
                    await queue.complete(completion(of: lease), now: at(5)) == .outcome(.committed)
                )
            }
            #expect(try await queue.state(of: job) == .sealing)
            #expect(try await queue.miscounts() == [])
        }
    }

    @Test func aShardThatWasGivenUpIsListedAndTriedAgain() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 3)
            let leases = try await queue.lease("a", 2, now: at(0))
            let report = FailureReport(lease: leases[1], failureClass: .config, message: "no model")
            try await queue.perform(.fail(report), now: at(1))

            let quarantined = try await queue.shards(of: job, in: .quarantined, after: -1)
            #expect(
                quarantined
                    == ShardList(
                        shards: [
                            ShardStatus(
                                ordinal: 1,
                                state: .quarantined,
                                samples: 2,
                                sourceBytes: 20,
                                outputBytes: nil,
                                failures: 1,
                                losses: 0,
                                workers: [],
                                message: "no model"
                            )
                        ],
                        next: nil
                    )
            )
            let all = try await queue.shards(of: job, in: nil, after: -1)
            #expect(all.shards.map(\.state) == [.leased, .quarantined, .cancelled])
            #expect(all.shards.map(\.workers) == [[try worker("a")], [], []])
            #expect(try await queue.shards(of: job, in: nil, after: 1).shards.map(\.ordinal) == [2])

            try await queue.perform(.retry(job, obstacle: nil), now: at(2))
            let again = try await queue.shards(of: job, in: .quarantined, after: -1)
            #expect(again == ShardList(shards: [], next: nil))
            #expect(try await queue.lease("b", 1, now: at(3)).map(\.shard) == [leases[1].shard])
        }
    }

    @Test(arguments: [nil, ShardState.committed])
    func aLongListOfShardsComesInPages(state: ShardState?) async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 1)
            let lease = try await queue.lease("a", 1, now: at(0))[0]
            #expect(await queue.complete(completion(of: lease), now: at(1)) == .outcome(.committed))
            let count = Limits.shardsPerScan + Limits.shardsPerReply
            // Copies of the shard, with the counters: as many commands would take long.
            try await queue.database.write { db in
                try db.execute(
                    sql: """
                        WITH RECURSIVE series (n) AS (
                            SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < :count - 1)
                        INSERT INTO shard (job, ordinal, samples, source_bytes, state, fence,
                            failures, crashes, sha256, output_bytes, totals)
                        SELECT job, n, samples, source_bytes, state, fence, 0, 0, sha256,
                            output_bytes, totals
                        FROM shard CROSS JOIN series;
                        UPDATE counter SET n = n * :count, samples = samples * :count,
                            source_bytes = source_bytes * :count, output_bytes = output_bytes * :count
                            WHERE subject = 'shard' AND state = 'committed';
                        """,
                    arguments: ["count": count]
                )
            }
            var ordinals: [Int] = []
            var after = -1
            while true {
                let page = try await queue.shards(of: job, in: state, after: after)
                #expect(page.shards.count <= Limits.shardsPerReply)
                ordinals += page.shards.map(\.ordinal)
                guard let next = page.next else { break }
                #expect(next > after)
                after = next
            }
            #expect(ordinals == Array(0..<count))
            // The page is empty, but there may be more after the shards that were looked at.
            try await queue.database.write { db in
                try db.execute(
                    sql: """
                        UPDATE counter SET n = 1 WHERE subject = 'shard' AND state = 'pending'
                        """
                )
            }
            let rare = try await queue.shards(of: job, in: .pending, after: -1)
            #expect(rare == ShardList(shards: [], next: Limits.shardsPerScan - 1))
            try await queue.database.write { db in
                try db.execute(
                    sql: """
                        UPDATE counter SET n = 0 WHERE subject = 'shard' AND state = 'pending'
                        """
                )
            }
        }
    }

    @Test func aWorkerThatFindsItsOwnOutputWrongGetsNoMore() async throws {
        try await withQueue { queue, _ in
            _ = try await queue.makeJob(shards: 2)
            let lease = try await queue.lease("a", 1, now: at(0))[0]
            try await queue.perform(
                .fail(
                    FailureReport(
                        lease: lease,
                        failureClass: .integrity,
                        message: "pixel 7 differs"
                    )
                ),
                now: at(1)
            )
            #expect(try await queue.lease("a", 1, now: at(2)) == [])
            #expect(try await queue.lease("b", 1, now: at(2)).count == 1)
        }
    }

    @Test func aReleaseCostsNothing() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 1)
            for attempt in 1...20 {
                let lease = try await queue.lease("a", 1, now: at(Double(attempt)))[0]
                for _ in 0..<2 {
                    try await queue.perform(
                        .release(ReleaseRequest(lease: lease, reason: "drained")),
                        now: at(Double(attempt))
                    )
                }
            }
            let status = try await queue.status(of: job, now: at(30))
            #expect(status.shards == ["pending": 1])
            #expect(status.failedAttempts == 0)
        }
    }

    // MARK: Jobs

    @Test func submittingAgainReturnsTheJobThatHasNotEnded() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 1)
            let again = try await queue.perform(.submit(submission(), obstacle: nil), now: at(1))
            #expect(again == .submitted(SubmitReply(job: job, isReplay: true)))

            // Also when a new job would be in the way of something.
            let obstacle = Problem(.modelMissing, "", next: "")
            let third = try await queue.perform(
                .submit(submission(), obstacle: obstacle),
                now: at(1)
            )
            #expect(third == again)

            let other = submission(modelID: digest("0"))
            await #expect(throws: APIError.self) {
                try await queue.perform(.submit(other, obstacle: nil), now: at(2))
            }
            _ = try await queue.perform(.cancel(job), now: at(3))
            let next = try await queue.perform(.submit(submission(), obstacle: nil), now: at(4))
            #expect(
                next == .submitted(SubmitReply(job: JobID(rawValue: 2), isReplay: false))
            )
        }
    }

    @Test func aKeyNamesOneRequestForEver() async throws {
        try await withQueue { queue, _ in
            let request = submission(key: "k")
            let first = try await queue.makeJob(request, shards: 1)
            _ = try await queue.perform(.cancel(first), now: at(1))
            let again = try await queue.perform(.submit(request, obstacle: nil), now: at(2))
            #expect(again == .submitted(SubmitReply(job: first, isReplay: true)))
            await #expect {
                try await queue.perform(
                    .submit(submission(destination: "/else", key: "k"), obstacle: nil),
                    now: at(3)
                )
            } throws: { error in
                (error as? APIError)?.code == .idempotencyMismatch
            }
        }
    }

    @Test func aPausedJobFinishesWhatIsInFlightAndStartsNothing() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 2)
            let lease = try await queue.lease("a", 1, now: at(0))[0]
            try await queue.perform(.pause(job), now: at(1))
            #expect(try await queue.lease("b", 1, now: at(2)) == [])
            #expect(try await queue.beat("a", [lease], now: at(2)).leases[0].directive == .continue)
            #expect(await queue.complete(completion(of: lease), now: at(3)) == .outcome(.committed))
            try await queue.perform(.resume(job), now: at(4))
            #expect(try await queue.state(of: job) == .running)
            let last = try await queue.lease("b", 1, now: at(5))[0]
            try await queue.perform(.pause(job), now: at(6))
            #expect(await queue.complete(completion(of: last), now: at(7)) == .outcome(.committed))
            #expect(try await queue.state(of: job) == .paused)
            try await queue.perform(.resume(job), now: at(8))
            #expect(try await queue.state(of: job) == .sealing)
        }
    }

    @Test func aCancelledJobGainsNothing() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 4)
            let leases = try await queue.lease("a", 3, now: at(0))
            #expect(
                await queue.complete(completion(of: leases[0]), now: at(1)) == .outcome(.committed)
            )

            try await queue.perform(.cancel(job), now: at(2))
            #expect(try await queue.state(of: job) == .cancelling)
            #expect(
                try await queue.beat("a", [leases[1]], now: at(3)).leases[0].directive == .cancel
            )
            #expect(
                await queue.complete(completion(of: leases[1]), now: at(4)) == .code(.cancelled)
            )
            #expect(
                await queue.complete(completion(of: leases[1]), now: at(4)) == .code(.cancelled)
            )
            #expect(try await queue.state(of: job) == .cancelling)

            try await queue.perform(.reap, now: at(60))
            #expect(try await queue.state(of: job) == .cancelled)
            #expect(
                try await queue.status(of: job, now: at(60)).shards
                    == ["committed": 1, "cancelled": 3]
            )
        }
    }

    @Test func aJobEndsAlthoughShardsCameWhileOthersWereDone() async throws {
        try await withQueue { queue, _ in
            let reply = try await queue.perform(.submit(submission(), obstacle: nil), now: at(0))
            guard case .submitted(let submitted) = reply else { throw TestError.wrongReply }
            let job = submitted.job
            for index in 0..<3 {
                try await queue.perform(
                    .appendShard(job, samples: samples(0..<2), skipped: []),
                    now: at(Double(index))
                )
                let lease = try await queue.lease("a", 1, now: at(Double(index)))[0]
                #expect(
                    await queue.complete(completion(of: lease), now: at(Double(index)))
                        == .outcome(.committed)
                )
                #expect(try await queue.state(of: job) == .running)
            }
            let skipped = [SampleProblem(name: "link", reason: "It is a link.")]
            try await queue.perform(.finishScan(job, skipped: skipped), now: at(4))
            #expect(try await queue.state(of: job) == .sealing)
            #expect(try await queue.status(of: job, now: at(4)).problems == 1)
        }
    }

    // MARK: Workers

    @Test func aSilentWorkerIsGoneAndComesBack() async throws {
        try await withQueue { queue, _ in
            try await queue.perform(.reap, now: at(60))
            #expect(try await queue.workers(now: at(60)).map(\.state) == [.gone, .gone])
            #expect(try await queue.beat("a", [], now: at(61)).directive == .reRegister)
            await #expect {
                try await queue.lease("a", 1, now: at(61))
            } throws: { error in
                (error as? APIError)?.code == .unknownWorker
            }
            try await queue.perform(.register(try registration("a")), now: at(62))
            #expect(try await queue.beat("a", [], now: at(62)).directive == .continue)
        }
    }

    @Test func aWorkerOfAnotherProtocolIsRefusedAndListed() async throws {
        try await withQueue { queue, _ in
            var stranger = try registration("c")
            stranger.protocolVersion = 99
            await #expect {
                try await queue.perform(.register(stranger), now: at(1))
            } throws: { error in
                (error as? APIError)?.code == .incompatible
            }
            #expect(try await queue.workers(now: at(1)).last?.state == .incompatible)
        }
    }

    @Test func workersArePausedResumedAndDrained() async throws {
        try await withQueue { queue, _ in
            _ = try await queue.makeJob(shards: 3)
            let a = try worker("a")
            #expect(try await queue.lease("a", 1, now: at(0)).count == 1)
            try await queue.perform(.pauseWorker(a), now: at(1))
            #expect(try await queue.beat("a", [], now: at(1)).directive == .pause)
            #expect(try await queue.lease("a", 1, now: at(1)) == [])
            try await queue.perform(.resumeWorker(a), now: at(2))
            #expect(try await queue.lease("a", 1, now: at(2)).count == 1)
            try await queue.perform(.drainWorker(a), now: at(3))
            #expect(try await queue.beat("a", [], now: at(3)).directive == .drain)
            await #expect(throws: APIError.self) {
                try await queue.perform(.resumeWorker(a), now: at(4))
            }
            let goodbye = Heartbeat(worker: a, isLeaving: true)
            try await queue.perform(.heartbeat(goodbye), now: at(5))
            #expect(try await queue.workers(now: at(5)).map(\.state) == [.gone, .registered])
        }
    }

    // MARK: Restart

    @Test func aRestartInTheMiddleLosesNothing() async throws {
        try await withTemporaryFolder { folder in
            let job: JobID
            let leases: [LeaseID]
            do {
                let queue = try JobQueue(folder: folder)
                try await queue.perform(.register(try registration("a")), now: at(0))
                job = try await queue.makeJob(shards: 3)
                leases = try await queue.lease("a", 2, now: at(0))
                #expect(
                    await queue.complete(completion(of: leases[0]), now: at(1))
                        == .outcome(.committed)
                )
            }
            // Ten minutes later the worker still holds its shard and hands it in.
            let queue = try JobQueue(folder: folder)
            try await queue.perform(.start(workersSurvived: true), now: at(600))
            try await queue.perform(.reap, now: at(659.999))
            #expect(
                try await queue.status(of: job, now: at(600)).shards
                    == ["committed": 1, "leased": 1, "pending": 1]
            )
            #expect(
                await queue.complete(completion(of: leases[0]), now: at(601)) == .outcome(.replay)
            )
            #expect(
                await queue.complete(completion(of: leases[1]), now: at(602))
                    == .outcome(.committed)
            )
            #expect(try await queue.beat("a", [], now: at(603)).directive == .continue)
            #expect(try await queue.miscounts() == [])
        }
    }

    @Test func noLeaseExpiresWithinALeaseTimeOfTheStart() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 1)
            _ = try await queue.lease("a", 1, now: at(0))
            try await queue.perform(.start(workersSurvived: true), now: at(1000))
            try await queue.perform(.reap, now: at(1059))
            #expect(try await queue.status(of: job, now: at(1059)).shards == ["leased": 1])
            try await queue.perform(.reap, now: at(1060))
            #expect(try await queue.status(of: job, now: at(1060)).shards == ["pending": 1])
        }
    }

    @Test func aStartAfterTheClockWasSetBackKeepsNoLeaseForEver() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 1, now: at(10_000))
            _ = try await queue.lease("a", 1, now: at(10_000))
            try await queue.perform(.start(workersSurvived: true), now: at(0))
            try await queue.perform(.reap, now: at(60))
            #expect(try await queue.status(of: job, now: at(60)).shards == ["pending": 1])
        }
    }

    @Test func whatWorkersHeldIsFreeAtOnceWhenTheyEndedToo() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 1)
            let old = try await queue.lease("a", 1, now: at(0))[0]
            try await queue.perform(.start(workersSurvived: false), now: at(1))
            let new = try await queue.lease("b", 1, now: at(1))[0]
            #expect(new.fence == Fence(incarnation: 1, counter: 2))
            #expect(await queue.complete(completion(of: old), now: at(2)) == .code(.fenced))
            #expect(try await queue.status(of: job, now: at(2)).shards == ["leased": 1])
        }
    }

    @Test func aRestoredDatabaseHonoursNoOldFence() async throws {
        try await withQueue { queue, _ in
            let job = try await queue.makeJob(shards: 1)
            let old = try await queue.lease("a", 1, now: at(0))[0]
            try await queue.perform(.restored, now: at(1))
            #expect(await queue.complete(completion(of: old), now: at(2)) == .code(.fenced))
            let new = try await queue.lease("a", 1, now: at(3))[0]
            #expect(new.fence == Fence(incarnation: 2, counter: 2))
            #expect(try await queue.status(of: job, now: at(3)).shards == ["leased": 1])
        }
    }
}
