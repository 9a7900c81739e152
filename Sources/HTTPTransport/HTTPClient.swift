import Foundation
import Synchronization

/// Sends HTTP requests through libcurl without blocking a task.
///
/// Each transfer runs on a thread of its own with a curl handle of its own; handles, and the
/// keep-alive connections in them, are used again. A cancelled task ends its transfer within a
/// second.
package final class HTTPClient: Sendable {
    /// Handles kept for the next request; more than this many at once are closed after use.
    private static let idleLimit = 16

    private let idle = Mutex<[HTTPConnection]>([])
    private let tls: TLSFiles

    package init(tls: TLSFiles = TLSFiles()) {
        self.tls = tls
    }

    /// Returns the response, whatever its status; throws when none came back.
    package func send(_ request: HTTPRequest) async throws(TransportError) -> HTTPResponse {
        let cancellation = TransferCancellation()
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                Thread.detachNewThread {
                    continuation.resume(
                        returning: Result { () throws(TransportError) in
                            try self.sendBlocking(request, cancellation: cancellation)
                        }
                    )
                }
            }
        } onCancel: {
            cancellation.cancel()
        }
        return try result.get()
    }

    /// Sends from the calling thread, which it blocks.
    ///
    /// For callers with a thread of their own; never from a task.
    package func sendBlocking(
        _ request: HTTPRequest,
        cancellation: TransferCancellation = TransferCancellation()
    ) throws(TransportError) -> HTTPResponse {
        let connection = idle.withLock { $0.popLast() } ?? HTTPConnection(tls: tls)
        defer {
            idle.withLock { connections in
                if connections.count < Self.idleLimit { connections.append(connection) }
            }
        }
        return try connection.send(request, cancellation: cancellation)
    }
}
