import Dispatch
import Foundation
import Synchronization

/// A fixed number of threads for long calculations, as a task executor.
///
/// The codec is synchronous and keeps a core busy for seconds. In tasks that prefer this executor
/// it does not occupy the threads of all other tasks, and takes as many cores as there are threads,
/// however many shards are in work:
///
///     await withTaskExecutorPreference(pool) { … }
package final class ComputePool: TaskExecutor {
    package let threads: Int
    private let queue = Queue()

    /// The jobs that wait; outlives the pool until its threads have ended.
    private final class Queue: Sendable {
        let jobs = Mutex<[UnownedJob]>([])
        /// Counts jobs, plus one for each thread once the pool is gone.
        let available = DispatchSemaphore(value: 0)

        /// The next job; nil when the pool is gone.
        func next() -> UnownedJob? {
            available.wait()
            return jobs.withLock { $0.isEmpty ? nil : $0.removeFirst() }
        }
    }

    /// Stack of a thread, in bytes: the main thread's usual size.
    private static let stackBytes = 8 << 20

    package init(threads: Int) {
        precondition(threads > 0, "a pool has a thread")
        self.threads = threads
        let executor = asUnownedTaskExecutor()
        for _ in 0..<threads {
            // A job keeps its executor alive, so the reference is good while there is one.
            let thread = Thread { [queue] in
                while let job = queue.next() { job.runSynchronously(on: executor) }
            }
            thread.stackSize = Self.stackBytes
            thread.start()
        }
    }

    deinit {
        for _ in 0..<threads { queue.available.signal() }
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.jobs.withLock { $0.append(job) }
        queue.available.signal()
    }
}
