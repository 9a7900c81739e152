import JobProtocol

/// Decides what a command changes and answers: the one place where states move.
///
/// Pure: no clock, no file, no database. The production queue and the simulation call the same
/// function.
///
/// - Parameters:
///   - command: What happens.
///   - now: The coordinator's time.
///   - random: 64 random bits, for the jitter of retries.
///   - state: What the command concerns; `JobQueue` loads it in the command's transaction.
/// - Returns: What to write, and what to answer after that.
package func apply(
    _ command: Command,
    now: Timestamp,
    random: UInt64,
    to state: QueueState
) -> Decision {
    var transition = Transition(now: now, random: random, state: state)
    let reply = transition.perform(command)
    return Decision(effects: transition.effects, reply: reply)
}

/// One command at work: the state as it becomes, and the effects so far.
struct Transition {
    let now: Timestamp
    let random: UInt64
    var state: QueueState
    var effects: [Effect] = []

    init(now: Timestamp, random: UInt64, state: QueueState) {
        self.now = now
        self.random = random
        self.state = state
    }

    /// When a lease that is given or prolonged now runs out.
    var leaseEnd: Timestamp { now.advanced(bySeconds: state.leaseSeconds) }

    mutating func perform(_ command: Command) -> Result<Reply, Problem> {
        switch command {
        case .start(let workersSurvived): start(workersSurvived: workersSurvived)
        case .restored: restored()
        case .submit(let request, let obstacle, let submitter):
            submit(request, obstacle: obstacle, by: submitter)
        case .appendShard(let job, let samples, let skipped):
            appendShard(to: job, samples: samples, skipped: skipped)
        case .finishScan(let job, let skipped): finishScan(of: job, skipped: skipped)
        case .seal(let job, let digest): seal(job, datasetDigest: digest)
        case .abandon(let job, let reason): abandon(job, reason: reason)
        case .pause(let job): pause(job)
        case .resume(let job): resume(job)
        case .cancel(let job): cancel(job)
        case .retry(let job, let obstacle, let submitter):
            retry(job, obstacle: obstacle, by: submitter)
        case .register(let registration): register(registration)
        case .pauseWorker(let worker): steer(worker, to: .paused)
        case .resumeWorker(let worker): steer(worker, to: .active)
        case .drainWorker(let worker): steer(worker, to: .draining)
        case .reportSelftest(let report): self.report(report)
        case .lease(let worker, let shards): lease(to: worker, shards: shards)
        case .heartbeat(let heartbeat): self.heartbeat(heartbeat)
        case .renew(let leases): renew(leases)
        case .complete(let completion, let mismatch): complete(completion, mismatch: mismatch)
        case .clear(let request): clear(request)
        case .fail(let report): fail(report)
        case .release(let request): release(request)
        case .reap: reap()
        }
    }

    private mutating func start(workersSurvived: Bool) -> Result<Reply, Problem> {
        if workersSurvived {
            effects.append(.prolongEveryLease(until: leaseEnd))
            effects.append(.seeEveryWorker(at: now))
        } else {
            endEveryLease()
        }
        return .success(.done)
    }

    private mutating func restored() -> Result<Reply, Problem> {
        effects.append(.raiseIncarnation)
        endEveryLease()
        return .success(.done)
    }

    private mutating func endEveryLease() {
        for lease in state.oldLeases {
            endLease(lease, as: .expired, isLoss: false)
        }
    }

    private mutating func reap() -> Result<Reply, Problem> {
        let silentSince = now.advanced(bySeconds: -state.leaseSeconds)
        for id in state.oldLeases {
            guard let shard = state.shards[id.shard], let attempt = state.attempts[id],
                let deadline = attempt.deadline, deadline <= now
            else { continue }
            // A worker that is there but does not name the lease never got the answer with it.
            let isLoss = state.workers[attempt.worker].map { $0.seenAt <= silentSince } ?? true
            record(
                .leaseExpired,
                shard,
                attempt.worker,
                isLoss
                    ? "The worker was silent for \(state.leaseSeconds) s."
                    : "The worker does not name it."
            )
            endLease(id, as: .expired, isLoss: isLoss)
        }
        for id in state.queue {
            guard let notBefore = state.shards[id]?.notBefore, notBefore <= now else { continue }
            change(id) { shard in
                shard.state = .pending
                shard.notBefore = nil
            }
        }
        for id in state.silentWorkers {
            guard let worker = state.workers[id], worker.seenAt <= silentSince else { continue }
            change(id) { $0.state = .gone }
        }
        return .success(.done)
    }
}

