import Foundation
import GRDB
import JobProtocol

/// Copies of the queue's database, tested before they count.
///
/// A copy is one file. It is made by SQLite's online backup in one read transaction: the
/// coordinator goes on meanwhile, and the copy holds what was committed when it began.
package enum Backup {
    /// What a copy holds, found by the test that it passed.
    package struct Report: Equatable, Codable, Sendable {
        package let path: String
        package let bytes: Int64
        /// The incarnation of the fences that it knows; a restored queue has a higher one.
        package let incarnation: UInt32
        package let jobs: Int
        package let shards: Int
        package let committedShards: Int
    }

    /// Copies the queue of a folder, whether a coordinator runs on it or not, and tests the copy.
    ///
    /// - Parameters:
    ///   - folder: The coordinator's folder, on this machine.
    ///   - path: The new file.
    /// - Returns: What the copy holds.
    /// - Throws: `StartError`; then there is no file at `path`, or the one that was there before.
    package static func make(
        of folder: String,
        at path: String
    ) throws(StartError) -> Report {
        let source = Files.database(in: folder)
        return try reporting(path) {
            guard case .file = try Files.kind(of: source) else {
                throw StartError.unusable(path: source, reason: "there is no queue")
            }
            let temporary = Files.partial(path)
            defer { Files.removeDatabase(temporary) }
            try copy(try openReadOnly(source), to: temporary)
            var report = try test(temporary)
            guard try Files.place(temporary, at: path) == .placed else {
                throw StartError.unusable(path: path, reason: "there is such a file already")
            }
            report = Report(report, path: path)
            return report
        }
    }

    /// Opens a copy, checks it whole, and returns what it holds.
    ///
    /// The pages, the references between rows, and the counters against a count of the rows.
    ///
    /// - Throws: `StartError.damaged` for a copy that fails, `newer` for one of a later release.
    package static func test(_ path: String) throws(StartError) -> Report {
        try reporting(path) {
            guard case .file(let bytes) = try Files.kind(of: path) else {
                throw StartError.unusable(path: path, reason: "there is no such file")
            }
            return try openReadOnly(path).inDatabase { db in
                if let damage = try damage(in: db) {
                    throw StartError.damaged(path: path, reason: damage)
                }
                guard try !Schema.migrator().hasBeenSuperseded(db) else {
                    throw StartError.newer(path: path)
                }
                return try Report(db, path: path, bytes: bytes)
            }
        }
    }

    /// Keeps a copy of a database that is about to be migrated; a new one needs none.
    static func keep(_ database: DatabaseQueue, before migrator: DatabaseMigrator) throws {
        let (applied, isCurrent) = try database.inDatabase { db in
            (try migrator.appliedIdentifiers(db).count, try migrator.hasCompletedMigrations(db))
        }
        guard applied > 0, !isCurrent else { return }
        let path = "\(database.path).schema-\(applied)"
        let temporary = Files.partial(path)
        defer { Files.removeDatabase(temporary) }
        try copy(database, to: temporary)
        _ = try Files.place(temporary, at: path)
    }

    /// Opens a database that somebody else may be writing to, and never checkpoints it.
    static func openReadOnly(_ path: String) throws -> DatabaseQueue {
        var configuration = Configuration()
        configuration.readonly = true
        return try DatabaseQueue(path: path, configuration: configuration)
    }

    /// Copies a database to a new file that needs no others beside it.
    static func copy(_ source: DatabaseQueue, to path: String) throws {
        Files.removeDatabase(path)
        let target = try DatabaseQueue(path: path)
        try source.inDatabase { from in
            try target.inDatabase { to in
                try from.backup(to: to)
                // The copy of a database in WAL mode is in WAL mode.
                try to.execute(sql: "PRAGMA journal_mode = DELETE")
            }
        }
        try target.close()
    }

    /// Returns the first thing that is wrong with a database; nil for a sound one.
    private static func damage(in db: Database) throws -> String? {
        guard
            try Int32.fetchOne(db, sql: "PRAGMA application_id") == Schema.applicationID
        else { return "it is not a coordinator's database" }
        let found = try String.fetchAll(db, sql: "PRAGMA integrity_check(1)")
        guard found == ["ok"] else { return found.joined(separator: "; ") }
        if let row = try Row.fetchOne(db, sql: "PRAGMA foreign_key_check") {
            return "a reference leads nowhere: \(row)"
        }
        return try JobQueue.miscounts(in: db).first.map { "a counter is wrong: \($0)" }
    }

    /// Turns the errors of SQLite and of the file system into one that names the file.
    static func reporting<Value>(
        _ path: String,
        _ body: () throws -> Value
    ) throws(StartError) -> Value {
        do {
            return try body()
        } catch let error as StartError {
            throw error
        } catch let error as DatabaseError
            where [.SQLITE_CORRUPT, .SQLITE_NOTADB].contains(error.resultCode)
        {
            throw .damaged(path: path, reason: "\(error)")
        } catch {
            throw .unusable(path: path, reason: "\(error)")
        }
    }
}

