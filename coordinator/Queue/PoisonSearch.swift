import JobProtocol

/// The search, by halves, for the samples of a shard that no worker survives.
///
/// Parts of the shard are tried on their own, in *probes* that make no output. A part whose worker is
/// lost is halved, down to single samples. In the end the shard is done as a whole, with the samples
/// found kept as they are: its bytes depend on which samples these are, not on how they were found.
package struct PoisonSearch: Equatable, Codable, Sendable {
    /// Parts of the shard's samples that remain to be tried, the next one first.
    private var parts: [Range<Int>]
    /// Workers lost on a first part of one sample.
    private var losses = 0
    /// How often the shard was searched.
    private var rounds = 1
    /// Samples that are to be kept as they are, ascending.
    package private(set) var found: [Int] = []

    /// Begins the first search of a shard.
    package init(samples: Int) {
        parts = Self.halves(of: 0..<samples)
    }

    /// The samples to try next; nil when the shard is to be done as a whole.
    package var probe: Range<Int>? { parts.first }

    /// Notes that a worker survived the probe.
    package mutating func clear() {
        goOn()
    }

    /// Notes that a worker was lost on the probe; on a single sample it takes several.
    package mutating func lose() {
        let part = parts[0]
        guard part.count == 1 else {
            parts.replaceSubrange(0..<1, with: Self.halves(of: part))
            return
        }
        losses += 1
        guard losses == Limits.suspectLosses else { return }
        found = (found + part).sorted()
        goOn()
    }

    private mutating func goOn() {
        parts.removeFirst()
        losses = 0
    }

    /// Begins again, because workers are lost on the whole after all; after several searches every
    /// sample counts as found.
    ///
    /// - Returns: False when that was so already.
    package mutating func restart(samples: Int) -> Bool {
        guard found.count < samples else { return false }
        rounds += 1
        if rounds > Limits.searchRounds {
            found = Array(0..<samples)
        } else {
            parts = Self.halves(of: 0..<samples)
        }
        return true
    }

    private static func halves(of part: Range<Int>) -> [Range<Int>] {
        guard part.count > 1 else { return [part] }
        let middle = part.lowerBound + part.count / 2
        return [part.lowerBound..<middle, middle..<part.upperBound]
    }
}
