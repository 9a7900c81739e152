import Dispatch
internal import Glibc
import Synchronization

/// Runs work that SIGTERM and SIGINT stop in two steps.
///
/// The first signal calls `onFirst`, which asks the work to end well; the second cancels its task.
/// Without `onFirst` the first signal cancels.
///
/// - Returns: What the work returns.
/// - Throws: What the work throws; `CancellationError` once it is cancelled, whatever it throws then:
///   a part of it may fail because another has ended.
package func withStopSignals<Value: Sendable>(
    _ work: @escaping @Sendable () async throws -> Value,
    onFirst: (@Sendable () -> Void)? = nil
) async throws -> Value {
    let task = Task { try await work() }
    let count = Mutex(0)
    let sources = [SIGTERM, SIGINT].map { number in
        // The default action would end the process before the source sees the signal.
        signal(number, SIG_IGN)
        return DispatchSource.makeSignalSource(signal: number, queue: .global())
    }
    let act: @Sendable () -> Void = {
        let isFirst = count.withLock { count in
            count += 1
            return count == 1
        }
        if isFirst, let onFirst { onFirst() } else { task.cancel() }
    }
    for source in sources {
        source.setEventHandler(handler: act)
        source.resume()
    }
    defer {
        for source in sources { source.cancel() }
        signal(SIGTERM, SIG_DFL)
        signal(SIGINT, SIG_DFL)
    }
    return try await withTaskCancellationHandler {
        do {
            return try await task.value
        } catch {
            throw task.isCancelled ? CancellationError() : error
        }
    } onCancel: {
        task.cancel()
    }
}