extension Backup.Report {
    init(_ other: Self, path: String) {
        self.init(
            path: path,
            bytes: other.bytes,
            incarnation: other.incarnation,
            jobs: other.jobs,
            shards: other.shards,
            committedShards: other.committedShards
        )
    }

    fileprivate init(_ db: Database, path: String, bytes: Int64) throws {
        func number(_ sql: String) throws -> Int { try Int.fetchOne(db, sql: sql) ?? 0 }
        self.init(
            path: path,
            bytes: bytes,
            incarnation: try JobQueue.incarnation(db),
            jobs: try number("SELECT count(*) FROM job"),
            shards: try number("SELECT sum(n) FROM counter WHERE subject = 'shard'"),
            committedShards: try number(
                "SELECT sum(n) FROM counter WHERE subject = 'shard' AND state = 'committed'"
            )
        )
    }
}

// MARK: - Restoring

extension Backup {
    /// What restoring did.
    package struct Restoration: Equatable, Codable, Sendable {
        /// What lies in the folder now.
        package let queue: Report
        /// Where the database lies that was there before; nil if there was none.
        package let replaced: String?
    }

    /// Puts a tested copy in the place of a folder's queue.
    ///
    /// No fence that was ever handed out is valid any more: the incarnation rises above that of the
    /// copy, that of the database it replaces, and, as the latter may be lost, the seconds since
    /// 1970. Every lease in the copy ends. There is a whole database in the folder at any moment.
    ///
    /// - Parameters:
    ///   - backup: The copy; it is not changed.
    ///   - folder: The coordinator's folder, made if it does not exist.
    ///   - now: The wall clock's time.
    /// - Returns: What the folder holds now, and where the old queue lies.
    /// - Throws: `StartError`, `locked` while a coordinator runs on the folder.
    package static func restore(
        _ backup: String,
        to folder: String,
        now: Timestamp
    ) throws(StartError) -> Restoration {
        try reporting(folder) {
            try Files.makeFolder(folder)
            let lock = try FileLock(path: Files.database(in: folder) + ".lock")
            defer { withExtendedLifetime(lock) {} }
            _ = try test(backup)
            let old = incarnation(in: folder)
            let clock = UInt32(truncatingIfNeeded: now.milliseconds / 1000)
            let workshop = folder + "/.restoring"
            defer { try? FileManager.default.removeItem(atPath: workshop) }
            try prepare(backup, in: workshop, above: max(old ?? 0, clock), now: now)
            let replaced = try exchange(workshop, folder, now: now)
            return Restoration(queue: try test(Files.database(in: folder)), replaced: replaced)
        }
    }

    /// Makes a queue out of a copy, whose fences begin above an incarnation.
    private static func prepare(
        _ backup: String,
        in workshop: String,
        above incarnation: UInt32,
        now: Timestamp
    ) throws {
        try? FileManager.default.removeItem(atPath: workshop)
        try Files.makeFolder(workshop)
        try copy(try openReadOnly(backup), to: Files.database(in: workshop))
        // Ends in this scope, which leaves no WAL behind.
        let queue = try JobQueue(folder: workshop)
        try queue.database.inDatabase { db in
            try db.execute(
                sql: "UPDATE meta SET value = max(value, ?) WHERE key = 'incarnation'",
                arguments: [incarnation]
            )
        }
        try queue.performBlocking(.restored, now: now)
        _ = try queue.database.inDatabase { try $0.checkpoint(.truncate) }
    }

    /// Reads the incarnation of the queue in a folder and leaves it without a WAL; nil when there is
    /// none that can be read.
    private static func incarnation(in folder: String) -> UInt32? {
        let path = Files.database(in: folder)
        guard case .file? = try? Files.kind(of: path), let database = try? DatabaseQueue(path: path)
        else { return nil }
        defer { try? database.close() }
        return try? database.inDatabase { db in
            _ = try? db.checkpoint(.truncate)
            return try JobQueue.incarnation(db)
        }
    }

    /// Moves a prepared queue to its place and the old one out of the way.
    private static func exchange(
        _ workshop: String,
        _ folder: String,
        now: Timestamp
    ) throws -> String? {
        let path = Files.database(in: folder)
        var replaced: String?
        if try Files.kind(of: path) != nil {
            let aside = "\(path).replaced-\(now.milliseconds)"
            try FileManager.default.linkItem(atPath: path, toPath: aside)
            // Left over only where the old database is damaged; it must not get into the new one.
            for suffix in ["-wal", "-shm"] where try Files.kind(of: path + suffix) != nil {
                try Files.move(path + suffix, to: aside + suffix)
            }
            replaced = aside
        }
        try Files.move(Files.database(in: workshop), to: path)
        try Files.synchronise(folder: folder)
        return replaced
    }
}
