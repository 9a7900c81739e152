import Dispatch
import Foundation
package import GRDB
package import JobProtocol
import Synchronization

/// The queue of all jobs, in one SQLite file.
///
/// One connection does all reads, writes and checkpoints (SQLite 3.7 to 3.51.2 can damage a WAL
/// that several connections write). A command loads the state that it concerns, lets the pure
/// `apply` decide, writes the effects guarded by state and fence, and is answered after the commit
/// with synchronous = FULL; commands that come at the same time share a transaction.
package final class JobQueue: Sendable {
    package let database: DatabaseQueue
    private let group: GroupCommit
    private let lock: FileLock
    package let ballast: Ballast
    /// Life of a lease without a heartbeat.
    let leaseSeconds: Int
    /// The SQLite that this program found.
    package let sqliteVersion: SQLiteVersion
    private let isFoundSound = Atomic(false)
    /// Rung after each commit that made work for workers or for the coordinator itself.
    package let bell = Bell()

    /// Opens the queue in a folder, making or migrating the database.
    ///
    /// - Parameters:
    ///   - folder: Where `state.db` and its lock lie, on a local disk.
    ///   - leaseSeconds: Life of a lease without a heartbeat.
    ///   - hasBallast: Whether disk space is kept for the last writes on a full disk.
    ///   - bytesCheckedAtStart: Size of a database above which `checkIntegrity` reads it later.
    /// - Throws: `StartError`, when another coordinator has it, or the file cannot be used.
    package init(
        folder: String,
        leaseSeconds: Int = Limits.leaseSeconds,
        hasBallast: Bool = false,
        bytesCheckedAtStart: Int64 = 64 << 20
    ) throws(StartError) {
        self.leaseSeconds = leaseSeconds
        let path = Files.database(in: folder)
        lock = try FileLock(path: path + ".lock")
        ballast = Ballast(folder: folder, isWanted: hasBallast)
        var configuration = Configuration()
        configuration.label = "state.db"
        configuration.journalMode = .wal
        configuration.prepareDatabase { db in
            try db.execute(
                sql: """
                    PRAGMA trusted_schema = OFF;
                    PRAGMA cell_size_check = ON;
                    PRAGMA temp_store = MEMORY;
                    PRAGMA cache_size = -65536;
                    PRAGMA journal_size_limit = 67108864;
                    """
            )
        }
        do {
            database = try DatabaseQueue(path: path, configuration: configuration)
            sqliteVersion = try database.inDatabase(Self.sqliteVersion)
            guard sqliteVersion >= .oldest else {
                throw StartError.refused(
                    reason: "SQLite \(sqliteVersion) is too old: \(SQLiteVersion.oldest) is needed."
                )
            }
            let migrator = Schema.migrator()
            guard try !database.read(migrator.hasBeenSuperseded) else {
                throw StartError.newer(path: path)
            }
            try Backup.keep(database, before: migrator)
            try migrator.migrate(database)
            // After the migrations: opening in WAL mode sets NORMAL.
            try database.inDatabase { try $0.execute(sql: "PRAGMA synchronous = FULL") }
            if case .file(let bytes)? = try Files.kind(of: path), bytes <= bytesCheckedAtStart {
                if let damage = try database.unsafeRead(Schema.damage) {
                    throw StartError.damaged(path: path, reason: damage)
                }
                isFoundSound.store(true, ordering: .relaxed)
            }
        } catch let error as StartError {
            throw error
        } catch {
            throw .unusable(path: path, reason: "\(error)")
        }
        group = GroupCommit(database)
    }

    /// Whether the whole database was read since the start, and is sound.
    ///
    /// A dataset is sealed only then.
    package var isSound: Bool { isFoundSound.load(ordering: .relaxed) }

    /// Reads the whole database if the start did not, beside the connection that has it.
    ///
    /// A queue of a million shards takes seconds, in which it is served already.
    ///
    /// - Throws: `StartError.damaged`: nothing must be done with it any more.
    package func checkIntegrity() async throws {
        guard !isSound else { return }
        let path = database.path
        let damage = try await Backup.openReadOnly(path).unsafeRead(Schema.damage)
        if let damage { throw StartError.damaged(path: path, reason: damage) }
        isFoundSound.store(true, ordering: .relaxed)
        bell.ring()
    }

    static func sqliteVersion(_ db: Database) throws -> SQLiteVersion {
        SQLiteVersion(try String.fetchOne(db, sql: "SELECT sqlite_version()") ?? "")
    }

    deinit {
        // Before the lock is free: a write that has just been answered may hold the connection for
        // a moment longer, and whoever has the lock next must not meet it.
        // This waits for the connection: no work on it may hold the queue, or it would end here.
        try? database.close()
    }

    /// Performs a command in a transaction and returns its answer after the commit.
    ///
    /// - Throws: The refusal; or `unavailable` when the disk is full, `internalError` when the
    ///   database failed, in which case nothing was changed.
    @discardableResult
    package func perform(
        _ command: Command,
        now: Timestamp,
        random: UInt64 = .random(in: .min ... .max)
    ) async throws(APIError) -> Reply {
        try await perform(command, now: now, random: random) { reply, _ in reply }
    }

    /// As the other `perform`; `read` makes the answer out of the reply in the same transaction.
    func perform<Answer: Sendable>(
        _ command: Command,
        now: Timestamp,
        random: UInt64 = .random(in: .min ... .max),
        reading read: @escaping @Sendable (Reply, Database) throws -> Answer
    ) async throws(APIError) -> Answer {
        let work = try work(command, now: now, random: random, reading: read)
        let outcome: Outcome<Answer>
        do {
            do {
                outcome = try await group.write(work)
            } catch  where makesRoom(for: command, after: error) {
                outcome = try await group.write(work)
            }
        } catch {
            throw .refused(.failed(error))
        }
        return try conclude(outcome)
    }

    /// As the first `perform`, but blocks the calling thread.
    @discardableResult
    package func performBlocking(
        _ command: Command,
        now: Timestamp,
        random: UInt64 = .random(in: .min ... .max)
    ) throws(APIError) -> Reply {
        let work = try work(command, now: now, random: random) { reply, _ in reply }
        let outcome: Outcome<Reply>
        do {
            do {
                outcome = try group.writeBlocking(work)
            } catch  where makesRoom(for: command, after: error) {
                outcome = try group.writeBlocking(work)
            }
        } catch {
            throw .refused(.failed(error))
        }
        return try conclude(outcome)
    }

    /// Returns what a command does in its transaction.
    ///
    /// - Throws: `unavailable` for new work while the disk is short.
    private func work<Answer>(
        _ command: Command,
        now: Timestamp,
        random: UInt64,
        reading read: @escaping @Sendable (Reply, Database) throws -> Answer
    ) throws(APIError) -> @Sendable (Database) throws -> Outcome<Answer> {
        guard !command.isNewWork || !ballast.isSpent else { throw .refused(.diskFull) }
        return { [leaseSeconds] db in
            try Self.perform(
                command,
                leaseSeconds: leaseSeconds,
                now: now,
                random: random,
                in: db,
                reading: read
            )
        }
    }

    /// Drops the ballast if a command failed because the disk is full.
    ///
    /// - Returns: Whether to try it again: what was begun may take the space, new work may not.
    private func makesRoom(for command: Command, after error: any Error) -> Bool {
        error.isDiskFull && ballast.release() && !command.isNewWork
    }

    /// What a command led to, once it is committed.
    private struct Outcome<Answer: Sendable>: Sendable {
        let makesWork: Bool
        let answer: Result<Answer, Problem>
    }

    private static func perform<Answer>(
        _ command: Command,
        leaseSeconds: Int,
        now: Timestamp,
        random: UInt64,
        in db: Database,
        reading read: (Reply, Database) throws -> Answer
    ) throws -> Outcome<Answer> {
        let state = try load(for: command, now: now, leaseSeconds: leaseSeconds, from: db)
        let decision = apply(command, now: now, random: random, to: state)
        for effect in decision.effects {
            try write(effect, at: now, to: db)
        }
        let answer: Result<Answer, Problem> =
            switch decision.reply {
            case .success(let reply): .success(try read(reply, db))
            case .failure(let problem): .failure(problem)
            }
        return Outcome(
            makesWork: decision.effects.contains(where: \.makesWork),
            answer: answer
        )
    }

    private func conclude<Answer>(_ outcome: Outcome<Answer>) throws(APIError) -> Answer {
        if outcome.makesWork {
            bell.ring()
        }
        switch outcome.answer {
        case .success(let answer): return answer
        case .failure(let problem): throw .refused(problem)
        }
    }

    /// Reads without changing anything.
    ///
    /// The one connection serves one caller at a time, which isolates enough. GRDB's `read` would
    /// set `PRAGMA query_only` twice, after which SQLite compiles every statement anew.
    func read<Value: Sendable>(
        _ body: @escaping @Sendable (Database) throws -> Value
    ) async throws(APIError) -> Value {
        do {
            return try await database.unsafeRead(body)
        } catch let problem as Problem {
            throw .refused(problem)
        } catch {
            throw .refused(.failed(error))
        }
    }
}

