import Coordinator
import JobProtocol
import Testing

struct PoisonSearchTests {
    /// Probes until the search ends and returns the workers it cost.
    private func probe(_ search: inout PoisonSearch, poison: Set<Int>) -> Int {
        var losses = 0
        while let part = search.probe {
            if poison.isDisjoint(with: part) {
                search.clear()
            } else {
                losses += 1
                search.lose()
            }
        }
        return losses
    }

    @Test(arguments: [[], [0], [36], [17], [3, 4], [0, 12, 36], Array(0..<37)])
    func findsTheSamplesThatNoWorkerSurvivesAndNoOthers(poison: [Int]) {
        var search = PoisonSearch(samples: 37)
        let losses = probe(&search, poison: Set(poison))
        #expect(search.found == poison)
        // A path of six parts leads to each sample, the last of which is tried three times.
        #expect(losses <= 8 * poison.count)
    }

    @Test func aSampleIsNotBlamedForTwoLostWorkers() {
        var search = PoisonSearch(samples: 1)
        search.lose()
        search.lose()
        search.clear()
        #expect(search.probe == nil)
        #expect(search.found == [])
    }

    @Test func afterThreeSearchesEverySampleIsKeptAsItIs() {
        var search = PoisonSearch(samples: 5)
        for _ in 1..<Limits.searchRounds {
            _ = probe(&search, poison: [])
            let goesOn = search.restart(samples: 5)
            #expect(goesOn)
            #expect(search.probe == 0..<2)
        }
        _ = probe(&search, poison: [2])
        #expect(search.found == [2])
        let last = search.restart(samples: 5)
        #expect(last)
        #expect(search.probe == nil)
        #expect(search.found == [0, 1, 2, 3, 4])
        let end = search.restart(samples: 5)
        #expect(!end)
    }
}

