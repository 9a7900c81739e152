import GRDB
package import JobProtocol

// How records and rows become each other.

/// A row that does not hold what the schema promises: the file is damaged.
struct RowError: Error, CustomStringConvertible {
    let description: String
}

extension Fence {
    /// The form in the database: incarnation << 32 | counter.
    var packed: Int64 { Int64(incarnation) << 32 | Int64(counter) }

    /// A fence from its form in the database.
    package init(packed: Int64) {
        self.init(
            incarnation: UInt32(truncatingIfNeeded: packed >> 32),
            counter: UInt32(truncatingIfNeeded: packed)
        )
    }
}

extension Row {
    /// Reads a text column that holds a case of an enumeration.
    func state<State: RawRepresentable<String>>(_ column: String) throws -> State {
        let text: String = self[column]
        guard let state = State(rawValue: text) else {
            throw RowError(description: "\(column) = \(text) is unknown")
        }
        return state
    }

    func timestamp(_ column: String) -> Timestamp {
        Timestamp(milliseconds: self[column])
    }

    func timestampIfAny(_ column: String) -> Timestamp? {
        let milliseconds: Int64? = self[column]
        return milliseconds.map(Timestamp.init(milliseconds:))
    }

    func worker(_ column: String) throws -> WorkerID {
        try state(column)
    }

    func workerIfAny(_ column: String) -> WorkerID? {
        let text: String? = self[column]
        return text.flatMap(WorkerID.init(rawValue:))
    }

    /// Reads a text column that holds JSON.
    func json<Value: Decodable>(_ type: Value.Type, _ column: String) throws -> Value {
        let text: String = self[column]
        return try Wire.decode(type, from: Array(text.utf8))
    }

    /// Reads a text column that holds JSON or NULL.
    func jsonIfAny<Value: Decodable>(_ type: Value.Type, _ column: String) throws -> Value? {
        let text: String? = self[column]
        return try text.map { try Wire.decode(type, from: Array($0.utf8)) }
    }
}

/// Returns the JSON text of a value for a column.
func json(_ value: some Encodable) -> String {
    String(decoding: Wire.encode(value), as: UTF8.self)
}

extension JobRecord {
    init(_ row: Row) throws {
        self.init(
            id: JobID(rawValue: row["id"]),
            source: row["source"],
            destination: row["destination"],
            modelID: row["model_id"],
            shardBytes: row["shard_bytes"],
            priority: row["priority"],
            maxWorkers: row["max_workers"],
            idempotencyKey: row["idempotency_key"],
            submitter: row["submitter"],
            createdAt: row.timestamp("created_ms"),
            state: try row.state("state")
        )
        isScanFinished = row["is_scan_finished"]
        problems = row["problems"]
        failure = row["failure"]
        pauseReason = row["pause_reason"]
        breaker = try row.jsonIfAny(CircuitBreaker.self, "breaker")
        turn = row["turn"]
        datasetDigest = row["dataset_digest"]
        startedAt = row.timestampIfAny("started_ms")
        finishedAt = row.timestampIfAny("finished_ms")
    }
}

extension ShardRecord {
    init(_ row: Row) throws {
        self.init(
            id: ShardID(rawValue: row["id"]),
            job: JobID(rawValue: row["job"]),
            ordinal: row["ordinal"],
            samples: row["samples"],
            sourceBytes: row["source_bytes"]
        )
        state = try row.state("state")
        fence = Fence(packed: row["fence"])
        notBefore = row.timestampIfAny("not_before_ms")
        failures = row["failures"]
        crashes = row["crashes"]
        search = try row.jsonIfAny(PoisonSearch.self, "search")
        if let sha256: String = row["sha256"] {
            output = Output(
                sha256: sha256,
                bytes: row["output_bytes"],
                totals: try row.json(ShardTotals.self, "totals")
            )
        }
    }
}

extension AttemptRecord {
    init(_ row: Row) throws {
        self.init(
            lease: LeaseID(row),
            job: JobID(rawValue: row["job"]),
            worker: try row.worker("worker"),
            issuedAt: row.timestamp("issued_ms"),
            deadline: row.timestampIfAny("deadline_ms")
        )
        state = try row.state("state")
        doneSamples = row["done_samples"]
        doneBytes = row["done_bytes"]
        steps = row["steps"]
        movedAt = row.timestamp("moved_ms")
        let failureClass: String? = row["failure_class"]
        self.failureClass = failureClass.flatMap(FailureClass.init(rawValue:))
        message = row["message"]
        sha256 = row["sha256"]
        seconds = row["seconds"]
        endedAt = row.timestampIfAny("ended_ms")
    }
}

extension WorkerRecord {
    init(_ row: Row) throws {
        self.init(
            registration: WorkerRegistration(
                worker: try row.worker("id"),
                protocolVersion: row["protocol_version"],
                version: row["version"],
                host: row["host"],
                device: row["device"],
                instructionSet: row["instruction_set"],
                slots: row["slots"]
            ),
            state: try row.state("state"),
            seenAt: row.timestamp("seen_ms")
        )
        sourceBytesPerSecond = row["source_bytes_per_second"]
        completed = row["completed"]
        failed = row["failed"]
        cleared = Outcomes(completed: row["cleared_completed"], failed: row["cleared_failed"])
        suspicion = row["suspicion"]
        hasFailedSelftest = row["has_failed_selftest"]
    }
}

extension Tally {
    /// Reads a row of `counter`.
    init(_ row: Row) {
        self.init(
            shards: row["n"],
            samples: row["samples"],
            sourceBytes: row["source_bytes"],
            outputBytes: row["output_bytes"]
        )
    }
}

extension LeaseID {
    /// The lease of a row with the columns `shard` and `fence`.
    init(_ row: Row) {
        self.init(
            shard: ShardID(rawValue: row["shard"]),
            fence: Fence(packed: row["fence"])
        )
    }
}
