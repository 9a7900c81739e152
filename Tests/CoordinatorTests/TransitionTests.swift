import Coordinator
import JobProtocol
import Testing

/// The pure function alone: a state and a command in, effects and an answer out.
struct TransitionTests {
    private let id = JobID(rawValue: 1)

    private func record(_ id: JobID, _ state: JobState) -> JobRecord {
        JobRecord(
            id: id,
            source: "/in",
            destination: "/out",
            modelID: digest("d"),
            shardBytes: 1,
            idempotencyKey: nil,
            createdAt: at(0),
            state: state
        )
    }

    /// A queue of one job with one pending shard, in the given state.
    private func state(_ job: JobState, isScanFinished: Bool = false) -> QueueState {
        var state = QueueState(incarnation: 1)
        var record = record(id, job)
        record.isScanFinished = isScanFinished
        state.jobs[id] = record
        let shard = ShardRecord(
            id: ShardID(rawValue: 1),
            job: id,
            ordinal: 0,
            samples: 2,
            sourceBytes: 20
        )
        state.shards[shard.id] = shard
        state.tallies[id] = [.pending: shard.tally]
        return state
    }

    /// What became of a command: the states that the job went through, or a refusal.
    private enum Course: Equatable {
        case states([JobState])
        case refused(Problem.Code)
    }

    private func course(_ command: Command, _ state: QueueState) -> Course {
        let decision = apply(command, now: at(1), random: 0, to: state)
        let path = decision.effects.compactMap { effect -> JobState? in
            guard case .changeJob(_, let after) = effect else { return nil }
            return after.state
        }
        switch decision.reply {
        case .success: return .states(path)
        case .failure(let problem): return .refused(problem.code)
        }
    }

    /// Returns the course that a table names for a state; a state it lacks is the wrong one.
    private func expectation(_ table: [JobState: [JobState]], _ state: JobState) -> Course {
        table[state].map(Course.states) ?? .refused(.wrongState)
    }

    @Test(arguments: JobState.allCases)
    func pauseStopsWhatGoesOn(job: JobState) {
        let table: [JobState: [JobState]] = [
            .planning: [.paused], .queued: [.paused], .running: [.paused], .paused: [],
        ]
        #expect(course(.pause(id), state(job)) == expectation(table, job))
    }

    @Test(arguments: JobState.allCases)
    func resumeTakesBackAPause(job: JobState) {
        let table: [JobState: [JobState]] = [
            .paused: [.queued], .planning: [], .queued: [], .running: [], .sealing: [],
        ]
        #expect(course(.resume(id), state(job)) == expectation(table, job))
    }

    @Test(arguments: JobState.allCases)
    func cancelEndsWhatIsNotComplete(job: JobState) {
        let end: [JobState] = [.cancelling, .cancelled]
        let table: [JobState: [JobState]] = [
            .planning: end, .queued: end, .running: end, .paused: end, .cancelling: [],
            .cancelled: [],
        ]
        #expect(course(.cancel(id), state(job)) == expectation(table, job))
    }

    @Test(arguments: JobState.allCases)
    func onlyASealingJobIsSealed(job: JobState) {
        let table: [JobState: [JobState]] = [.sealing: [.completed]]
        let command = Command.seal(id, datasetDigest: digest("e"))
        #expect(course(command, state(job)) == expectation(table, job))
    }

    @Test(arguments: JobState.allCases)
    func aJobThatEndedDoesNotFail(job: JobState) {
        let table = JobState.allCases.reduce(into: [JobState: [JobState]]()) { table, state in
            if state.successors.contains(.failed) {
                table[state] = [.failed]
            }
        }
        let command = Command.abandon(id, reason: "The source is gone.")
        #expect(course(command, state(job)) == expectation(table, job))
    }

    @Test(arguments: JobState.allCases)
    func onlyAFailedJobIsTriedAgain(job: JobState) {
        let table: [JobState: [JobState]] = [
            .failed: [.queued], .planning: [], .queued: [], .running: [], .paused: [],
            .sealing: [],
        ]
        let command = Command.retry(id, obstacle: nil)
        #expect(course(command, state(job)) == expectation(table, job))
    }

    @Test func aRetryDoesNotTakeTheDestinationOfAnotherJob() {
        var failed = state(.failed)
        let other = JobID(rawValue: 2)
        failed.jobs[other] = record(other, .running)
        #expect(course(.retry(id, obstacle: nil), failed) == .refused(.destinationBusy))
    }

    @Test func theScanOfAnEmptySourceSealsTheJob() {
        var empty = state(.planning)
        empty.shards = [:]
        empty.tallies = [:]
        #expect(course(.finishScan(id, skipped: []), empty) == .states([.planning, .sealing]))
    }

