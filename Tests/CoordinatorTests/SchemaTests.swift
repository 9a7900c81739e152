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

    /// A shard that was leased before the lease moved from `shard` to `attempt` (migration 3).
    @Test func aLeaseSurvivesTheMigrationOfItsShard() async throws {
        try await withTemporaryFolder { folder in
            do {
                let old = try DatabaseQueue(path: folder + "/state.db")
                try Schema.migrator().migrate(old, upTo: "2 search")
                try await old.write { db in
                    try db.execute(sql: Self.leasedShard)
                }
            }
            let queue = try JobQueue(folder: folder)
            try await queue.perform(.start(workersSurvived: true), now: at(0))
            let lease = try #require(LeaseID("1.1.3"))
            let job = JobID(rawValue: 1)
            let status = try await queue.status(of: job, now: at(1))
            #expect(
                status.inFlight == Tally(shards: 1, samples: 1, sourceBytes: 10, outputBytes: 0)
            )
            #expect(try await queue.beat("a", [lease], now: at(1)).leases[0].directive == .continue)
            #expect(await queue.complete(completion(of: lease), now: at(2)) == .outcome(.committed))
            #expect(try await queue.state(of: job) == .sealing)
            #expect(try await queue.miscounts() == [])
        }
    }

    private static let leasedShard = """
        INSERT INTO job (source, destination, model_id, shard_bytes, created_ms, state,
            is_scan_finished) VALUES ('/in', '/out', '', 1, 0, 'running', 1);
        INSERT INTO worker (id, protocol_version, version, host, device, instruction_set, slots,
            state, seen_ms, source_bytes_per_second, completed, failed)
            VALUES ('a', 2, '', '', '', '', 1, 'active', 0, 0, 0, 0);
        INSERT INTO shard (job, ordinal, samples, source_bytes, state, fence, worker, deadline_ms,
            failures, crashes, done_samples, done_bytes)
            VALUES (1, 0, 2, 20, 'leased', 4294967299, 'a', 60000, 0, 0, 1, 10);
        INSERT INTO plan VALUES (1, '[]');
        INSERT INTO attempt (shard, fence, job, worker, issued_ms, state, ended_ms) VALUES
            (1, 4294967297, 1, 'a', 0, 'expired', 1), (1, 4294967299, 1, 'a', 2, 'issued', NULL);
        INSERT INTO counter (job, subject, state, n, samples, source_bytes) VALUES
            (1, 'shard', 'leased', 1, 2, 20), (1, 'attempt', 'expired', 1, 0, 0),
            (1, 'attempt', 'issued', 1, 0, 0);
        """

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

    @Test func aDatabaseWithADamagedPageIsRefused() async throws {
        try await withTemporaryFolder { folder in
            do {
                let queue = try JobQueue(folder: folder)
                _ = try await queue.makeJob(shards: 3)
            }
            let path = folder + "/state.db"
            try damageHalf(of: path)
            #expect {
                try JobQueue(folder: folder)
            } throws: { error in
                switch error as? StartError {
                case .damaged(let found, _), .unusable(let found, _): found == path
                default: false
                }
            }
        }
    }

    @Test func aLargeDatabaseIsReadBehindTheStart() async throws {
        try await withTemporaryFolder { folder in
            do {
                let queue = try JobQueue(folder: folder, bytesCheckedAtStart: 0)
                _ = try await queue.makeJob(shards: 3)
                #expect(!queue.isSound)
                try await queue.checkIntegrity()
                #expect(queue.isSound)
            }
            let path = folder + "/state.db"
            try damageHalf(of: path)
            // The damage may be such that the start itself meets it.
            guard let queue = try? JobQueue(folder: folder, bytesCheckedAtStart: 0) else { return }
            await #expect(throws: (any Error).self) { try await queue.checkIntegrity() }
            #expect(!queue.isSound)
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
