import TestSupport

/// The kinds of faults that a schedule may have.
///
/// Each seed takes some of them, for faults hide one another (Groce and others, "Swarm testing",
/// ISSTA 2012).
struct Faults: OptionSet {
    let rawValue: Int

    /// A message does not arrive.
    static let lostRequests = Faults(rawValue: 1 << 0)
    /// A message arrives, its answer does not.
    static let lostAnswers = Faults(rawValue: 1 << 1)
    /// A message arrives twice.
    static let duplicates = Faults(rawValue: 1 << 2)
    /// A message arrives much later, when its sender has given it up.
    static let delays = Faults(rawValue: 1 << 3)
    /// A worker dies, and another takes its place.
    static let deaths = Faults(rawValue: 1 << 4)
    /// A worker is taken away, and may say so before.
    static let preemptions = Faults(rawValue: 1 << 5)
    /// The coordinator is closed and opened again.
    static let restarts = Faults(rawValue: 1 << 6)
    /// The coordinator's clock jumps forward.
    static let clockJumps = Faults(rawValue: 1 << 7)
    /// A worker cannot read its source or write its output.
    static let storageFailures = Faults(rawValue: 1 << 8)
    /// A worker finds its output wrong.
    static let wrongOutputs = Faults(rawValue: 1 << 9)
    /// A worker completes a shard whose output is not in its place.
    static let missingOutputs = Faults(rawValue: 1 << 10)
    /// The user pauses and resumes.
    static let pauses = Faults(rawValue: 1 << 11)
    /// The user cancels the second job.
    static let cancels = Faults(rawValue: 1 << 12)

    /// A worker stands still for minutes and then goes on as if nothing had happened.
    static let stalls = Faults(rawValue: 1 << 13)
    /// A worker does nothing any more on what it holds, but sends heartbeats.
    static let hangs = Faults(rawValue: 1 << 14)
    /// A worker makes other bytes than the rest, though right ones; its selftest shows it.
    static let oddities = Faults(rawValue: 1 << 15)

    /// Each kind, or not, by the toss of a coin.
    static func random(using generator: inout SeededGenerator) -> Faults {
        Faults(rawValue: .random(in: 0..<1 << 16, using: &generator))
    }
}
