package import JobProtocol

/// Cuts a scan into shards: the plan that alone decides every byte of the dataset.
///
/// A shard is full with the sample that brings it to the job's number of bytes, or to
/// `Limits.shardSamples`.
package struct ShardPlanner: Sendable {
    /// A part of the plan.
    package struct Part: Equatable, Sendable {
        /// Samples of the next shard; empty at the end of the source and only there.
        package var samples: [ShardSample] = []
        /// Entries that are in no shard and were met before the last of these samples.
        package var skipped: [SampleProblem] = []
    }

    private var scan: SourceScan
    private let shardBytes: Int64
    /// Entries that were met after the last sample that was returned.
    private var skipped: [SampleProblem] = []

    package init(scan: SourceScan, shardBytes: Int64) {
        self.scan = scan
        self.shardBytes = shardBytes
    }

    /// Returns the next shard; at the end of the source, a part without samples.
    ///
    /// A scan that starts again after the last sample of a part meets what the part has not told.
    package mutating func next() throws(SourceError) -> Part {
        var part = Part()
        var bytes: Int64 = 0
        while let entry = try scan.next() {
            switch entry {
            case .skipped(let problem):
                skipped.append(problem)
            case .sample(let sample):
                part.samples.append(sample)
                part.skipped += skipped
                skipped = []
                bytes += sample.bytes
                if bytes >= shardBytes || part.samples.count == Limits.shardSamples {
                    return part
                }
            }
        }
        if part.samples.isEmpty {
            part.skipped = skipped
        }
        return part
    }
}
