import Coordinator
import GRDB
import Synchronization
import Testing

struct GroupCommitTests {
    private struct Refusal: Error {}

    private final class CommitCounter: TransactionObserver, Sendable {
        let commits = Mutex(0)

        func observes(eventsOfKind eventKind: DatabaseEventKind) -> Bool { false }
        func databaseDidChange(with event: DatabaseEvent) {}
        func databaseDidCommit(_ db: Database) { commits.withLock { $0 += 1 } }
        func databaseDidRollback(_ db: Database) {}
    }

    private let database: DatabaseQueue
    private let group: GroupCommit
    private let counter = CommitCounter()

    init() throws {
        database = try DatabaseQueue()
        try database.write { try $0.execute(sql: "CREATE TABLE number (n INTEGER PRIMARY KEY)") }
        database.add(transactionObserver: counter, extent: .databaseLifetime)
        group = GroupCommit(database)
    }

    /// Lets writers of the numbers below `count` come while the database is busy.
    ///
    /// - Returns: Whether each was told that its number is there.
    private func insert(
        _ count: Int,
        refusing refused: Int? = nil
    ) async -> [Int: Bool] {
        let (answers, answer) = AsyncStream<(Int, Bool)>.makeStream()
        database.inDatabase { _ in
            for number in 0..<count {
                group.write { db -> Void in
                    try db.execute(sql: "INSERT INTO number VALUES (?)", arguments: [number])
                    if number == refused { throw Refusal() }
                } finish: { result in
                    answer.yield((number, (try? result.get()) != nil))
                }
            }
        }
        var told: [Int: Bool] = [:]
        for await (number, isThere) in answers {
            told[number] = isThere
            if told.count == count { break }
        }
        return told
    }

    private func numbers() async throws -> [Int] {
        try await database.read { try Int.fetchAll($0, sql: "SELECT n FROM number ORDER BY n") }
    }

    @Test func thoseWhoComeTogetherShareATransaction() async throws {
        let count = 2 * GroupCommit.limit + 1

        let told = await insert(count)

        #expect(told.count == count && told.values.allSatisfy { $0 })
        #expect(try await numbers() == Array(0..<count))
        #expect(counter.commits.withLock { $0 } == 3)
    }

    @Test func aRefusedWriteLeavesThoseThatCameWithIt() async throws {
        let told = await insert(10, refusing: 4)

        #expect(told.filter { !$0.value }.map(\.key) == [4])
        #expect(try await numbers() == [0, 1, 2, 3, 5, 6, 7, 8, 9])
    }

    @Test func aLoneWriterIsServedAtOnce() async throws {
        let number = try await group.write { db in
            try db.execute(sql: "INSERT INTO number VALUES (7)")
            return try Int.fetchOne(db, sql: "SELECT n FROM number")
        }

        #expect(number == 7)
        await #expect(throws: Refusal.self) {
            try await group.write { _ in throw Refusal() }
        }
    }
}