// MARK: - The writes that commands are made of

extension Transition {
    /// Changes a job and records the event when its state moves.
    mutating func change(_ id: JobID, _ body: (inout JobRecord) -> Void) {
        guard let before = state.jobs[id] else { preconditionFailure("job \(id) is loaded") }
        var after = before
        body(&after)
        guard after != before else { return }
        if after.state != before.state {
            precondition(
                before.state.successors.contains(after.state),
                "a job cannot go from \(before.state) to \(after.state)"
            )
            after.finishedAt = after.state.isFinal ? now : nil
            if after.state != .paused { after.pauseReason = nil }
        }
        state.jobs[id] = after
        effects.append(.changeJob(before, after))
        if after.state != before.state {
            let reason = after.failure ?? after.pauseReason
            let detail = reason.map { "\(after.state.rawValue): \($0)" }
            effects.append(
                .recordEvent(
                    id,
                    ordinal: nil,
                    nil,
                    .jobState,
                    detail ?? after.state.rawValue
                )
            )
        }
    }

    /// Changes a shard and keeps its job's tallies.
    mutating func change(_ id: ShardID, _ body: (inout ShardRecord) -> Void) {
        guard let before = state.shards[id] else { preconditionFailure("shard \(id) is loaded") }
        var after = before
        body(&after)
        guard after != before else { return }
        precondition(
            after.state == before.state || before.state.successors.contains(after.state),
            "a shard cannot go from \(before.state) to \(after.state)"
        )
        state.shards[id] = after
        state.tallies[before.job, default: [:]][before.state, default: .zero] -= before.tally
        state.tallies[after.job, default: [:]][after.state, default: .zero] += after.tally
        effects.append(.changeShard(before, after))
    }

    mutating func change(_ lease: LeaseID, _ body: (inout AttemptRecord) -> Void) {
        guard let before = state.attempts[lease] else {
            preconditionFailure("attempt \(lease) is loaded")
        }
        var after = before
        body(&after)
        guard after != before else { return }
        precondition(
            after.state == before.state || before.state.successors.contains(after.state),
            "an attempt cannot go from \(before.state) to \(after.state)"
        )
        if after.state != .issued {
            after.deadline = nil
            after.endedAt = before.endedAt ?? now
        }
        state.note(after)
        effects.append(.changeAttempt(before, after))
    }

    mutating func change(_ id: WorkerID, _ body: (inout WorkerRecord) -> Void) {
        guard let before = state.workers[id] else { return }
        var after = before
        body(&after)
        guard after != before else { return }
        precondition(
            after.state == before.state || before.state.successors.contains(after.state),
            "a worker cannot go from \(before.state) to \(after.state)"
        )
        state.workers[id] = after
        effects.append(.changeWorker(before, after))
    }

    /// Ends a lease and takes its shard back.
    mutating func endLease(_ lease: LeaseID, as end: AttemptState, isLoss: Bool) {
        guard let shard = state.shards[lease.shard], let job = state.jobs[shard.job] else {
            preconditionFailure("a shard is loaded with its job")
        }
        change(lease) { $0.state = job.isOver ? .cancelled : end }
        takeBack(lease, isLoss: isLoss)
    }

    /// Takes a shard back after a lease, unless another worker holds it, too: to `cancelled` when its
    /// job is over, to `quarantined` when workers are lost on it whatever is left out, else to
    /// `pending`.
    ///
    /// A loss is a worker that fell silent, got stuck or made a wrong output.
    mutating func takeBack(_ lease: LeaseID, isLoss: Bool) {
        guard let before = state.shards[lease.shard], let job = state.jobs[before.job],
            let worker = state.attempts[lease]?.worker
        else { preconditionFailure("a lease is loaded with its shard and its job") }
        var after = before
        if !isHeld(before.id) { after.state = job.isOver ? .cancelled : .pending }
        if isLoss, !job.isOver, !lose(&after) { after.state = .quarantined }
        change(before.id) { $0 = after }
        if isLoss {
            change(worker) { $0.failed += 1 }
            if before.search?.probe != nil { suspect(worker, before, "It was lost on a probe.") }
        }
        if after.state == .quarantined {
            let reason = "workers are lost on it though all its samples are kept as they are"
            quarantine(before, worker, reason)
        } else if let search = after.search, search != before.search {
            recordSearch(search, before, worker)
        }
        settle(before.job)
    }

    /// Whether a worker holds a shard.
    func isHeld(_ shard: ShardID) -> Bool { state.leases[shard]?.isEmpty == false }

