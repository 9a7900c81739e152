import JobProtocol

// Commands about whole jobs.
extension Transition {
    mutating func submit(
        _ request: SubmitRequest,
        obstacle: Problem?,
        by submitter: Submitter?
    ) -> Result<Reply, Problem> {
        // The jobs loaded are that with the same key and those that write to the destination.
        let jobs = state.jobs.values
        if let key = request.idempotencyKey,
            let job = jobs.first(where: { $0.idempotencyKey == key })
        {
            guard isSame(job, request), hasSameOptions(job, request) else {
                return .failure(.keyUsed(key, by: job.id))
            }
            return .success(.submitted(SubmitReply(job: job.id, isReplay: true)))
        }
        if let job = jobs.first(where: { !$0.state.isFinal }) {
            // A job that is being cancelled still holds its destination, but is nobody's result.
            guard isSame(job, request), job.state != .cancelling else {
                return .failure(.busy(request.destination, by: job.id))
            }
            return .success(.submitted(SubmitReply(job: job.id, isReplay: true)))
        }
        if let problem = quotaProblem(of: submitter) ?? obstacle {
            return .failure(problem)
        }
        let job = JobRecord(
            id: state.nextJob,
            source: request.source,
            destination: request.destination,
            modelID: request.modelID,
            shardBytes: request.shardBytes,
            priority: request.priority,
            maxWorkers: request.maxWorkers,
            idempotencyKey: request.idempotencyKey,
            submitter: submitter?.id,
            createdAt: now,
            state: .planning
        )
        effects.append(.insertJob(job))
        effects.append(
            .recordEvent(job.id, ordinal: nil, nil, .jobState, JobState.planning.rawValue)
        )
        return .success(.submitted(SubmitReply(job: job.id, isReplay: false)))
    }

    /// Returns why a submitter may not have one more open job; nil if they may.
    private func quotaProblem(of submitter: Submitter?) -> Problem? {
        guard let limit = submitter?.openJobs, state.openJobs >= limit else { return nil }
        return .tooManyJobs(state.openJobs, limit: limit)
    }

    private func isSame(_ job: JobRecord, _ request: SubmitRequest) -> Bool {
        job.source == request.source && job.destination == request.destination
            && job.modelID == request.modelID
    }

    private func hasSameOptions(_ job: JobRecord, _ request: SubmitRequest) -> Bool {
        job.shardBytes == request.shardBytes && job.priority == request.priority
            && job.maxWorkers == request.maxWorkers
    }

    mutating func appendShard(
        to id: JobID,
        samples: [ShardSample],
        skipped: [SampleProblem]
    ) -> Result<Reply, Problem> {
        guard let job = state.jobs[id] else { return .failure(.noJob(id)) }
        guard !job.isScanFinished, !job.isOver else { return .failure(.wrongState(job, "grow")) }
        let total = (state.tallies[id] ?? [:]).values.reduce(0) { $0 + $1.shards }
        let shard = ShardRecord(
            id: state.nextShard,
            job: id,
            ordinal: total,
            samples: samples.count,
            sourceBytes: samples.reduce(0) { $0 + $1.bytes }
        )
        effects.append(.insertShard(shard, samples))
        state.tallies[id, default: [:]][.pending, default: .zero] += shard.tally
        report(skipped, of: id)
        if job.state == .planning {
            change(id) { $0.state = .queued }
        }
        return .success(.done)
    }

    mutating func finishScan(of id: JobID, skipped: [SampleProblem]) -> Result<Reply, Problem> {
        guard let job = state.jobs[id] else { return .failure(.noJob(id)) }
        guard !job.isScanFinished, !job.isOver else {
            return .failure(.wrongState(job, "be scanned"))
        }
        report(skipped, of: id)
        change(id) { $0.isScanFinished = true }
        settle(id)
        return .success(.done)
    }

    mutating func seal(_ id: JobID, datasetDigest: String) -> Result<Reply, Problem> {
        guard let job = state.jobs[id] else { return .failure(.noJob(id)) }
        guard job.state == .sealing else { return .failure(.wrongState(job, "be sealed")) }
        change(id) { job in
            job.state = job.problems == 0 ? .completed : .completedWithFallbacks
            job.datasetDigest = datasetDigest
        }
        return .success(.done)
    }

    mutating func abandon(_ id: JobID, reason: String) -> Result<Reply, Problem> {
        guard let job = state.jobs[id] else { return .failure(.noJob(id)) }
        guard job.state.successors.contains(.failed) else {
            return .failure(.wrongState(job, "fail"))
        }
        end(id, failure: reason)
        return .success(.done)
    }

    mutating func pause(_ id: JobID) -> Result<Reply, Problem> {
        guard let job = state.jobs[id] else { return .failure(.noJob(id)) }
        if job.state == .paused { return .success(.done) }
        guard job.state.successors.contains(.paused) else {
            return .failure(.wrongState(job, "be paused"))
        }
        change(id) { $0.state = .paused }
        return .success(.done)
    }

    mutating func resume(_ id: JobID) -> Result<Reply, Problem> {
        guard let job = state.jobs[id] else { return .failure(.noJob(id)) }
        guard job.state == .paused else {
            return job.state.isFinal || job.isOver
                ? .failure(.wrongState(job, "be resumed")) : .success(.done)
        }
        goOn(id)
        return .success(.done)
    }

    mutating func retry(
        _ id: JobID,
        obstacle: Problem?,
        by submitter: Submitter?
    ) -> Result<Reply, Problem> {
        guard let job = state.jobs[id] else { return .failure(.noJob(id)) }
        guard job.state == .failed else {
            // A repeated call finds the job on its way.
            return job.state.isFinal || job.isOver
                ? .failure(.wrongState(job, "be tried again")) : .success(.done)
        }
        // The jobs loaded are this one and those that write to its destination.
        if let other = state.jobs.values.first(where: { !$0.state.isFinal }) {
            return .failure(.busy(job.destination, by: other.id))
        }
        if let problem = quotaProblem(of: submitter) ?? obstacle { return .failure(problem) }
        reopenShards(of: id)
        goOn(id)
        return .success(.done)
    }

    /// Takes a job to where its shards say that it is.
    private mutating func goOn(_ id: JobID) {
        let hasShards = (state.tallies[id] ?? [:]).values.contains { $0.shards > 0 }
        change(id) { job in
            job.state = job.startedAt != nil ? .running : hasShards ? .queued : .planning
            job.failure = nil
            job.breaker = nil
        }
        settle(id)
    }

    mutating func cancel(_ id: JobID) -> Result<Reply, Problem> {
        guard let job = state.jobs[id] else { return .failure(.noJob(id)) }
        if job.state == .cancelling || job.state == .cancelled { return .success(.done) }
        guard job.state.successors.contains(.cancelling) else {
            return .failure(.wrongState(job, "be cancelled"))
        }
        cancelOpenShards(of: id)
        change(id) { $0.state = .cancelling }
        settle(id)
        return .success(.done)
    }

    /// Records the entries of the source that are no samples.
    private mutating func report(_ skipped: [SampleProblem], of job: JobID) {
        guard !skipped.isEmpty else { return }
        effects.append(.recordProblems(job, nil, skipped))
        for problem in skipped {
            effects.append(
                .recordEvent(job, ordinal: nil, nil, .skipped, "\(problem.name): \(problem.reason)")
            )
        }
        change(job) { $0.problems += skipped.count }
    }
}