extension Effect {
    /// Whether somebody who waits may have something to do now.
    fileprivate var makesWork: Bool {
        switch self {
        case .insertJob, .changeJob, .insertShard, .reopenShards: true
        case .changeShard(_, let after): after.state == .pending
        default: false
        }
    }
}

extension Problem {
    /// The refusal for an error of the database.
    static func failed(_ error: any Error) -> Problem {
        if error is CancellationError {
            return Problem(
                .unavailable,
                "The coordinator is shutting down.",
                next: "Try again; nothing was changed.",
                retryAfterSeconds: 1
            )
        }
        guard error.isDiskFull else {
            return Problem(
                .internalError,
                "The database failed: \(error).",
                next: "Look into the coordinator's log; nothing was changed."
            )
        }
        return .diskFull
    }

    fileprivate static let diskFull = Problem(
        .unavailable,
        "The coordinator's disk is full.",
        next: "Free space on it; nothing was changed.",
        retryAfterSeconds: 30
    )
}

extension Error {
    fileprivate var isDiskFull: Bool { (self as? DatabaseError)?.resultCode == .SQLITE_FULL }
}

extension Command {
    /// Whether it makes more work, which a coordinator whose disk is full does not take on.
    fileprivate var isNewWork: Bool {
        switch self {
        case .submit, .appendShard, .retry, .lease: true
        default: false
        }
    }
}

