import JobProtocol

// Commands about worker processes.
extension Transition {
    mutating func register(_ registration: WorkerRegistration) -> Result<Reply, Problem> {
        let isCompatible = registration.protocolVersion == Limits.protocolVersion
        var next: WorkerState = isCompatible ? .registered : .incompatible
        if let worker = state.workers[registration.worker] {
            if isCompatible, worker.state == .gone, worker.suspicion != nil { next = .suspect }
            // A suspect stays one under its name; draining is not undone by a repeated call.
            let staysAsItIs = !worker.state.successors.contains(next)
            change(registration.worker) { [now, next] worker in
                worker.registration = registration
                worker.state = staysAsItIs ? worker.state : next
                worker.seenAt = now
            }
        } else {
            effects.append(
                .insertWorker(
                    WorkerRecord(registration: registration, state: next, seenAt: now)
                )
            )
        }
        return isCompatible
            ? .success(.done) : .failure(.incompatible(registration.protocolVersion))
    }

    /// Pauses, resumes or drains a worker on an operator's wish.
    mutating func steer(_ id: WorkerID, to next: WorkerState) -> Result<Reply, Problem> {
        guard let worker = state.workers[id] else { return .failure(.noWorker(id)) }
        let isThere = worker.state == next || (next == .active && worker.state == .registered)
        if isThere { return .success(.done) }
        let isAllowed =
            next == .active
            ? worker.state == .paused : worker.state.successors.contains(next)
        guard isAllowed else { return .failure(.wrongState(worker)) }
        change(id) { $0.state = next }
        return .success(.done)
    }

    mutating func lease(to id: WorkerID, shards: Int) -> Result<Reply, Problem> {
        guard let worker = state.workers[id] else { return .failure(.unknownWorker(id)) }
        switch worker.state {
        case .gone: return .failure(.unknownWorker(id))
        case .incompatible:
            return .failure(.incompatible(worker.registration.protocolVersion))
        case .paused, .draining, .suspect:
            change(id) { [now] in $0.seenAt = now }
            return .success(.leased([], directive(for: worker)))
        case .registered, .active:
            change(id) { [now] worker in
                worker.state = .active
                worker.seenAt = now
            }
        }
        var pending = Dictionary(grouping: state.queue) { state.shards[$0]?.job }
            .mapValues { $0[...] }
        var leased = state.jobsToLease(shards: shards).compactMap { job in
            pending[job]?.popFirst().map { issueLease(of: $0, to: id) }
        }
        for slow in state.slowLeases where leased.count < shards && mayCompete(id, with: slow) {
            let lease = issueLease(of: slow.shard, to: id)
            leased.append(lease)
            if let shard = state.shards[slow.shard], let first = state.attempts[slow]?.worker {
                record(.speculated, shard, id, "Worker \(first) is late.")
            }
        }
        return .success(.leased(leased, .continue))
    }

    /// Whether a worker may try a shard that another one holds for too long.
    private func mayCompete(_ worker: WorkerID, with lease: LeaseID) -> Bool {
        guard let shard = state.shards[lease.shard], let job = state.jobs[shard.job],
            let attempt = state.attempts[lease], let holder = state.workers[attempt.worker],
            job.state.isLeasable, state.hasRoom(job),
            state.tallies[job.id]?[.pending]?.shards ?? 0 == 0,
            state.leases[shard.id] == [lease], attempt.worker != worker,
            shard.crashes == 0, shard.search == nil
        else { return false }
        let key = QueueState.PaceKey(
            modelID: job.modelID,
            deviceClass: holder.registration.deviceClass
        )
        guard let pace = state.paces[key] else { return false }
        let due = Limits.lateFactor * pace.seconds(forBytes: shard.sourceBytes)
        return now.seconds(since: attempt.issuedAt) > max(due, Double(Limits.lateSeconds))
    }

    private mutating func issueLease(of id: ShardID, to worker: WorkerID) -> LeaseID {
        change(id) { [incarnation = state.incarnation] shard in
            shard.state = .leased
            shard.fence = Fence(incarnation: incarnation, counter: shard.fence.counter + 1)
        }
        guard let shard = state.shards[id] else { preconditionFailure("the shard is loaded") }
        let attempt = AttemptRecord(
            lease: shard.lease,
            job: shard.job,
            worker: worker,
            issuedAt: now,
            deadline: leaseEnd
        )
        state.note(attempt)
        effects.append(.insertAttempt(attempt))
        let turn = state.nextTurn
        change(shard.job) { [now] job in
            job.state = .running
            job.startedAt = job.startedAt ?? now
            job.turn = turn
        }
        return shard.lease
    }

