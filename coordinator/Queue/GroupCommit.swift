import CrashPoints
import Dispatch
package import GRDB
import Synchronization

/// Joins the writes of several callers in one transaction, which is synchronised with the disk once.
///
/// Nobody waits for company: a lone caller is served at once. Those who come while a transaction
/// is on its way share the next one (group commit, after DeWitt et al., "Implementation
/// Techniques for Main Memory Database Systems", SIGMOD 1984, §3).
///
/// Every caller gets what a transaction of its own would have given: when the shared one fails,
/// nothing of it stays, and each part of it is done again alone. A caller's work therefore has no
/// effect outside the database.
package final class GroupCommit: Sendable {
    /// Most callers in one transaction, so that the first does not wait long for the last.
    package static let limit = 256

    private struct Member: Sendable {
        /// Does the caller's work and returns what hands its value over after the commit.
        let work: @Sendable (Database) throws -> @Sendable () -> Void
        let fail: @Sendable (any Error) -> Void
    }

    private let database: DatabaseQueue
    /// Those without an answer, oldest first; a call of `commitNext` is on its way to them.
    private let waiting = Mutex<[Member]>([])

    package init(_ database: DatabaseQueue) {
        self.database = database
    }

    /// Does work in a transaction and returns its value after the commit.
    ///
    /// - Throws: What the work or the database throws; then nothing was changed.
    package func write<Value: Sendable>(
        _ work: @escaping @Sendable (Database) throws -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            write(work) { continuation.resume(with: $0) }
        }
    }

    /// As `write`, but blocks the calling thread.
    func writeBlocking<Value: Sendable>(
        _ work: @escaping @Sendable (Database) throws -> Value
    ) throws -> Value {
        let outcome = Mutex<Result<Value, any Error>?>(nil)
        let isOver = DispatchSemaphore(value: 0)
        write(work) { result in
            outcome.withLock { $0 = result }
            isOver.signal()
        }
        isOver.wait()
        guard let result = outcome.withLock({ $0 }) else {
            preconditionFailure("the outcome is there before the signal")
        }
        return try result.get()
    }

    /// As the other `write`, but returns at once; `finish` is called after the commit.
    package func write<Value: Sendable>(
        _ work: @escaping @Sendable (Database) throws -> Value,
        finish: @escaping @Sendable (Result<Value, any Error>) -> Void
    ) {
        let member = Member(
            work: { db in
                let value = try work(db)
                return { finish(.success(value)) }
            },
            fail: { finish(.failure($0)) }
        )
        let isFirst = waiting.withLock { waiting in
            waiting.append(member)
            return waiting.count == 1
        }
        if isFirst { database.asyncWriteWithoutTransaction(commitNext) }
    }

    /// Serves those who wait, at most `limit` of them.
    @Sendable
    private func commitNext(_ db: Database) {
        let (members, isMore) = waiting.withLock { waiting in
            let members = Array(waiting.prefix(Self.limit))
            waiting.removeFirst(members.count)
            return (members, !waiting.isEmpty)
        }
        if isMore { database.asyncWriteWithoutTransaction(commitNext) }
        do {
            try commit(members, db)
        } catch {
            for member in members {
                do {
                    try commit([member], db)
                } catch {
                    member.fail(error)
                }
            }
        }
    }

    private func commit(_ members: [Member], _ db: Database) throws {
        var deliveries: [@Sendable () -> Void] = []
        try db.inTransaction {
            deliveries = try members.map { try $0.work(db) }
            CrashPoint.reached(.beforeCommit)
            return .commit
        }
        CrashPoint.reached(.afterCommit)
        for deliver in deliveries { deliver() }
    }
}
