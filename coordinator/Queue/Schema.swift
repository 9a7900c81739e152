package import GRDB
import JobProtocol

/// The tables of `state.db`, as named migrations that are never edited once released.
///
/// Rows are shards, never samples: a shard's sample list is one JSON text in `plan`, apart from
/// the rows that are updated. States are text under CHECK constraints that list exactly the
/// enumerations of `JobProtocol`.
package enum Schema {
    /// "flwp": marks a file as a coordinator's database (PRAGMA application_id).
    package static let applicationID: Int32 = 0x666c_7770

    /// Returns what SQLite finds wrong in the whole file, tables and indexes; nil when it is sound.
    static func damage(in db: Database) throws -> String? {
        let finding = try String.fetchOne(db, sql: "PRAGMA integrity_check(1)")
        return finding == "ok" ? nil : finding
    }

    package static func migrator() -> DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1 queue") { db in
            try db.execute(sql: "PRAGMA application_id = \(applicationID)")
            try db.execute(sql: queue)
        }
        migrator.registerMigration("2 search") { db in
            try db.execute(sql: search)
        }
        migrator.registerMigration("3 leases") { db in
            try db.execute(sql: leases)
            try db.execute(sql: shares)
            try db.execute(sql: suspicions)
            try db.execute(sql: breaker)
        }
        migrator.registerMigration("4 submitters") { db in
            try db.execute(sql: submitters)
        }
        migrator.registerMigration("5 turns") { db in
            try db.execute(sql: turns)
        }
        return migrator
    }

    private static let queue = """
        -- Facts about the database itself. incarnation: part of every fence.
        CREATE TABLE meta (
            key TEXT NOT NULL PRIMARY KEY,
            value INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        INSERT INTO meta VALUES ('incarnation', 1);

        CREATE TABLE job (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            source TEXT NOT NULL,
            destination TEXT NOT NULL,
            model_id TEXT NOT NULL,
            shard_bytes INTEGER NOT NULL CHECK (shard_bytes > 0),
            idempotency_key TEXT UNIQUE,
            created_ms INTEGER NOT NULL,
            state TEXT NOT NULL CHECK (state IN (
                'planning', 'queued', 'paused', 'running', 'sealing', 'completed',
                'completed_with_fallbacks', 'cancelling', 'cancelled', 'failed')),
            is_scan_finished INTEGER NOT NULL DEFAULT 0 CHECK (is_scan_finished IN (0, 1)),
            problems INTEGER NOT NULL DEFAULT 0 CHECK (problems >= 0),
            failure TEXT CHECK ((failure IS NOT NULL) = (state = 'failed')),
            dataset_digest TEXT CHECK ((dataset_digest IS NOT NULL)
                = (state IN ('completed', 'completed_with_fallbacks'))),
            started_ms INTEGER,
            finished_ms INTEGER CHECK ((finished_ms IS NOT NULL) = (state IN (
                'completed', 'completed_with_fallbacks', 'cancelled', 'failed')))
        ) STRICT;
        -- One unfinished job for each destination.
        CREATE UNIQUE INDEX job_destination ON job(destination)
            WHERE state NOT IN ('completed', 'completed_with_fallbacks', 'cancelled', 'failed');

        CREATE TABLE shard (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            job INTEGER NOT NULL REFERENCES job(id),
            ordinal INTEGER NOT NULL CHECK (ordinal >= 0),
            samples INTEGER NOT NULL CHECK (samples > 0),
            source_bytes INTEGER NOT NULL CHECK (source_bytes >= 0),
            state TEXT NOT NULL CHECK (state IN (
                'pending', 'leased', 'committed', 'retry_wait', 'quarantined', 'split',
                'fallback', 'cancelled')),
            -- incarnation << 32 | counter
            fence INTEGER NOT NULL,
            worker TEXT,
            deadline_ms INTEGER CHECK ((deadline_ms IS NOT NULL) = (state = 'leased')),
            not_before_ms INTEGER CHECK ((not_before_ms IS NOT NULL) = (state = 'retry_wait')),
            failures INTEGER NOT NULL,
            crashes INTEGER NOT NULL,
            done_samples INTEGER NOT NULL CHECK (done_samples BETWEEN 0 AND samples),
            done_bytes INTEGER NOT NULL CHECK (done_bytes BETWEEN 0 AND source_bytes),
            sha256 TEXT CHECK ((sha256 IS NOT NULL) = (state = 'committed')),
            output_bytes INTEGER,
            -- The shard's totals as JSON (ShardTotals).
            totals TEXT,
            UNIQUE (job, ordinal)
        ) STRICT;
        -- The pick: small however many shards are done, in the order of the answer.
        CREATE INDEX shard_pending ON shard(job, ordinal) WHERE state = 'pending';
        CREATE INDEX shard_deadline ON shard(deadline_ms) WHERE state = 'leased';
        CREATE INDEX shard_held ON shard(job) WHERE state = 'leased';
        CREATE INDEX shard_waiting ON shard(not_before_ms) WHERE state = 'retry_wait';

        -- The samples of a shard as JSON (an array of ShardSample).
        CREATE TABLE plan (
            shard INTEGER PRIMARY KEY REFERENCES shard(id),
            samples TEXT NOT NULL
        ) STRICT;

        CREATE TABLE attempt (
            shard INTEGER NOT NULL REFERENCES shard(id),
            fence INTEGER NOT NULL,
            job INTEGER NOT NULL REFERENCES job(id),
            worker TEXT NOT NULL REFERENCES worker(id),
            issued_ms INTEGER NOT NULL,
            state TEXT NOT NULL CHECK (state IN (
                'issued', 'succeeded', 'failed', 'expired', 'fenced', 'released', 'cancelled')),
            failure_class TEXT CHECK (failure_class IN ('transient', 'config', 'integrity')),
            message TEXT,
            sha256 TEXT,
            seconds REAL,
            ended_ms INTEGER CHECK ((ended_ms IS NOT NULL) = (state <> 'issued')),
            PRIMARY KEY (shard, fence)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE worker (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            protocol_version INTEGER NOT NULL,
            version TEXT NOT NULL,
            host TEXT NOT NULL,
            device TEXT NOT NULL,
            instruction_set TEXT NOT NULL,
            slots INTEGER NOT NULL,
            state TEXT NOT NULL CHECK (state IN (
                'registered', 'active', 'paused', 'draining', 'gone', 'suspect',
                'incompatible')),
            seen_ms INTEGER NOT NULL,
            source_bytes_per_second REAL NOT NULL,
            completed INTEGER NOT NULL,
            failed INTEGER NOT NULL
        ) STRICT;
        CREATE INDEX worker_seen ON worker(seen_ms) WHERE state NOT IN ('gone', 'incompatible');

        -- Samples that had a problem; shard is null for entries that are in no shard.
        CREATE TABLE problem (
            id INTEGER PRIMARY KEY,
            job INTEGER NOT NULL REFERENCES job(id),
            shard INTEGER REFERENCES shard(id),
            name TEXT NOT NULL,
            reason TEXT NOT NULL
        ) STRICT;
        CREATE INDEX problem_name ON problem(job, name, reason);

        CREATE TABLE event (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            job INTEGER NOT NULL REFERENCES job(id),
            at_ms INTEGER NOT NULL,
            ordinal INTEGER,
            worker TEXT,
            kind TEXT NOT NULL,
            detail TEXT NOT NULL
        ) STRICT;
        CREATE INDEX event_job ON event(job, id);

        -- Sums over shards and attempts by state, kept in the transaction of every change:
        -- counting the rows themselves takes a minute at 10^8 of them.
        CREATE TABLE counter (
            job INTEGER NOT NULL REFERENCES job(id),
            subject TEXT NOT NULL CHECK (subject IN ('shard', 'attempt')),
            state TEXT NOT NULL,
            n INTEGER NOT NULL CHECK (n >= 0),
            samples INTEGER NOT NULL DEFAULT 0 CHECK (samples >= 0),
            source_bytes INTEGER NOT NULL DEFAULT 0 CHECK (source_bytes >= 0),
            output_bytes INTEGER NOT NULL DEFAULT 0 CHECK (output_bytes >= 0),
            PRIMARY KEY (job, subject, state)
        ) STRICT, WITHOUT ROWID;
        """

    /// The shard's states lose `split` and `fallback`, which no shard was ever in: SQLite changes a
    /// CHECK by making the table anew.
    private static let search = """
        CREATE TABLE new_shard (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            job INTEGER NOT NULL REFERENCES job(id),
            ordinal INTEGER NOT NULL CHECK (ordinal >= 0),
            samples INTEGER NOT NULL CHECK (samples > 0),
            source_bytes INTEGER NOT NULL CHECK (source_bytes >= 0),
            state TEXT NOT NULL CHECK (state IN (
                'pending', 'leased', 'committed', 'retry_wait', 'quarantined', 'cancelled')),
            -- incarnation << 32 | counter
            fence INTEGER NOT NULL,
            worker TEXT,
            deadline_ms INTEGER CHECK ((deadline_ms IS NOT NULL) = (state = 'leased')),
            not_before_ms INTEGER CHECK ((not_before_ms IS NOT NULL) = (state = 'retry_wait')),
            failures INTEGER NOT NULL,
            crashes INTEGER NOT NULL,
            -- The search for samples that no worker survives, as JSON (PoisonSearch).
            search TEXT,
            done_samples INTEGER NOT NULL CHECK (done_samples BETWEEN 0 AND samples),
            done_bytes INTEGER NOT NULL CHECK (done_bytes BETWEEN 0 AND source_bytes),
            sha256 TEXT CHECK ((sha256 IS NOT NULL) = (state = 'committed')),
            output_bytes INTEGER,
            -- The shard's totals as JSON (ShardTotals).
            totals TEXT,
            UNIQUE (job, ordinal)
        ) STRICT;
        INSERT INTO new_shard
            SELECT id, job, ordinal, samples, source_bytes, state, fence, worker, deadline_ms,
                not_before_ms, failures, crashes, NULL, done_samples, done_bytes, sha256,
                output_bytes, totals
            FROM shard;
        DROP TABLE shard;
        ALTER TABLE new_shard RENAME TO shard;
        CREATE INDEX shard_pending ON shard(job, ordinal) WHERE state = 'pending';
        CREATE INDEX shard_deadline ON shard(deadline_ms) WHERE state = 'leased';
        CREATE INDEX shard_held ON shard(job) WHERE state = 'leased';
        CREATE INDEX shard_waiting ON shard(not_before_ms) WHERE state = 'retry_wait';
        """

    /// What belongs to a lease moves from the shard to its attempt.
    private static let leases = """
        CREATE TABLE new_attempt (
            shard INTEGER NOT NULL REFERENCES shard(id),
            fence INTEGER NOT NULL,
            job INTEGER NOT NULL REFERENCES job(id),
            worker TEXT NOT NULL REFERENCES worker(id),
            issued_ms INTEGER NOT NULL,
            state TEXT NOT NULL CHECK (state IN (
                'issued', 'succeeded', 'failed', 'expired', 'stuck', 'fenced', 'released',
                'superseded', 'cancelled')),
            deadline_ms INTEGER CHECK ((deadline_ms IS NOT NULL) = (state = 'issued')),
            done_samples INTEGER NOT NULL CHECK (done_samples >= 0),
            done_bytes INTEGER NOT NULL CHECK (done_bytes >= 0),
            -- Rises with every piece of work; moved_ms is when it last did.
            steps INTEGER NOT NULL,
            moved_ms INTEGER NOT NULL,
            failure_class TEXT CHECK (failure_class IN ('transient', 'config', 'integrity')),
            message TEXT,
            sha256 TEXT,
            seconds REAL,
            ended_ms INTEGER CHECK ((ended_ms IS NOT NULL) = (state <> 'issued')),
            PRIMARY KEY (shard, fence)
        ) STRICT, WITHOUT ROWID;
        INSERT INTO new_attempt
            SELECT attempt.shard, attempt.fence, attempt.job, attempt.worker, issued_ms,
                attempt.state, iif(attempt.state = 'issued', deadline_ms, NULL),
                iif(attempt.state = 'issued', done_samples, 0),
                iif(attempt.state = 'issued', done_bytes, 0), 0, issued_ms,
                failure_class, message, attempt.sha256, seconds, ended_ms
            FROM attempt JOIN shard ON shard.id = attempt.shard;
        DROP TABLE attempt;
        ALTER TABLE new_attempt RENAME TO attempt;
        CREATE INDEX attempt_deadline ON attempt(deadline_ms) WHERE state = 'issued';
        CREATE INDEX attempt_held ON attempt(job, worker) WHERE state = 'issued';
        CREATE INDEX attempt_issued ON attempt(job, issued_ms) WHERE state = 'issued';

        -- How fast classes of device are with models (Pace).
        CREATE TABLE pace (
            model_id TEXT NOT NULL,
            device_class TEXT NOT NULL,
            seconds_per_byte REAL NOT NULL CHECK (seconds_per_byte >= 0),
            PRIMARY KEY (model_id, device_class)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE new_shard (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            job INTEGER NOT NULL REFERENCES job(id),
            ordinal INTEGER NOT NULL CHECK (ordinal >= 0),
            samples INTEGER NOT NULL CHECK (samples > 0),
            source_bytes INTEGER NOT NULL CHECK (source_bytes >= 0),
            state TEXT NOT NULL CHECK (state IN (
                'pending', 'leased', 'committed', 'retry_wait', 'quarantined', 'cancelled')),
            -- incarnation << 32 | counter
            fence INTEGER NOT NULL,
            not_before_ms INTEGER CHECK ((not_before_ms IS NOT NULL) = (state = 'retry_wait')),
            failures INTEGER NOT NULL,
            crashes INTEGER NOT NULL,
            -- The search for samples that no worker survives, as JSON (PoisonSearch).
            search TEXT,
            sha256 TEXT CHECK ((sha256 IS NOT NULL) = (state = 'committed')),
            output_bytes INTEGER,
            -- The shard's totals as JSON (ShardTotals).
            totals TEXT,
            UNIQUE (job, ordinal)
        ) STRICT;
        INSERT INTO new_shard
            SELECT id, job, ordinal, samples, source_bytes, state, fence, not_before_ms, failures,
                crashes, search, sha256, output_bytes, totals
            FROM shard;
        DROP TABLE shard;
        ALTER TABLE new_shard RENAME TO shard;
        CREATE INDEX shard_pending ON shard(job, ordinal) WHERE state = 'pending';
        CREATE INDEX shard_waiting ON shard(not_before_ms) WHERE state = 'retry_wait';
        """

    /// Which job's shards come first, and how many workers may have them.
    private static let shares = """
        ALTER TABLE job ADD COLUMN priority INTEGER NOT NULL DEFAULT 0
            CHECK (priority BETWEEN -100 AND 100);
        ALTER TABLE job ADD COLUMN max_workers INTEGER CHECK (max_workers > 0);
        """

    /// Which of equal jobs has waited longest.
    private static let turns = """
        ALTER TABLE job ADD COLUMN turn INTEGER NOT NULL DEFAULT 0 CHECK (turn >= 0);
        """

    /// Why workers are suspect, and since when their failures count.
    private static let suspicions = """
        ALTER TABLE worker ADD COLUMN suspicion TEXT;
        ALTER TABLE worker ADD COLUMN has_failed_selftest INTEGER NOT NULL DEFAULT 0
            CHECK (has_failed_selftest IN (0, 1));
        ALTER TABLE worker ADD COLUMN cleared_completed INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE worker ADD COLUMN cleared_failed INTEGER NOT NULL DEFAULT 0;
        UPDATE worker SET suspicion = 'It made wrong bytes.' WHERE state = 'suspect';
        """

    /// Who made a job, to count those that are open.
    private static let submitters = """
        ALTER TABLE job ADD COLUMN submitter TEXT;
        CREATE INDEX job_submitter ON job(submitter) WHERE submitter IS NOT NULL AND state NOT IN (
            'completed', 'completed_with_fallbacks', 'cancelled', 'failed');
        """

    /// Why the coordinator paused a job.
    private static let breaker = """
        ALTER TABLE job ADD COLUMN pause_reason TEXT
            CHECK (pause_reason IS NULL OR state = 'paused');
        -- The last failures as JSON (CircuitBreaker).
        ALTER TABLE job ADD COLUMN breaker TEXT;
        """
}