    mutating func heartbeat(_ heartbeat: Heartbeat) -> Result<Reply, Problem> {
        let directives = heartbeat.leases.map { progress in
            LeaseDirective(
                lease: progress.lease,
                directive: prolong(progress, of: heartbeat.worker) ? .continue : .cancel
            )
        }
        change(heartbeat.worker) { [now] worker in
            if worker.state != .gone && worker.state != .incompatible {
                worker.seenAt = now
                worker.sourceBytesPerSecond = max(0, heartbeat.sourceBytesPerSecond)
            }
            if heartbeat.isLeaving {
                worker.state = .gone
            } else if heartbeat.isDraining, worker.state.successors.contains(.draining) {
                worker.state = .draining
            }
        }
        let directive =
            heartbeat.isLeaving
            ? .drain
            : state.workers[heartbeat.worker].map(directive) ?? .reRegister
        return .success(
            .heartbeat(
                HeartbeatReply(
                    directive: directive,
                    leases: directives,
                    leaseSeconds: state.leaseSeconds,
                    heartbeatSeconds: Limits.heartbeatSeconds(ofLease: state.leaseSeconds)
                )
            )
        )
    }

    mutating func renew(_ leases: Set<LeaseID>) -> Result<Reply, Problem> {
        for lease in leases where state.attempts[lease]?.state == .issued {
            change(lease) { [leaseEnd] in $0.deadline = leaseEnd }
        }
        return .success(.done)
    }

    /// Prolongs a lease and returns true when the worker holds it, moves on, and its job goes on.
    private mutating func prolong(_ progress: LeaseProgress, of worker: WorkerID) -> Bool {
        guard
            let attempt = state.attempts[progress.lease],
            let shard = state.shards[progress.lease.shard],
            let job = state.jobs[shard.job],
            attempt.state == .issued, attempt.worker == worker, !job.isOver
        else { return false }
        let stuckAt = attempt.movedAt.advanced(bySeconds: Limits.stuckSeconds)
        // Fewer steps than before are in a message that was overtaken: it says nothing.
        guard progress.steps != attempt.steps || now < stuckAt else {
            let reason = "The worker did nothing on it for \(Limits.stuckSeconds) s."
            record(.stuck, shard, worker, reason)
            endLease(progress.lease, as: .stuck, isLoss: true)
            countFailure(of: progress.lease, reason)
            return false
        }
        change(progress.lease) { [now, leaseEnd] attempt in
            attempt.deadline = leaseEnd
            if progress.steps > attempt.steps {
                attempt.steps = progress.steps
                attempt.movedAt = now
            }
            attempt.doneSamples = min(max(0, progress.samples), shard.samples)
            attempt.doneBytes = min(max(0, progress.sourceBytes), shard.sourceBytes)
        }
        return true
    }

    private func directive(for worker: WorkerRecord) -> Directive {
        switch worker.state {
        case .registered, .active: .continue
        case .paused: .pause
        case .suspect: worker.hasFailedSelftest ? .pause : .selftest
        case .draining: .drain
        case .gone, .incompatible: .reRegister
        }
    }

    /// Takes a suspect worker's selftest: it clears the worker, or confirms the suspicion.
    mutating func report(_ report: SelftestReport) -> Result<Reply, Problem> {
        guard let worker = state.workers[report.worker], worker.state != .gone else {
            return .failure(.unknownWorker(report.worker))
        }
        if worker.state == .suspect {
            let failed = report.checks.first { !$0.isOK }
            change(worker.id) { [now] worker in
                worker.seenAt = now
                worker.hasFailedSelftest = failed != nil
                worker.suspicion = failed.map { "Its selftest failed: \($0.name): \($0.detail)" }
                guard failed == nil else { return }
                worker.state = .active
                worker.cleared = Outcomes(completed: worker.completed, failed: worker.failed)
            }
        }
        return .success(.directed(state.workers[report.worker].map(directive) ?? .reRegister))
    }
}
