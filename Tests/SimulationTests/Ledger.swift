import JobProtocol

/// What the queue's events say must be so: an account of our own, apart from its rows.
struct Ledger {
    /// A shard's place in the datasets.
    struct Place: Hashable, CustomStringConvertible {
        let job: JobID
        let ordinal: Int

        var description: String { "\(job)/\(ordinal)" }
    }

    /// A row of the table `event`.
    struct Event {
        let id: Int64
        let job: JobID
        let ordinal: Int?
        let worker: WorkerID?
        let kind: JobEvent.Kind
        let detail: String

        /// The shard that it is about.
        var place: Place { Place(job: job, ordinal: ordinal ?? -1) }
    }

    /// An attempt that ended well, or not.
    private struct Attempt {
        let ordinal: Int?
        let worker: WorkerID?
        let isFailure: Bool
    }

    /// The last event that was taken in.
    private(set) var lastEvent: Int64 = 0
    private(set) var states: [JobID: JobState] = [:]
    /// Digests of what was committed.
    private(set) var commits: [Place: String] = [:]
    /// Workers without a selftest since they gave reason for doubt.
    private(set) var suspects: Set<WorkerID> = []
    /// How often each kind of event occurred.
    private(set) var counts: [JobEvent.Kind: Int] = [:]
    /// The last attempts of each job since it last went on, oldest first.
    private var attempts: [JobID: [Attempt]] = [:]
    /// Jobs that have to be paused by what has just failed.
    private var due: Set<JobID> = []

    /// Takes in all events of one command.
    ///
    /// - Throws: `Violation`.
    mutating func take(_ events: [Event]) throws {
        for event in events {
            lastEvent = event.id
            counts[event.kind, default: 0] += 1
            switch event.kind {
            case .jobState: try move(event)
            case .committed: try commit(event)
            case .attemptFailed, .stuck: fail(event)
            case .agreed:
                try require(commits[event.place] == event.detail, "\(event.place): no agreement")
            case .workerSuspected:
                if let worker = event.worker { suspects.insert(worker) }
            case .leaseExpired, .speculated, .suspected, .isolated, .quarantined, .nondeterminism,
                .skipped:
                break
            }
        }
        try require(due.isEmpty, "a job goes on though too many of its last attempts failed")
    }

    /// Notes that a worker's selftest went well.
    mutating func trust(_ worker: WorkerID) {
        suspects.remove(worker)
    }

    private mutating func move(_ event: Event) throws {
        let parts = event.detail.split(separator: ":", maxSplits: 1)
        guard let state = parts.first.flatMap({ JobState(rawValue: String($0)) }) else {
            throw Simulation.Violation(description: "job \(event.job) is \(event.detail)")
        }
        let isOnItsOwn = state == .paused && parts.count == 2
        if isOnItsOwn { try require(mayPause(event.job), "job \(event.job) is \(event.detail)") }
        let before = states.updateValue(state, forKey: event.job)
        if before == .paused || before == .failed { attempts[event.job] = [] }
        due.remove(event.job)
    }

    private mutating func commit(_ event: Event) throws {
        try require(commits[event.place] == nil, "shard \(event.place) was committed twice")
        let state = states[event.job] ?? .planning
        try require(!Self.isOver(state), "job \(event.job) is \(state) and gained a shard")
        commits[event.place] = event.detail
        note(event, isFailure: false)
    }

    private mutating func fail(_ event: Event) {
        guard states[event.job]?.successors.contains(.paused) == true else { return }
        note(event, isFailure: true)
        if mustPause(event.job) { due.insert(event.job) }
    }

    private static func isOver(_ state: JobState) -> Bool {
        state == .cancelling || state == .cancelled || state == .failed
    }

    // MARK: The circuit breaker, by counting

    private mutating func note(_ event: Event, isFailure: Bool) {
        var last = attempts[event.job, default: []]
        last.append(
            Attempt(ordinal: event.ordinal, worker: event.worker, isFailure: isFailure)
        )
        attempts[event.job] = last.suffix(Limits.breakerAttempts)
    }

    private func mayPause(_ job: JobID) -> Bool {
        let failures = attempts[job, default: []].filter(\.isFailure)
        return failures.count * 100 > Limits.breakerPercent * Limits.breakerAttempts
            && Set(failures.map(\.ordinal)).count >= Limits.breakerShards
    }

    /// As `mayPause`, also if other workers might do better.
    private func mustPause(_ job: JobID) -> Bool {
        let workers = attempts[job, default: []].filter(\.isFailure).map(\.worker)
        return mayPause(job) && Set(workers).count >= Limits.breakerWorkers
    }
}
