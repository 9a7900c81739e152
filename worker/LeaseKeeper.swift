import Dispatch
import Foundation
package import JobProtocol
package import Logging
import Synchronization

/// Keeps a worker's leases alive from a thread of its own.
///
/// One heartbeat at a time, at the pace the coordinator asks for, whatever the calculations do to
/// the other threads. Its answers are also how the worker learns that a coordinator is back: it
/// goes on for ever, at the same pace, while nobody answers.
package final class LeaseKeeper: Sendable {
    private struct State {
        var book = LeaseBook()
        var pauseSeconds: Double
        var isDraining = false
        var isStopping = false
        /// When the last answered heartbeat was sent.
        var answeredAt = -Double.infinity
        var isReachable = true
        var listeners: [Int: AsyncStream<Void>.Continuation] = [:]
        var nextListener = 0
        var stopped: CheckedContinuation<Void, Never>?
    }

    private let api: any CoordinatorAPI
    private let worker: WorkerID
    private let logger: Logger
    private let now: @Sendable () -> Double
    private let longestPauseSeconds: Double
    private let state: Mutex<State>
    private let wake = DispatchSemaphore(value: 0)

    /// - Parameters:
    ///   - api: Its `heartbeat` blocks; it is called from this keeper's thread only.
    ///   - worker: The registered worker.
    ///   - heartbeatSeconds: Longest pause between two heartbeats; an answer may ask for less.
    ///   - logger: Told when the coordinator goes away and comes back.
    ///   - now: A monotonic time in seconds; tests pass their own.
    package init(
        api: any CoordinatorAPI,
        worker: WorkerID,
        heartbeatSeconds: Int,
        logger: Logger,
        now: @escaping @Sendable () -> Double = monotonicSeconds
    ) {
        self.api = api
        self.worker = worker
        self.logger = logger
        self.now = now
        longestPauseSeconds = Double(heartbeatSeconds)
        state = Mutex(State(pauseSeconds: Double(heartbeatSeconds)))
    }

    /// Starts the thread; call once, and ``stop()`` at the end.
    package func start() {
        let thread = Thread { self.run() }
        thread.name = "lease-keeper"
        thread.start()
    }

    /// Sends a goodbye, one try, and ends the thread.
    package func stop() async {
        await withCheckedContinuation { continuation in
            state.withLock { state in
                state.isStopping = true
                state.stopped = continuation
            }
            wake.signal()
        }
    }

    private func run() {
        while true {
            let (pause, isStopping) = state.withLock { ($0.pauseSeconds, $0.isStopping) }
            if isStopping { break }
            if wake.wait(timeout: .now() + pause) == .timedOut { beat() }
        }
        beat(isLeaving: true)
        state.withLock { $0.stopped.take() }?.resume()
    }

    /// Sends one heartbeat, waits for its answer and takes it in; blocks.
    package func beat(isLeaving: Bool = false) {
        let sentSeconds = now()
        let heartbeat = state.withLock { state in
            state.book.heartbeat(
                of: worker,
                isDraining: state.isDraining,
                isLeaving: isLeaving,
                atSeconds: sentSeconds
            )
        }
        let result = Result { () throws(APIError) in try api.heartbeat(heartbeat) }
        let (listeners, wasReachable) = state.withLock { state in
            let wasReachable = state.isReachable
            switch result {
            case .success(let reply):
                state.book.answered(reply, sentAtSeconds: sentSeconds)
                state.pauseSeconds = min(
                    longestPauseSeconds,
                    max(1, Double(reply.heartbeatSeconds))
                )
                state.answeredAt = sentSeconds
                state.isReachable = true
            case .failure(let error):
                if error.code == .unknownWorker { state.book.forgotten() }
                // A refusal is an answer too: somebody is there.
                state.isReachable = if case .refused = error { true } else { false }
            }
            return (Array(state.listeners.values), wasReachable)
        }
        switch result {
        case .success where !wasReachable:
            logger.notice("The coordinator answers again.")
        case .failure(let error) where wasReachable:
            logger.warning("A heartbeat failed; going on. \(error.message)")
        default:
            break
        }
        for listener in listeners { listener.yield() }
    }

    /// Notes a lease that was granted just now.
    package func add(_ lease: Lease) {
        state.withLock {
            $0.book.add(lease.lease, leaseSeconds: lease.leaseSeconds, atSeconds: now())
        }
    }

    /// Forgets a lease; it is named in no heartbeat any more.
    package func remove(_ lease: LeaseID) {
        state.withLock { $0.book.remove(lease) }
    }

    /// Notes a step of work on a lease, to be told with the next heartbeat, and what it finished.
    package func advance(_ lease: LeaseID, samples: Int = 0, sourceBytes: Int64 = 0) {
        state.withLock { $0.book.advance(lease, samples: samples, sourceBytes: sourceBytes) }
    }

    /// Tells the coordinator from now on that the worker takes no more work.
    package func drain() {
        let listeners = state.withLock { state in
            state.isDraining = true
            return Array(state.listeners.values)
        }
        for listener in listeners { listener.yield() }
    }

    /// Notes what the coordinator answered to something else than a heartbeat.
    package func directed(_ directive: Directive) {
        state.withLock { $0.book.directed(directive) }
    }

    /// Notes that the worker was registered again.
    package func registered() {
        state.withLock { $0.book.registered() }
    }

    /// What the coordinator last told the process to do; `drain` once ``drain()`` was called.
    package var directive: Directive {
        state.withLock { $0.isDraining ? .drain : $0.book.directive }
    }

    /// Whether the lease is still this worker's.
    package func standing(of lease: LeaseID) -> Standing {
        state.withLock { $0.book.standing(of: lease, atSeconds: now()) }
    }

    /// Returns as soon as the lease's standing is not uncertain; `lost` when the task is cancelled.
    package func settledStanding(of lease: LeaseID) async -> Standing {
        for await _ in changes() {
            // A cancelled task still gets an element that was buffered before.
            if Task.isCancelled { break }
            let standing = standing(of: lease)
            if standing != .uncertain { return standing }
        }
        return .lost
    }

    /// Returns when the lease is lost, or when the task is cancelled.
    package func untilLost(_ lease: LeaseID) async {
        for await _ in changes() where standing(of: lease) == .lost { return }
    }

    /// Returns when the directive is another one, or when the task is cancelled.
    package func untilDirective(isNot old: Directive) async {
        for await _ in changes() where directive != old { return }
    }

    /// Returns when a heartbeat sent from now on was answered, or when the task is cancelled.
    package func untilReachable() async {
        let start = now()
        for await _ in changes() where state.withLock({ $0.answeredAt >= start }) { return }
    }

    /// One element now and one after each beat; only the newest is kept for a slow reader.
    private func changes() -> AsyncStream<Void> {
        AsyncStream(bufferingPolicy: .bufferingNewest(1)) { continuation in
            continuation.yield()
            let key = state.withLock { state in
                defer { state.nextListener += 1 }
                state.listeners[state.nextListener] = continuation
                return state.nextListener
            }
            continuation.onTermination = { _ in
                self.state.withLock { $0.listeners[key] = nil }
            }
        }
    }
}

/// Seconds on the system's monotonic clock.
@Sendable
package func monotonicSeconds() -> Double {
    Double(DispatchTime.now().uptimeNanoseconds) / 1e9
}