    @Test func aSkippedEntryIsAFallback() {
        var sealing = state(.sealing)
        sealing.jobs[id]?.problems = 1
        let command = Command.seal(id, datasetDigest: digest("e"))
        #expect(course(command, sealing) == .states([.completedWithFallbacks]))
    }

    @Test func aCommandAboutAnUnknownJobIsRefused() {
        let empty = QueueState(incarnation: 1)
        for command in [Command.pause(id), .resume(id), .cancel(id)] {
            #expect(course(command, empty) == .refused(.notFound))
        }
    }

    @Test func theSameInputsGiveTheSameEffects() throws {
        var leasing = state(.queued)
        leasing.workers[try worker("w")] = WorkerRecord(
            registration: try registration("w"),
            state: .registered,
            seenAt: at(0)
        )
        leasing.queue = [ShardID(rawValue: 1)]
        let command = Command.lease(try worker("w"), shards: 1)
        let first = apply(command, now: at(1), random: 7, to: leasing)
        let second = apply(command, now: at(1), random: 7, to: leasing)
        #expect(first.effects == second.effects)
        #expect(first.effects.count == 5)
    }

    @Test(arguments: WorkerState.allCases)
    func onlyAWorkerInGoodStandingIsGivenWork(worker state: WorkerState) throws {
        var leasing = self.state(.queued)
        leasing.workers[try worker("w")] = WorkerRecord(
            registration: try registration("w"),
            state: state,
            seenAt: at(0)
        )
        leasing.queue = [ShardID(rawValue: 1)]

        let decision = apply(
            .lease(try worker("w"), shards: 1),
            now: at(1),
            random: 0,
            to: leasing
        )

        let lease = LeaseID(
            shard: ShardID(rawValue: 1),
            fence: Fence(incarnation: 1, counter: 1)
        )
        switch (state, decision.reply) {
        case (.registered, .success(let reply)), (.active, .success(let reply)):
            #expect(reply == .leased([lease], .continue))
        case (.paused, .success(let reply)):
            #expect(reply == .leased([], .pause))
        case (.draining, .success(let reply)):
            #expect(reply == .leased([], .drain))
        case (.suspect, .success(let reply)):
            #expect(reply == .leased([], .selftest))
        case (.gone, .failure(let problem)):
            #expect(problem.code == .unknownWorker)
        case (.incompatible, .failure(let problem)):
            #expect(problem.code == .incompatible)
        default:
            Issue.record("\(state) answers \(decision.reply)")
        }
    }

    // MARK: Whose turn it is

    /// Jobs that run, numbered from 1, with their priorities, leased and pending shards.
    private func queue(_ jobs: [(priority: Int, leased: Int, pending: Int)]) -> QueueState {
        var queue = QueueState(incarnation: 1)
        for (index, job) in jobs.enumerated() {
            let id = JobID(rawValue: Int64(index + 1))
            queue.jobs[id] = JobRecord(
                id: id,
                source: "/in",
                destination: "/out/\(id)",
                modelID: digest("d"),
                shardBytes: 1,
                priority: job.priority,
                maxWorkers: 2,
                idempotencyKey: nil,
                createdAt: at(0),
                state: .running
            )
            queue.tallies[id] = [.leased: shards(job.leased), .pending: shards(job.pending)]
        }
        return queue
    }

    private func shards(_ count: Int) -> Tally {
        Tally(shards: count, samples: 0, sourceBytes: 0, outputBytes: 0)
    }

    @Test func theJobWithTheFewestLeasesComesNext() {
        let state = queue([(0, 3, 9), (0, 0, 2), (0, 1, 9)])
        #expect(state.jobsToLease(shards: 7).map(\.rawValue) == [2, 3, 2, 3, 1, 3, 1])
    }

    @Test func aHigherPriorityComesFirstAndThenTheNext() {
        let state = queue([(-1, 0, 9), (5, 40, 2), (0, 0, 1)])
        #expect(state.jobsToLease(shards: 4).map(\.rawValue) == [2, 2, 3, 1])
    }

    @Test func fewerShardsThanAskedForAreAllGiven() {
        let state = queue([(0, 0, 1), (0, 0, 0)])
        #expect(state.jobsToLease(shards: 64).map(\.rawValue) == [1])
    }

    @Test(arguments: [(2, false, false), (2, true, true), (1, false, true)])
    func aFullJobTakesNoFurtherWorker(count: Int, includesAsker: Bool, isGiven: Bool) {
        var state = queue([(0, 2, 9)])
        state.holders[JobID(rawValue: 1)] = .init(count: count, includesAsker: includesAsker)
        #expect(state.jobsToLease(shards: 1).isEmpty != isGiven)
    }
}
