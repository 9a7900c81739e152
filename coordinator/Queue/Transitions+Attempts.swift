import JobProtocol

// Commands that end an attempt. The answers are the table in HTTPAPI.md.
extension Transition {
    mutating func complete(
        _ completion: Completion,
        mismatch: String?
    ) -> Result<Reply, Problem> {
        let lease = completion.lease
        guard let shard = state.shards[lease.shard], let job = state.jobs[shard.job],
            let attempt = state.attempts[lease]
        else { return .failure(.fenced(lease)) }

        if let output = shard.output {
            guard output.sha256 == completion.sha256 else {
                return .failure(reportNondeterminism(shard, attempt, completion.sha256))
            }
            if shard.fence == lease.fence {
                return .success(.completed(.replay))
            }
            if fence(attempt, sha256: completion.sha256) {
                record(.agreed, shard, attempt.worker, completion.sha256)
            }
            return .success(.completed(.agreed))
        }
        guard attempt.state == .issued else {
            if attempt.state == .cancelled { return .failure(.cancelled(job)) }
            fence(attempt, sha256: completion.sha256)
            return .failure(.fenced(lease))
        }
        guard !job.isOver else {
            endLease(lease, as: .cancelled, isLoss: false)
            return .failure(.cancelled(job))
        }
        if shard.search?.probe != nil {
            return .failure(.outputMismatch(shard.ordinal, "its lease is a probe, without output"))
        }
        if let mismatch {
            return .failure(.outputMismatch(shard.ordinal, mismatch))
        }
        guard completion.totals.samples == shard.samples else {
            return .failure(
                .outputMismatch(
                    shard.ordinal,
                    "it has \(completion.totals.samples) samples, the plan has \(shard.samples)"
                )
            )
        }
        commit(shard, attempt.worker, completion)
        return .success(.completed(.committed))
    }

    private mutating func commit(
        _ shard: ShardRecord,
        _ worker: WorkerID,
        _ completion: Completion
    ) {
        change(completion.lease) { attempt in
            attempt.state = .succeeded
            attempt.doneSamples = shard.samples
            attempt.doneBytes = shard.sourceBytes
            attempt.sha256 = completion.sha256
            attempt.seconds = completion.seconds
        }
        for other in state.leases[shard.id] ?? [] {
            change(other) { $0.state = .superseded }
        }
        notePace(of: completion.lease, shard)
        change(shard.id) { shard in
            shard.state = .committed
            shard.fence = completion.lease.fence
            shard.output = ShardRecord.Output(
                sha256: completion.sha256,
                bytes: completion.bytes,
                totals: completion.totals
            )
        }
        change(worker) { [now] worker in
            worker.completed += 1
            worker.seenAt = now
        }
        record(.committed, shard, worker, completion.sha256)
        if !completion.problems.isEmpty {
            effects.append(.recordProblems(shard.job, shard.id, completion.problems))
            change(shard.job) { $0.problems += completion.problems.count }
        }
        settle(shard.job)
    }

    /// Takes the time of an attempt into the pace of its worker's class.
    private mutating func notePace(of lease: LeaseID, _ shard: ShardRecord) {
        guard let attempt = state.attempts[lease], let worker = state.workers[attempt.worker],
            let job = state.jobs[shard.job]
        else { return }
        let (model, device) = (job.modelID, worker.registration.deviceClass)
        let key = QueueState.PaceKey(modelID: model, deviceClass: device)
        let (seconds, bytes) = (now.seconds(since: attempt.issuedAt), shard.sourceBytes)
        var pace =
            state.paces[key]
            ?? Pace(modelID: model, deviceClass: device, seconds: seconds, bytes: bytes)
        pace.take(seconds: seconds, bytes: bytes)
        state.paces[key] = pace
        effects.append(.setPace(pace))
    }

    mutating func fail(_ report: FailureReport) -> Result<Reply, Problem> {
        guard let shard = state.shards[report.lease.shard], let job = state.jobs[shard.job],
            let attempt = state.attempts[report.lease]
        else { return .failure(.fenced(report.lease)) }
        guard attempt.state == .issued else {
            switch attempt.state {
            case .failed, .cancelled, .superseded: return .success(.done)
            default:
                fence(attempt)
                return .failure(.fenced(report.lease))
            }
        }
        record(.attemptFailed, shard, attempt.worker, report.message)
        if report.failureClass == .integrity {
            suspect(attempt.worker, shard, "It found its own output wrong: \(report.message)")
        }
        guard !job.isOver else {
            change(attempt.worker) { $0.failed += 1 }
            endLease(report.lease, as: .cancelled, isLoss: false)
            return .success(.done)
        }
        change(report.lease) { attempt in
            attempt.state = .failed
            attempt.failureClass = report.failureClass
            attempt.message = report.message
        }
        switch report.failureClass {
        case .integrity:
            takeBack(report.lease, isLoss: true)
        case .transient, .config:
            change(attempt.worker) { $0.failed += 1 }
            compare(attempt.worker, shard)
            retry(shard, attempt.worker, after: report)
        }
        countFailure(of: report.lease, report.message)
        return .success(.done)
    }

