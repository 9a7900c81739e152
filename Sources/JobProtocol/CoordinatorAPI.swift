/// What one can ask of a coordinator, over HTTP or in the same process.
///
/// Every call may be repeated after a lost answer: it then has no second effect.
package protocol CoordinatorAPI: Sendable {
    /// Returns the job for a request: a new one, or the one that an equal request made before.
    ///
    /// Equal means the same idempotency key, or the same source, destination and model while that
    /// job has not ended.
    func submit(_ request: SubmitRequest) async throws(APIError) -> SubmitReply
    /// Returns every job, oldest first.
    func jobs() async throws(APIError) -> JobList
    /// Returns one job's state and progress.
    func job(_ job: JobID) async throws(APIError) -> JobStatus
    /// Returns why a job is not moving, or that it is.
    func explain(_ job: JobID) async throws(APIError) -> Diagnosis
    /// Returns what happened to a job after the event `after` (0: from the start), oldest first.
    func events(of job: JobID, after: Int64) async throws(APIError) -> EventList
    /// Returns shards of a job in the order of the dataset.
    ///
    /// - Parameters:
    ///   - job: The job.
    ///   - state: Only those in this state; nil for all.
    ///   - ordinal: Only those with a larger one; nil from the start, else `ShardList.next`.
    /// - Returns: The first of them.
    /// - Throws: The refusal.
    func shards(
        of job: JobID,
        in state: ShardState?,
        after ordinal: Int?
    ) async throws(APIError) -> ShardList
    /// Stops leasing out shards of the job; those in flight may finish.
    func pause(_ job: JobID) async throws(APIError) -> JobStatus
    /// Takes back a pause.
    func resume(_ job: JobID) async throws(APIError) -> JobStatus
    /// Ends the job; nothing of it is committed after the answer.
    func cancel(_ job: JobID) async throws(APIError) -> JobStatus
    /// Tries a failed job again; what is committed stays.
    func retry(_ job: JobID) async throws(APIError) -> JobStatus

    /// Returns every worker, in the order they came.
    func workers() async throws(APIError) -> WorkerList
    /// Lets a worker keep its leases but gives it no more.
    func pauseWorker(_ worker: WorkerID) async throws(APIError) -> Acknowledgement
    /// Takes back a worker's pause.
    func resumeWorker(_ worker: WorkerID) async throws(APIError) -> Acknowledgement
    /// Makes a worker finish what it holds and leave.
    func drainWorker(_ worker: WorkerID) async throws(APIError) -> Acknowledgement

    /// Makes a worker process known, or known again.
    func register(_ registration: WorkerRegistration) async throws(APIError) -> RegistrationReply
    /// Reports the selftest of a suspect worker, and returns what it shall do.
    func report(_ selftest: SelftestReport) async throws(APIError) -> SelftestReply
    /// Returns shards to work on, waiting for some if it must.
    func lease(_ request: LeaseRequest) async throws(APIError) -> LeaseReply
    /// Prolongs a worker's leases and returns what it shall do.
    ///
    /// Blocks its thread instead of suspending: it is called from a thread of its own, so that
    /// work that fills every core cannot delay it.
    func heartbeat(_ heartbeat: Heartbeat) throws(APIError) -> HeartbeatReply
    /// Commits a shard; the answer comes after the commit is on the disk.
    func complete(_ completion: Completion) async throws(APIError) -> CompletionReply
    /// Reports that a worker survived a probe; the shard goes on to its next worker.
    func clear(_ request: ClearRequest) async throws(APIError) -> Acknowledgement
    /// Reports that an attempt failed.
    func fail(_ report: FailureReport) async throws(APIError) -> Acknowledgement
    /// Gives a shard back without blame.
    func release(_ request: ReleaseRequest) async throws(APIError) -> Acknowledgement
}
