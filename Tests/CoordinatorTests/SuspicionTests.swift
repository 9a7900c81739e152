import Coordinator
import JobProtocol
import Testing

/// Workers that gave reason for doubt.
struct SuspicionTests {
    /// Runs a test with the workers `a` and `b` and a job of many shards.
    private func withQueue(_ body: (JobQueue, JobID) async throws -> Void) async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            for name in ["a", "b"] {
                try await queue.perform(.register(try registration(name)), now: at(0))
            }
            try await body(queue, try await queue.makeJob(shards: 60))
            #expect(try await queue.miscounts() == [])
        }
    }

    private func fail(
        _ queue: JobQueue,
        _ name: String,
        _ failureClass: FailureClass,
        now: Timestamp
    ) async throws {
        let lease = try #require(try await queue.lease(name, 1, now: now).first)
        let report = FailureReport(lease: lease, failureClass: failureClass, message: "no route")
        try await queue.perform(.fail(report), now: now)
    }

    private func status(_ queue: JobQueue, _ name: String) async throws -> WorkerStatus {
        let name = try worker(name)
        return try #require(try await queue.workers(now: at(0)).first { $0.worker == name })
    }

    @Test func aSelftestThatGoesWellClearsAWorker() async throws {
        try await withQueue { queue, job in
            try await fail(queue, "a", .integrity, now: at(1))
            #expect(try await queue.lease("a", 1, now: at(2)) == [])
            #expect(try await queue.beat("a", [], now: at(2)).directive == .selftest)
            #expect(
                try await status(queue, "a").suspicion == "It found its own output wrong: no route"
            )
            #expect(try await queue.selftest("a", isOK: true, now: at(3)) == .continue)
            #expect(try await status(queue, "a").suspicion == nil)
            #expect(try await queue.lease("a", 1, now: at(4)).count == 1)
            let events = try await queue.events(of: job, after: 0)
            #expect(events.filter { $0.kind == .workerSuspected }.count == 1)
        }
    }

    @Test func aSelftestThatFailsIsShownAndTheWorkerWaits() async throws {
        try await withQueue { queue, _ in
            try await fail(queue, "a", .integrity, now: at(1))
            #expect(try await queue.selftest("a", isOK: false, now: at(2)) == .pause)
            #expect(try await queue.beat("a", [], now: at(3)).directive == .pause)
            #expect(try await queue.lease("a", 1, now: at(3)) == [])
            let status = try await status(queue, "a")
            #expect(status.state == .suspect)
            #expect(status.suspicion == "Its selftest failed: kernels: numbers")
            try await queue.perform(.drainWorker(try worker("a")), now: at(4))
            #expect(try await queue.beat("a", [], now: at(5)).directive == .drain)
        }
    }

    @Test func aSelftestThatNobodyAskedForChangesNothing() async throws {
        try await withQueue { queue, _ in
            _ = try await queue.lease("a", 1, now: at(1))
            #expect(try await queue.selftest("a", isOK: false, now: at(2)) == .continue)
            #expect(try await status(queue, "a").state == .active)
            await #expect(throws: APIError.self) {
                try await queue.selftest("c", isOK: true, now: at(2))
            }
        }
    }

    @Test func aSuspectThatComesBackIsStillOne() async throws {
        try await withQueue { queue, _ in
            try await fail(queue, "a", .integrity, now: at(1))
            try await queue.perform(.reap, now: at(100))
            #expect(try await status(queue, "a").state == .gone)
            try await queue.perform(.register(try registration("a")), now: at(101))
            #expect(try await status(queue, "a").state == .suspect)
            #expect(try await queue.lease("a", 1, now: at(101)) == [])
        }
    }

    @Test func aWorkerThatFailsMuchMoreOftenThanTheOthersIsSuspect() async throws {
        try await withQueue { queue, _ in
            for index in 0..<Limits.attemptsForComparison {
                let lease = try await queue.lease("b", 1, now: at(Double(index)))[0]
                _ = await queue.complete(completion(of: lease), now: at(Double(index)))
            }
            for failure in 1...Limits.failuresForSuspicion {
                #expect(try await status(queue, "a").suspicion == nil, "\(failure)")
                try await fail(queue, "a", .transient, now: at(20))
            }
            #expect(
                try await status(queue, "a").suspicion
                    == "5 of its 5 attempts failed, 0 of 20 of the other workers'."
            )
            // Cleared, it begins anew.
            #expect(try await queue.selftest("a", isOK: true, now: at(21)) == .continue)
            try await fail(queue, "a", .transient, now: at(22))
            #expect(try await status(queue, "a").state == .active)
        }
    }

    @Test func whereEverybodyFailsNobodyIsSuspect() async throws {
        try await withQueue { queue, job in
            for index in 0..<10 {
                for name in ["a", "b", "b", "b"] {
                    try await queue.perform(.resume(job), now: at(Double(index)))
                    try await fail(queue, name, .transient, now: at(Double(index)))
                }
            }
            #expect(try await queue.workers(now: at(20)).map(\.state) == [.active, .active])
        }
    }

    @Test(arguments: [
        (5, 5, 19, 0, false), (5, 5, 20, 0, true), (4, 4, 20, 0, false), (6, 60, 300, 10, false),
        (7, 60, 300, 10, true),
    ])
    func theRatesAreCompared(failed: Int, total: Int, others: Int, othersFailed: Int, isMore: Bool)
    {
        let own = Outcomes(completed: total - failed, failed: failed)
        let other = Outcomes(completed: others - othersFailed, failed: othersFailed)
        #expect(own.fails(3, timesAsOftenAs: other) == isMore)
    }
}