struct PoisonTests {
    /// Leases and does what is asked, on workers that every lease with a poisonous sample ends.
    ///
    /// - Returns: The leases that made the shard, in order; one that failed has none.
    private func work(
        _ queue: JobQueue,
        poison: Set<String>,
        hosts: Int = 1,
        until isDone: (JobState) -> Bool
    ) async throws -> [Lease] {
        var made: [Lease] = []
        var now = 0.0
        for round in 0..<100 {
            if isDone(try await queue.state(of: JobID(rawValue: 1))) { return made }
            let name = "worker\(round)"
            var registration = try registration(name)
            registration.host = "host\(round % hosts)"
            try await queue.perform(.register(registration), now: at(now))
            let leases = try await queue.lease(name, 1, now: at(now))
            let lease = try #require(try await queue.describe(leases).first)
            let seen = lease.samples.enumerated().filter { !lease.verbatim.contains($0.offset) }
            if seen.contains(where: { poison.contains($0.element.name) || poison == ["any"] }) {
                now += 60
                try await queue.perform(.reap, now: at(now))
            } else if lease.purpose == .probe {
                for _ in 0..<2 {
                    try await queue.perform(.clear(ClearRequest(lease: lease.lease)), now: at(now))
                }
            } else {
                made.append(lease)
                #expect(
                    await queue.complete(
                        completion(of: lease.lease, samples: lease.samples.count),
                        now: at(now)
                    ) == .outcome(.committed)
                )
            }
        }
        return made
    }

    @Test(arguments: [1, 2])
    func aSampleThatNoWorkerSurvivesIsKeptAsItIs(hosts: Int) async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            let job = try await queue.makeJob(shards: 2)

            let made = try await work(queue, poison: ["1.png"], hosts: hosts) { $0 == .sealing }

            #expect(made.map(\.ordinal) == [0, 1])
            #expect(made.map(\.verbatim) == [[1], []])
            #expect(made.allSatisfy { $0.samples.count == 2 })
            let events = try await queue.events(of: job, after: 0).map(\.kind)
            #expect(events.filter { $0 == .suspected }.count == 1)
            #expect(events.filter { $0 == .isolated }.count == 1)
            // Three on the whole, and three on the sample.
            #expect(events.filter { $0 == .leaseExpired }.count == 6)
            #expect(try await queue.miscounts() == [])
        }
    }

    @Test func aShardThatEndsItsWorkersWhateverIsLeftOutFailsTheJob() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            let job = try await queue.makeJob(shards: 1)
            var now = 0.0
            var losses = 0
            while try await queue.state(of: job) == .running || losses == 0 {
                let name = "worker\(losses)"
                try await queue.perform(.register(try registration(name)), now: at(now))
                #expect(try await queue.lease(name, 1, now: at(now)).count == 1)
                now += 60
                losses += 1
                try await queue.perform(.reap, now: at(now))
                try #require(losses < 100)
            }
            let status = try await queue.status(of: job, now: at(now))
            #expect(status.state == .failed)
            #expect(
                status.failure
                    == "Shard 0 was given up: workers are lost on it though all its samples are "
                    + "kept as they are."
            )
            // Three on the whole, three on each of its two samples, and three on the copies.
            #expect(losses == 12)
        }
    }

    @Test func workersLostOnOneHostOfSeveralSayNothingAboutTheShard() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            let job = try await queue.makeJob(shards: 1)
            var other = try registration("b")
            other.host = "another host"
            try await queue.perform(.register(other), now: at(0))
            var now = 0.0
            for loss in 1...Limits.triesPerShard {
                try await queue.perform(.register(try registration("a")), now: at(now))
                let lease = try await queue.describe(try await queue.lease("a", 1, now: at(now)))
                #expect(lease.map(\.purpose) == [.shard], "\(loss)")
                now += 60
                try await queue.perform(.reap, now: at(now))
            }
            try await queue.perform(.register(try registration("a")), now: at(now))
            let lease = try await queue.describe(try await queue.lease("a", 1, now: at(now)))
            #expect(lease.map(\.purpose) == [.probe])
            #expect(try await queue.state(of: job) == .running)
        }
    }

    @Test func aProbeHasNoOutputAndAShardIsNotCleared() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            _ = try await queue.makeJob(shards: 1)
            try await queue.perform(.register(try registration("a")), now: at(0))
            let whole = try await queue.lease("a", 1, now: at(0))[0]
            await #expect(throws: APIError.self) {
                try await queue.perform(.clear(ClearRequest(lease: whole)), now: at(0))
            }
            for second in [60.0, 120, 180] {
                try await queue.perform(.reap, now: at(second))
                try await queue.perform(.register(try registration("a")), now: at(second))
                if second < 180 { _ = try await queue.lease("a", 1, now: at(second)) }
            }
            let probe = try await queue.lease("a", 1, now: at(180))[0]
            #expect(
                await queue.complete(completion(of: probe), now: at(181)) == .code(.outputMismatch)
            )
            try await queue.perform(.clear(ClearRequest(lease: probe)), now: at(181))
        }
    }

    @Test func aLeaseWhoseAnswerWasLostIsNoLoss() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            _ = try await queue.makeJob(shards: 1)
            try await queue.perform(.register(try registration("a")), now: at(0))
            for round in 0..<Limits.triesPerShard {
                let start = 60 * Double(round)
                let lease = try await queue.lease("a", 1, now: at(start))
                #expect(try await queue.describe(lease).map(\.purpose) == [.shard])
                _ = try await queue.beat("a", [], now: at(start + 15))
                try await queue.perform(.reap, now: at(start + 60))
            }
            let lease = try await queue.lease("a", 1, now: at(600))
            #expect(try await queue.describe(lease).map(\.purpose) == [.shard])
        }
    }

    @Test func wrongOutputsOfSeveralWorkersMakeTheShardSuspected() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            let job = try await queue.makeJob(shards: 1)
            for index in 0..<Limits.suspectLosses {
                let name = "worker\(index)"
                try await queue.perform(.register(try registration(name)), now: at(0))
                let lease = try await queue.lease(name, 1, now: at(0))[0]
                let report = FailureReport(
                    lease: lease,
                    failureClass: .integrity,
                    message: "pixel 7 differs"
                )
                try await queue.perform(.fail(report), now: at(1))
            }
            let events = try await queue.events(of: job, after: 0).map(\.kind)
            #expect(events.contains(.suspected))
            let states = try await queue.workers(now: at(1)).map(\.state)
            #expect(states == [.suspect, .suspect, .suspect])
        }
    }

    @Test func aSampleOnWhichWorkersGetStuckIsSearchedFor() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            _ = try await queue.makeJob(shards: 1)
            try await queue.perform(.register(try registration("a")), now: at(0))
            var now = 0.0
            for _ in 0..<Limits.suspectLosses {
                let lease = try await queue.lease("a", 1, now: at(now))
                #expect(try await queue.describe(lease).map(\.purpose) == [.shard])
                for _ in 0..<Limits.stuckSeconds / 15 {
                    now += 15
                    _ = try await queue.beat("a", lease, now: at(now))
                }
            }
            let lease = try await queue.lease("a", 1, now: at(now))
            #expect(try await queue.describe(lease).map(\.purpose) == [.probe])
        }
    }
}
