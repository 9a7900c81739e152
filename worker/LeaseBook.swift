package import JobProtocol

/// How sure a worker may be that it still holds a lease.
package enum Standing: Equatable, Sendable {
    /// An answer came recently enough.
    case held
    /// No answer for 80 % of the lease: nothing may be placed until one comes.
    case uncertain
    /// The coordinator said so, or the lease was never in the book: stop.
    case lost
}

/// What a worker knows about its leases: heartbeats and answers in, standing out.
///
/// Pure: times are seconds on any monotonic clock that the caller keeps.
package struct LeaseBook: Sendable {
    private struct Entry {
        var samples = 0
        var sourceBytes: Int64 = 0
        var steps = 0
        var leaseSeconds: Double
        /// When the last answered heartbeat was sent: the coordinator counts from then or later.
        var confirmedAt: Double
        var isLost = false
    }

    /// Rates are over this many seconds.
    private static let rateSeconds = 60.0

    private var entries: [LeaseID: Entry] = [:]
    /// Bytes worked on at each beat of the last minute, oldest first.
    private var history: [(seconds: Double, bytes: Int64)] = []
    private var workedBytes: Int64 = 0
    /// What the coordinator last told the process to do.
    package private(set) var directive = Directive.continue

    package init() {}

    /// Notes a lease that was granted at `seconds`.
    package mutating func add(_ lease: LeaseID, leaseSeconds: Int, atSeconds seconds: Double) {
        entries[lease] = Entry(leaseSeconds: Double(leaseSeconds), confirmedAt: seconds)
    }

    /// Forgets a lease: completed, failed, given back or lost.
    package mutating func remove(_ lease: LeaseID) {
        entries[lease] = nil
    }

    /// Notes a step of work on a lease, and the samples that it finished.
    package mutating func advance(_ lease: LeaseID, samples: Int, sourceBytes: Int64) {
        workedBytes += sourceBytes
        entries[lease]?.samples += samples
        entries[lease]?.sourceBytes += sourceBytes
        entries[lease]?.steps += 1
    }

    /// The heartbeat to send at `seconds`.
    package mutating func heartbeat(
        of worker: WorkerID,
        isDraining: Bool,
        isLeaving: Bool,
        atSeconds seconds: Double
    ) -> Heartbeat {
        while history.count > 1, history[1].seconds <= seconds - Self.rateSeconds {
            history.removeFirst()
        }
        history.append((seconds, workedBytes))
        let oldest = history[0]
        let elapsed = seconds - oldest.seconds
        return Heartbeat(
            worker: worker,
            isDraining: isDraining,
            isLeaving: isLeaving,
            sourceBytesPerSecond: elapsed > 0 ? Double(workedBytes - oldest.bytes) / elapsed : 0,
            leases: entries.filter { !$0.value.isLost }
                .sorted { ($0.key.shard, $0.key.fence) < ($1.key.shard, $1.key.fence) }
                .map {
                    LeaseProgress(
                        lease: $0.key,
                        samples: $0.value.samples,
                        sourceBytes: $0.value.sourceBytes,
                        steps: $0.value.steps
                    )
                }
        )
    }

    /// Takes in the answer to the heartbeat that was sent at `sentSeconds`.
    package mutating func answered(_ reply: HeartbeatReply, sentAtSeconds sentSeconds: Double) {
        directive = reply.directive
        for answer in reply.leases {
            if answer.directive == .continue {
                entries[answer.lease]?.confirmedAt = sentSeconds
                entries[answer.lease]?.leaseSeconds = Double(reply.leaseSeconds)
            } else {
                entries[answer.lease]?.isLost = true
            }
        }
        if reply.directive == .reRegister { loseAll() }
    }

    /// The coordinator does not know this worker: its leases are gone.
    package mutating func forgotten() {
        directive = .reRegister
        loseAll()
    }

    /// Takes in what the process is to do, as answered to something else than a heartbeat.
    package mutating func directed(_ directive: Directive) {
        self.directive = directive
    }

    /// The worker is known again.
    package mutating func registered() {
        directive = .continue
    }

    /// Whether the lease is still this worker's at `seconds`.
    package func standing(of lease: LeaseID, atSeconds seconds: Double) -> Standing {
        guard let entry = entries[lease], !entry.isLost else { return .lost }
        let limit = entry.leaseSeconds * Double(Limits.selfFencePercent) / 100
        return seconds - entry.confirmedAt < limit ? .held : .uncertain
    }

    private mutating func loseAll() {
        for lease in Array(entries.keys) { entries[lease]?.isLost = true }
    }
}
