internal import Glibc

/// How long work took that was run again and again on one thread.
///
/// Durations are processor time of the thread, so that time given to others does not count.
package struct ProcessorTime: Sendable {
    /// The duration of each run in nanoseconds, ascending; never empty.
    private let durations: [Int]

    /// Seconds of wall clock from the first run to the end of the last.
    package let elapsedSeconds: Double

    /// The number of runs.
    package var runs: Int { durations.count }

    /// The duration that one run in twenty falls below, in seconds: what the work takes when little
    /// disturbs the core, without letting a single mistimed run decide.
    package var bestSeconds: Double { seconds(durations[durations.count / 20]) }

    /// The duration of the middle run, in seconds.
    package var medianSeconds: Double { seconds(durations[durations.count / 2]) }

    /// Runs work until the time is up, at least once.
    ///
    /// - Parameters:
    ///   - seconds: Wall-clock time after which no run begins.
    ///   - work: What is timed.
    package init(seconds: Double, _ work: () -> Void) {
        let clock = ContinuousClock()
        let begin = clock.now
        let deadline = begin + .seconds(seconds)
        var durations: [Int] = []
        repeat {
            let start = threadNanoseconds()
            work()
            durations.append(threadNanoseconds() - start)
        } while clock.now < deadline
        elapsedSeconds = (clock.now - begin) / .seconds(1)
        self.durations = durations.sorted()
    }

    private func seconds(_ nanoseconds: Int) -> Double {
        Double(max(nanoseconds, 1)) * 1e-9
    }
}

/// Processor time of this thread.
private func threadNanoseconds() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return time.tv_sec * 1_000_000_000 + time.tv_nsec
}
