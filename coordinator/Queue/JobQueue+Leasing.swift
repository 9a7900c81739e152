package import GRDB
package import JobProtocol

// How a worker gets shards.
extension JobQueue {
    /// A lease as the database tells it: the samples of its shard are still text.
    private struct Assignment: Sendable {
        let lease: Lease
        let plan: String
        let search: String?

        /// The lease with its samples, of a probe those of its part.
        var decoded: Lease {
            get throws {
                var lease = lease
                lease.samples = try Wire.decode([ShardSample].self, from: Array(plan.utf8))
                guard let search else { return lease }
                let found = try Wire.decode(PoisonSearch.self, from: Array(search.utf8))
                let part = found.probe ?? lease.samples.indices
                lease.purpose = found.probe == nil ? .shard : .probe
                lease.samples = Array(lease.samples[part])
                lease.verbatim = found.found.filter(part.contains).map { $0 - part.lowerBound }
                return lease
            }
        }
    }

    /// Leases shards to a worker and returns what it has to know about them.
    func lease(_ request: LeaseRequest, now: Timestamp) async throws(APIError) -> LeaseReply {
        let command = Command.lease(request.worker, shards: request.shards)
        let (assignments, isDrained, directive) = try await perform(command, now: now) {
            [leaseSeconds]
            reply,
            db in
            guard case .leased(let leases, let directive) = reply else {
                preconditionFailure("lease answers with leases")
            }
            let assignments = try leases.map { try Self.assignment($0, leaseSeconds, db) }
            return (assignments, try leases.isEmpty && Self.isDrained(db), directive)
        }
        var leases: [Lease] = []
        for assignment in assignments {
            do {
                leases.append(try assignment.decoded)
            } catch {
                // The database is damaged: nobody could ever do this shard.
                let reason = "The plan of shard \(assignment.lease.ordinal) is damaged: \(error)."
                // A job that was ended meanwhile needs no other end.
                _ = try? await perform(.abandon(assignment.lease.job, reason: reason), now: now)
            }
        }
        return LeaseReply(leases: leases, isDrained: isDrained, directive: directive)
    }

    /// Returns what a worker has to know about leases.
    package func describe(_ leases: [LeaseID]) async throws(APIError) -> [Lease] {
        try await read { [leaseSeconds] db in
            try leases.map { try Self.describe($0, leaseSeconds: leaseSeconds, in: db) }
        }
    }

    /// As the other `describe`, on the connection.
    package static func describe(
        _ lease: LeaseID,
        leaseSeconds: Int,
        in db: Database
    ) throws -> Lease {
        try assignment(lease, leaseSeconds, db).decoded
    }

    /// Returns what a worker has to know about a lease that it holds.
    ///
    /// - Throws: `fenced` for any other lease.
    package func held(_ lease: LeaseID) async throws(APIError) -> Lease {
        let assignment = try await read { [leaseSeconds] db in
            let isHeld = try Bool.fetchOne(
                db.cachedStatement(
                    sql: "SELECT 1 FROM attempt WHERE shard = ? AND fence = ? AND state = 'issued'"
                ),
                arguments: [lease.shard.rawValue, lease.fence.packed]
            )
            guard isHeld != nil else { throw Problem.fenced(lease) }
            return try Self.assignment(lease, leaseSeconds, db)
        }
        do {
            return try assignment.decoded
        } catch {
            throw .refused(.failed(error))
        }
    }

    private static func assignment(
        _ lease: LeaseID,
        _ leaseSeconds: Int,
        _ db: Database
    ) throws -> Assignment {
        let row = try Row.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT job, ordinal, source, destination, model_id, search,
                        plan.samples AS plan
                    FROM shard JOIN job ON job.id = shard.job JOIN plan ON plan.shard = shard.id
                    WHERE shard.id = ?
                    """
            ),
            arguments: [lease.shard.rawValue]
        )
        guard let row else { throw RowError(description: "shard \(lease.shard) has no plan") }
        return Assignment(
            lease: Lease(
                lease: lease,
                job: JobID(rawValue: row["job"]),
                ordinal: row["ordinal"],
                source: row["source"],
                destination: row["destination"],
                modelID: row["model_id"],
                samples: [],
                leaseSeconds: leaseSeconds
            ),
            plan: row["plan"],
            search: row["search"]
        )
    }
}
