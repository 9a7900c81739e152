import JobProtocol

/// What a shard holds, in numbers.
package struct ShardSummary: Equatable, Sendable {
    /// A sample that its owner should look at.
    package struct Problem: Equatable, Sendable {
        package let name: String
        package let reason: String
    }

    /// All samples.
    package var samples = 0
    /// Samples in mode flow.
    package var flowSamples = 0
    /// Samples in mode stored.
    package var storedSamples = 0
    /// Samples in mode missing.
    package var missingSamples = 0
    /// Of all source files.
    package var sourceBytes = 0
    /// Of the source files in mode flow.
    package var flowSourceBytes = 0
    /// Channel values (pixels × 3) in mode flow.
    package var flowDimensions = 0
    /// Of the payloads of all flow blocks.
    package var flowBytes = 0
    /// Why samples are not in mode flow, and how many for each reason; problems count as "damaged",
    /// what comes after many different reasons as "other".
    package var storedReasons: [String: Int] = [:]
    /// In the order of the samples.
    package var problems: [Problem] = []

    package init() {}

    /// Counts what an open shard holds.
    package init(_ reader: ShardReader) {
        for block in reader.blocks where block.kind == .flow { flowBytes += block.payloadBytes }
        for sample in reader.samples { count(sample) }
    }

    mutating func count(_ record: SampleRecord) {
        samples += 1
        sourceBytes += record.sourceBytes
        switch record.mode {
        case .flow:
            flowSamples += 1
            flowSourceBytes += record.sourceBytes
            flowDimensions += 3 * record.width * record.height
        case .stored:
            storedSamples += 1
        case .missing:
            missingSamples += 1
        }
        if record.mode != .flow {
            count(reason: record.problem == nil ? record.reason : "damaged")
        }
        if let problem = record.problem {
            problems.append(Problem(name: record.name, reason: problem))
        }
    }

    private mutating func count(reason: String) {
        let isNew = storedReasons[reason] == nil
        let isFull = storedReasons.count >= Limits.storedReasons - 1
        storedReasons[isNew && isFull ? "other" : reason, default: 0] += 1
    }
}