    /// Counts a loss, and begins or continues the search for the samples that are to blame, unless
    /// another worker is still at the whole.
    ///
    /// - Returns: False when nothing is left to try.
    private func lose(_ shard: inout ShardRecord) -> Bool {
        guard shard.search?.probe == nil else {
            shard.search?.lose()
            return true
        }
        shard.crashes += 1
        guard !isHeld(shard.id) else { return true }
        let hosts = min(Limits.suspectHosts, state.fleetHosts)
        let isSuspected =
            shard.crashes >= Limits.triesPerShard
            || shard.crashes >= Limits.suspectLosses
                && state.lossHosts[shard.id, default: 0] >= hosts
        guard isSuspected else { return true }
        shard.crashes = 0
        guard shard.search != nil else {
            shard.search = PoisonSearch(samples: shard.samples)
            return true
        }
        return shard.search?.restart(samples: shard.samples) ?? false
    }

    /// Records that a search began, or what it has found.
    private mutating func recordSearch(
        _ search: PoisonSearch,
        _ before: ShardRecord,
        _ worker: WorkerID
    ) {
        let known = before.search?.found ?? []
        let found = search.found.filter { !known.contains($0) }
        if !found.isEmpty {
            let numbers = found.map(String.init).joined(separator: ", ")
            record(.isolated, before, worker, "Kept as they are: samples \(numbers).")
        } else if before.search?.probe == nil {
            record(.suspected, before, worker, "Workers are lost on it; trying it in parts.")
        }
    }

    /// Counts a failed attempt, and pauses the job when too many of the last ones failed.
    mutating func countFailure(of lease: LeaseID, _ message: String) {
        guard let attempt = state.attempts[lease], let job = state.jobs[attempt.job],
            job.state.successors.contains(.paused)
        else { return }
        var breaker = job.breaker ?? CircuitBreaker()
        let reason = breaker.fail(
            shard: lease.shard,
            worker: attempt.worker,
            succeeded: state.succeeded[job.id] ?? 0,
            workers: state.fleetWorkers
        )
        change(job.id) { job in
            job.breaker = breaker
            guard let reason else { return }
            job.state = .paused
            job.pauseReason = "\(reason), the last time: \(message)"
        }
    }

    /// Records that a shard was given up, and fails its job.
    mutating func quarantine(_ shard: ShardRecord, _ worker: WorkerID, _ reason: String) {
        record(.quarantined, shard, worker, reason)
        end(shard.job, failure: "Shard \(shard.ordinal) was given up: \(reason).")
    }

    /// Fails a job that has not ended.
    mutating func end(_ job: JobID, failure: String) {
        cancelOpenShards(of: job)
        change(job) { job in
            job.state = .failed
            job.failure = failure
        }
    }

    mutating func cancelOpenShards(of job: JobID) {
        move(ShardState.open, to: .cancelled, of: job)
        effects.append(.cancelOpenShards(job))
    }

    mutating func reopenShards(of job: JobID) {
        move(ShardState.reopenable, to: .pending, of: job)
        effects.append(.reopenShards(job))
    }

    /// Moves tallies as an effect on all shards in some states will.
    private mutating func move(_ states: [ShardState], to next: ShardState, of job: JobID) {
        for before in states {
            guard let tally = state.tallies[job]?[before], tally.shards > 0 else { continue }
            state.tallies[job]?[before] = .zero
            state.tallies[job, default: [:]][next, default: .zero] += tally
        }
    }

    /// Moves a job on when its last shard was committed or its last lease came back.
    mutating func settle(_ id: JobID) {
        guard let job = state.jobs[id] else { preconditionFailure("job \(id) is loaded") }
        let tallies = state.tallies[id] ?? [:]
        switch job.state {
        case .planning, .running:
            let isComplete = tallies.allSatisfy { $0 == .committed || $1.shards == 0 }
            guard job.isScanFinished, isComplete else { return }
            change(id) { $0.state = .sealing }
        case .cancelling:
            guard (tallies[.leased]?.shards ?? 0) == 0 else { return }
            change(id) { $0.state = .cancelled }
        case .queued, .paused, .sealing, .completed, .completedWithFallbacks, .cancelled,
            .failed:
            return
        }
    }

    mutating func record(
        _ kind: JobEvent.Kind,
        _ shard: ShardRecord,
        _ worker: WorkerID,
        _ detail: String
    ) {
        effects.append(
            .recordEvent(shard.job, ordinal: shard.ordinal, worker, kind, detail)
        )
    }
}
