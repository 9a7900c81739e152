import Synchronization
import Testing
import Worker

@Suite(.timeLimit(.minutes(5)))
struct ComputePoolTests {
    private final class Counts: Sendable {
        let state = Mutex((running: 0, most: 0, done: 0))
    }

    @Test(arguments: [1, 3])
    func noMoreTasksRunThanThereAreThreads(threads: Int) async {
        let pool = ComputePool(threads: threads)
        let counts = Counts()

        await withTaskExecutorPreference(pool) {
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<100 {
                    group.addTask {
                        counts.state.withLock { counts in
                            counts.running += 1
                            counts.most = max(counts.most, counts.running)
                        }
                        for _ in 0..<1_000 { _ = Double.random(in: 0...1).squareRoot() }
                        counts.state.withLock { counts in
                            counts.running -= 1
                            counts.done += 1
                        }
                    }
                }
            }
        }

        let (running, most, done) = counts.state.withLock(\.self)
        #expect(running == 0)
        #expect(done == 100)
        #expect((1...threads).contains(most))
    }
}
