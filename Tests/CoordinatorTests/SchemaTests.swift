import Coordinator
import Foundation
import GRDB
import JobProtocol
import Testing

struct SchemaTests {
    /// Returns the texts that a CHECK constraint allows in a column.
    private func allowed(_ column: String, in table: String, _ db: Database) throws -> Set<String> {
        let sql = try String.fetchOne(
            db,
            sql: "SELECT sql FROM sqlite_master WHERE name = ?",
            arguments: [table]
        )
        let definition = try #require(sql)
        let start = try #require(definition.range(of: "CHECK (\(column) IN ("))
        let list = definition[start.upperBound...].prefix { $0 != ")" }
        return Set(
            list.split(separator: ",").map {
                $0.trimmingCharacters(in: CharacterSet(charactersIn: "' \n"))
            }
        )
    }

    @Test func theConstraintsAreTheEnumerations() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            let lists: [(table: String, column: String, cases: Set<String>)] = [
                ("job", "state", Set(JobState.allCases.map(\.rawValue))),
                ("shard", "state", Set(ShardState.allCases.map(\.rawValue))),
                ("attempt", "state", Set(AttemptState.allCases.map(\.rawValue))),
                ("worker", "state", Set(WorkerState.allCases.map(\.rawValue))),
                ("attempt", "failure_class", Set(FailureClass.allCases.map(\.rawValue))),
            ]
            for (table, column, cases) in lists {
                let constraint = try await queue.database.read { db in
                    try allowed(column, in: table, db)
                }
                #expect(constraint == cases, "\(table).\(column)")
            }
        }
    }

    @Test func commitsAreOnTheDiskBeforeTheAnswer() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            let pragmas = [
                ("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1"),
                ("application_id", String(Schema.applicationID)),
            ]
            for (name, value) in pragmas {
                let found = try await queue.database.read { db in
                    try String.fetchOne(db, sql: "PRAGMA \(name)")
                }
                #expect(found == value, "\(name)")
            }
        }
    }

    @Test func thePickUsesItsPartialIndex() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            let plan = try await queue.database.read { db in
                try Row.fetchAll(
                    db,
                    sql: """
                        EXPLAIN QUERY PLAN SELECT * FROM shard INDEXED BY shard_pending
                        WHERE job = 1 AND state = 'pending' ORDER BY ordinal LIMIT 1
                        """
                ).map { $0["detail"] as String }
            }
            #expect(plan == ["SEARCH shard USING INDEX shard_pending (job=?)"])
        }
    }

    @Test func aSecondCoordinatorIsLockedOut() async throws {
        try await withTemporaryFolder { folder in
            let first = try JobQueue(folder: folder)
            #expect(throws: StartError.locked(path: folder + "/state.db.lock")) {
                try JobQueue(folder: folder)
            }
            withExtendedLifetime(first) {}
        }
    }

    @Test func theLockEndsWithItsHolder() async throws {
        try await withTemporaryFolder { folder in
            _ = try JobQueue(folder: folder)
            _ = try JobQueue(folder: folder)
        }
    }

    @Test func aDatabaseOfALaterReleaseIsRefused() async throws {
        try await withTemporaryFolder { folder in
            do {
                let queue = try JobQueue(folder: folder)
                try await queue.database.write { db in
                    try db.execute(sql: "INSERT INTO grdb_migrations VALUES ('99 later')")
                }
            }
            #expect(throws: StartError.newer(path: folder + "/state.db")) {
                try JobQueue(folder: folder)
            }
        }
    }

    @Test func aFileThatIsNoDatabaseIsRefused() async throws {
        try await withTemporaryFolder { folder in
            try write(String(repeating: "This is a poem. ", count: 100), to: folder + "/state.db")
            #expect {
                try JobQueue(folder: folder)
            } throws: { error in
                guard case .unusable(let path, _) = error as? StartError else { return false }
                return path == folder + "/state.db"
            }
        }
    }
}
