import JobProtocol
import Testing
import Worker

@Suite(.timeLimit(.minutes(5)))
struct LeaseKeeperTests {
    private let clock = ManualClock()
    private let coordinator = FakeCoordinator()
    private let keeper: LeaseKeeper

    init() {
        keeper = LeaseKeeper(
            api: coordinator,
            worker: testWorker,
            heartbeatSeconds: 15,
            logger: silent,
            now: { [clock] in clock.seconds }
        )
    }

    private func lease(_ shard: Int64) -> Lease {
        Lease(
            lease: leaseID(shard),
            job: JobID(rawValue: 1),
            ordinal: 0,
            source: "/s",
            destination: "/d",
            modelID: "",
            samples: [],
            leaseSeconds: 60
        )
    }

    @Test func aLeaseWithoutAnAnswerIsUncertainAfterEightyPercent() {
        keeper.add(lease(1))

        clock.advance(seconds: 47.9)
        #expect(keeper.standing(of: leaseID(1)) == .held)
        clock.advance(seconds: 0.2)
        #expect(keeper.standing(of: leaseID(1)) == .uncertain)
    }

    @Test func anAnswerProlongsFromWhenTheHeartbeatWasSent() {
        keeper.add(lease(1))
        clock.advance(seconds: 40)
        keeper.beat()

        clock.advance(seconds: 47)
        #expect(keeper.standing(of: leaseID(1)) == .held)
        clock.advance(seconds: 2)
        #expect(keeper.standing(of: leaseID(1)) == .uncertain)
        keeper.beat()
        #expect(keeper.standing(of: leaseID(1)) == .held)
    }

    @Test func anOutageLeavesLeasesUncertainAndNeverLost() {
        keeper.add(lease(1))
        coordinator.with { $0.outage = .unreachable("down") }

        for _ in 0..<100 {
            clock.advance(seconds: 15)
            keeper.beat()
        }

        #expect(keeper.standing(of: leaseID(1)) == .uncertain)
        coordinator.with { $0.outage = nil }
        keeper.beat()
        #expect(keeper.standing(of: leaseID(1)) == .held)
    }

    @Test func aCancelledLeaseIsLostAndNamedNoMore() {
        keeper.add(lease(1))
        keeper.add(lease(2))
        coordinator.with { $0.cancelled = [leaseID(1)] }

        keeper.beat()

        #expect(keeper.standing(of: leaseID(1)) == .lost)
        #expect(keeper.standing(of: leaseID(2)) == .held)
        keeper.beat()
        #expect(coordinator.with { $0.heartbeats.last?.leases.map(\.lease) } == [leaseID(2)])
    }

    @Test(arguments: [true, false])
    func aForgottenWorkerLosesEverythingAndRegistersAgain(isProblem: Bool) {
        keeper.add(lease(1))
        coordinator.with { state in
            if isProblem {
                state.outage = .refused(Problem(.unknownWorker, "Who?", next: "Register."))
            } else {
                state.directive = .reRegister
            }
        }

        keeper.beat()

        #expect(keeper.standing(of: leaseID(1)) == .lost)
        #expect(keeper.directive == .reRegister)
        keeper.registered()
        #expect(keeper.directive == .continue)
    }

    @Test func aHeartbeatTellsProgressAndRate() throws {
        keeper.add(lease(1))
        keeper.beat()
        keeper.advance(leaseID(1), samples: 3, sourceBytes: 1_000)
        keeper.advance(leaseID(1), samples: 1, sourceBytes: 500)
        clock.advance(seconds: 10)

        keeper.beat()

        let heartbeat = try #require(coordinator.with { $0.heartbeats.last })
        #expect(
            heartbeat.leases == [
                LeaseProgress(lease: leaseID(1), samples: 4, sourceBytes: 1_500, steps: 2)
            ]
        )
        #expect(heartbeat.sourceBytesPerSecond == 150)
        #expect(!heartbeat.isDraining)
    }

    @Test func whoWaitsForCertaintyGetsItWithTheNextAnswer() async {
        keeper.add(lease(1))
        clock.advance(seconds: 50)
        async let standing = keeper.settledStanding(of: leaseID(1))

        keeper.beat()

        #expect(await standing == .held)
    }

    @Test func whoWaitsForALossHearsOfIt() async {
        keeper.add(lease(1))
        coordinator.with { $0.cancelled = [leaseID(1)] }
        async let lost: Void = keeper.untilLost(leaseID(1))

        keeper.beat()

        await lost
        #expect(keeper.standing(of: leaseID(1)) == .lost)
    }

    @Test func aCancelledTaskIsToldThatItsLeaseIsLost() async {
        let keeper = keeper
        keeper.add(lease(1))
        let task = Task {
            while !Task.isCancelled { await Task.yield() }
            await keeper.untilLost(leaseID(1))
            await keeper.untilReachable()
            return await keeper.settledStanding(of: leaseID(1))
        }

        task.cancel()

        #expect(await task.value == .lost)
    }

    @Test func theThreadSaysGoodbyeAndEnds() async {
        keeper.start()
        keeper.drain()
        await keeper.stop()

        let last = coordinator.with { $0.heartbeats.last }
        #expect(last?.isLeaving == true)
        #expect(last?.isDraining == true)
        #expect(keeper.directive == .drain)
    }
}
