/// A shard as it stands.
package struct ShardStatus: Equatable, Codable, Sendable {
    /// Its place in the dataset, from 0.
    package var ordinal: Int
    package var state: ShardState
    package var samples: Int
    package var sourceBytes: Int64
    /// Size of the shard file, once it is committed.
    package var outputBytes: Int64?
    /// Attempts whose worker reported a failure.
    package var failures: Int
    /// Attempts whose worker was lost, got stuck or made a wrong output, since the last search.
    package var losses: Int
    /// Workers that hold it: one, or two when the first is late.
    package var workers: [WorkerID]
    /// The last failure that was reported, for people.
    package var message: String?

    package init(
        ordinal: Int,
        state: ShardState,
        samples: Int,
        sourceBytes: Int64,
        outputBytes: Int64?,
        failures: Int,
        losses: Int,
        workers: [WorkerID],
        message: String?
    ) {
        self.ordinal = ordinal
        self.state = state
        self.samples = samples
        self.sourceBytes = sourceBytes
        self.outputBytes = outputBytes
        self.failures = failures
        self.losses = losses
        self.workers = workers
        self.message = message
    }
}

/// Some shards of a job in the order of the dataset, at most `Limits.shardsPerReply`.
package struct ShardList: Equatable, Codable, Sendable {
    package var shards: [ShardStatus]
    /// Ask for the shards after this ordinal to go on; nil at the end.
    ///
    /// A list may be empty before.
    package var next: Int?

    package init(shards: [ShardStatus], next: Int?) {
        self.shards = shards
        self.next = next
    }
}
