import JobProtocol
import Testing

/// The state machines have no dead ends and no islands.
struct LifecycleTests {
    private func reachable<State: LifecycleState>(from first: State) -> Set<State> {
        var found: Set<State> = [first]
        var frontier = [first]
        while let state = frontier.popLast() {
            for next in state.successors where found.insert(next).inserted {
                frontier.append(next)
            }
        }
        return found
    }

    @Test func everyStateCanBeReached() {
        #expect(reachable(from: JobState.planning) == Set(JobState.allCases))
        #expect(reachable(from: ShardState.pending) == Set(ShardState.allCases))
        #expect(reachable(from: AttemptState.issued) == Set(AttemptState.allCases))
        #expect(reachable(from: WorkerState.registered) == Set(WorkerState.allCases))
    }

    @Test func everyJobCanEnd() {
        for state in JobState.allCases {
            #expect(reachable(from: state).contains { $0.isFinal }, "\(state)")
        }
    }

    @Test func nothingFollowsItself() {
        #expect(JobState.allCases.allSatisfy { !$0.successors.contains($0) })
        #expect(ShardState.allCases.allSatisfy { !$0.successors.contains($0) })
        #expect(AttemptState.allCases.allSatisfy { !$0.successors.contains($0) })
        #expect(WorkerState.allCases.allSatisfy { !$0.successors.contains($0) })
    }

    @Test func onlyWaitingAndRunningJobsAreLeased() {
        #expect(JobState.allCases.filter(\.isLeasable) == [.queued, .running])
    }

    @Test func theTimesLeaveRoomForLostHeartbeats() {
        #expect(Limits.heartbeatSeconds * 3 <= Limits.leaseSeconds * Limits.selfFencePercent / 100)
        #expect(Limits.longPollSeconds < Limits.leaseSeconds)
        #expect(Limits.leaseSeconds < Limits.stuckSeconds)
    }
}
