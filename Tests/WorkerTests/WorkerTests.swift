import JobProtocol
import Kernels
import Testing
import Worker

@Suite(.timeLimit(.minutes(5)))
struct WorkerTests {
    private let place: Workplace
    private let coordinator = FakeCoordinator()
    private let worker: Worker

    init() throws {
        place = try Workplace()
        worker = Worker(
            configuration: .init(
                worker: testWorker,
                slots: 2,

                host: "test",
                version: "0",
                heartbeatSeconds: 1
            ),
            models: Workplace.models,
            api: coordinator,
            logger: silent
        )
    }

    /// Gives out leases and drains the worker after the last of them ended.
    private func offer(_ leases: [Lease]) {
        let worker = worker
        let coordinator = coordinator
        coordinator.with { state in
            state.pending = leases
            state.afterEnd = {
                let ended = coordinator.with {
                    $0.completions.count + $0.failures.count + $0.releases.count
                }
                if ended == leases.count { worker.drain() }
            }
        }
    }

    @Test func everyLeaseIsCompletedAndTheWorkerLeaves() async throws {
        var leases: [Lease] = []
        for shard in 1...3 as ClosedRange<Int64> {
            try place.source.write(
                smoothPPM(width: 16, height: 16, seed: UInt64(shard)),
                "\(shard).ppm"
            )
            leases.append(place.lease(["\(shard).ppm"], shard: shard))
        }
        offer(leases)

        try await worker.run()

        let state = coordinator.with(\.self)
        #expect(Set(state.completions.map(\.lease)) == Set(leases.map(\.lease)))
        #expect(state.failures == [])
        #expect(state.heartbeats.last?.isLeaving == true)
        #expect(state.heartbeats.last?.leases == [])
        #expect(place.destination.files().count == 4)
    }

    @Test func aFailureIsReportedWithItsClass() async throws {
        try place.source.write([1], "a")
        offer([place.lease(["a"], modelID: String(repeating: "0", count: 64))])

        try await worker.run()

        let failures = coordinator.with(\.failures)
        #expect(failures.map(\.failureClass) == [.config])
        #expect(coordinator.with { $0.completions.isEmpty })
    }

    @Test func anOutageAtTheEndIsWaitedOut() async throws {
        try place.source.write([1], "a")
        offer([place.lease(["a"])])
        coordinator.with { state in
            state.refusals = [
                .unreachable("down"),
                .refused(Problem(.unavailable, "Full.", next: "Wait.")),
            ]
        }

        try await worker.run()

        #expect(coordinator.with { $0.completions.count } == 1)
        #expect(coordinator.with { $0.failures.isEmpty })
    }

    @Test func aFencedShardIsGivenUpWithoutBlame() async throws {
        try place.source.write([1], "a")
        offer([place.lease(["a"])])
        coordinator.with {
            $0.refusals = [.refused(Problem(.fenced, "Too late.", next: "Drop it."))]
        }

        try await worker.run()

        #expect(coordinator.with { $0.completions.isEmpty })
        #expect(coordinator.with { $0.failures.isEmpty })
        #expect(coordinator.with { $0.releases.count } == 1)
    }

    @Test func anOutputThatIsNotThereIsAFailure() async throws {
        try place.source.write([1], "a")
        offer([place.lease(["a"])])
        coordinator.with {
            $0.refusals = [.refused(Problem(.outputMismatch, "Gone.", next: "Again."))]
        }

        try await worker.run()

        #expect(coordinator.with { $0.failures.map(\.failureClass) } == [.transient])
    }

    @Test func aSuspectWorkerTakesWorkAgainOnceItHasReportedItsSelftest() async throws {
        coordinator.with { $0.directiveAtRegistration = .selftest }
        try place.source.write([1], "a")
        offer([place.lease(["a"])])

        try await worker.run()

        let state = coordinator.with(\.self)
        let report = try #require(state.selftests.first)
        #expect(report.worker == testWorker)
        #expect(report.checks.count > InstructionSet.supported.count)
        #expect(report.checks.filter { !$0.isOK } == [])
        #expect(state.completions.count == 1)
    }

    @Test func aRefusedWorkerEndsWithTheRefusal() async throws {
        let problem = Problem(.incompatible, "Old.", next: "Update.")
        coordinator.with { $0.outage = .refused(problem) }

        let error = await #expect(throws: APIError.self) { try await worker.run() }

        #expect(error == .refused(problem))
    }

    @Test func aDrainedWorkerWithoutWorkLeavesAtOnce() async throws {
        worker.drain()
        try await worker.run()
        #expect(coordinator.with { $0.completions.isEmpty })
    }
}