/// Why a coordinator cannot start, or a copy of its queue is of no use.
package enum StartError: Error, Equatable {
    /// Another coordinator runs on the same folder.
    case locked(path: String)
    /// A newer release made the database.
    case newer(path: String)
    case unusable(path: String, reason: String)
    /// The database does not hold what it should.
    case damaged(path: String, reason: String)
    /// The configuration forbids it.
    case refused(reason: String)

    /// What is wrong and what to do, for people.
    package var message: String {
        switch self {
        case .locked(let path):
            "Another process holds \(path). Wait for it or end it, then start again."
        case .newer(let path):
            "\(path) was made by a newer release. Install that release."
        case .unusable(let path, let reason): "\(path) cannot be used: \(reason)."
        case .damaged(let path, let reason):
            "\(path) is damaged: \(reason). Restore a backup, or move it away and submit the jobs again; "
                + "finished datasets are not concerned."
        case .refused(let reason): reason
        }
    }
}

/// An exclusive lock on a file, held until the object is gone or the process ends.
final class FileLock: Sendable {
    private let descriptor: Int32

    /// - Throws: `StartError.locked` when another process, or another object here, holds it.
    init(path: String) throws(StartError) {
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            throw .unusable(path: path, reason: SystemError.current.description)
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let error = SystemError.current
            close(descriptor)
            throw error.code == EWOULDBLOCK
                ? .locked(path: path) : .unusable(path: path, reason: error.description)
        }
    }

    deinit {
        // Unlocked by hand: a child that this process starts just now has a copy of the descriptor
        // until it becomes another program, and a close would leave the lock to the copy.
        flock(descriptor, LOCK_UN)
        close(descriptor)
    }
}