    /// Makes a shard wait for its next try, or gives it up; where another worker holds it, too, that
    /// one's attempt decides, unless it cannot work anywhere.
    private mutating func retry(
        _ shard: ShardRecord,
        _ worker: WorkerID,
        after report: FailureReport
    ) {
        let failures = shard.failures + 1
        let isConfiguration = report.failureClass == .config
        let isGivenUp = isConfiguration || failures >= Limits.triesPerShard
        let wait = backoffMilliseconds(
            failures: failures,
            atLeastSeconds: report.retryAfterSeconds ?? 0,
            shard: shard.id
        )
        if isConfiguration {
            for other in state.leases[shard.id] ?? [] {
                change(other) { $0.state = .cancelled }
            }
        }
        guard !isHeld(shard.id) else {
            change(shard.id) { $0.failures = failures }
            return
        }
        change(shard.id) { [now] shard in
            shard.state = isGivenUp ? .quarantined : .retryWait
            shard.notBefore =
                isGivenUp ? nil : Timestamp(milliseconds: now.milliseconds + wait)
            shard.failures = failures
        }
        if isConfiguration {
            quarantine(shard, worker, report.message)
        } else if isGivenUp {
            let reason = "it failed \(failures) times, the last time: \(report.message)"
            quarantine(shard, worker, reason)
        }
    }

    mutating func clear(_ request: ClearRequest) -> Result<Reply, Problem> {
        guard let shard = state.shards[request.lease.shard],
            let attempt = state.attempts[request.lease]
        else { return .failure(.fenced(request.lease)) }
        guard attempt.state == .issued else { return late(attempt) }
        guard shard.search?.probe != nil else {
            return .failure(.outputMismatch(shard.ordinal, "its lease is no probe"))
        }
        change(shard.id) { $0.search?.clear() }
        endLease(request.lease, as: .released, isLoss: false)
        return .success(.done)
    }

    mutating func release(_ request: ReleaseRequest) -> Result<Reply, Problem> {
        guard let attempt = state.attempts[request.lease] else {
            return .failure(.fenced(request.lease))
        }
        guard attempt.state == .issued else { return late(attempt) }
        endLease(request.lease, as: .released, isLoss: false)
        return .success(.done)
    }

    /// Answers a worker that gives a lease back a second time, or after it was lost.
    private mutating func late(_ attempt: AttemptRecord) -> Result<Reply, Problem> {
        switch attempt.state {
        case .released, .cancelled, .superseded: return .success(.done)
        default:
            fence(attempt)
            return .failure(.fenced(attempt.lease))
        }
    }

    /// Notes that an attempt reported after it had lost its lease, and what it had made.
    ///
    /// - Returns: Whether this is news; false when the report was repeated.
    @discardableResult
    private mutating func fence(_ attempt: AttemptRecord, sha256: String? = nil) -> Bool {
        if attempt.state == .superseded {
            change(attempt.lease) { $0.sha256 = sha256 }
            return attempt.sha256 != sha256
        }
        guard attempt.state.successors.contains(.fenced) else { return false }
        change(attempt.lease) { attempt in
            attempt.state = .fenced
            attempt.sha256 = sha256
        }
        return true
    }

    /// Notes that two attempts made different bytes: neither worker is trusted any more.
    private mutating func reportNondeterminism(
        _ shard: ShardRecord,
        _ attempt: AttemptRecord,
        _ sha256: String
    ) -> Problem {
        let committed = shard.output?.sha256 ?? ""
        let reason = "It made other bytes than another worker."
        suspect(attempt.worker, shard, reason)
        if let other = state.attempts[shard.lease] {
            suspect(other.worker, shard, reason)
        }
        if fence(attempt, sha256: sha256) || attempt.state == .succeeded {
            record(.nondeterminism, shard, attempt.worker, "\(sha256) is not \(committed)")
        }
        return .nondeterminism(shard.ordinal, committed: committed, reported: sha256)
    }

    /// Trusts a worker no more that fails much more often than the others.
    private mutating func compare(_ id: WorkerID, _ shard: ShardRecord) {
        guard let own = state.workers[id]?.outcomes, let others = state.otherOutcomes,
            own.fails(Limits.failureRateFactor, timesAsOftenAs: others)
        else { return }
        suspect(
            id,
            shard,
            "\(own.failed) of its \(own.total) attempts failed, \(others.failed) of "
                + "\(others.total) of the other workers'."
        )
    }

    /// Gives a worker no more work until its selftest went well.
    mutating func suspect(_ id: WorkerID, _ shard: ShardRecord, _ reason: String) {
        guard state.workers[id]?.state.successors.contains(.suspect) == true else { return }
        change(id) { worker in
            worker.state = .suspect
            worker.suspicion = reason
            worker.hasFailedSelftest = false
        }
        record(.workerSuspected, shard, id, reason)
    }

    /// Returns the wait before the next try: "full jitter", anything from 0 to the bound, which
    /// doubles with each failure (after Brooker, "Exponential Backoff And Jitter", AWS 2015).
    private func backoffMilliseconds(
        failures: Int,
        atLeastSeconds: Int,
        shard: ShardID
    ) -> Int64 {
        let doublings = min(failures, 20)
        let bound = min(
            Limits.backoffCapMilliseconds,
            Limits.backoffBaseMilliseconds << Int64(doublings)
        )
        var generator = SplitMix64(state: random ^ UInt64(bitPattern: shard.rawValue))
        let capSeconds = Int(Limits.backoffCapMilliseconds / 1000)
        let least = Int64(min(max(0, atLeastSeconds), capSeconds)) * 1000
        return max(least, Int64.random(in: 0...bound, using: &generator))
    }
}

/// The generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
struct SplitMix64: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
