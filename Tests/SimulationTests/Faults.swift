import TestSupport

/// The kinds of faults that a schedule may have.
///
/// Each seed takes some of them, for faults hide one another (Groce and others, "Swarm testing",
/// ISSTA 2012).
struct Faults: OptionSet {
    let rawValue: Int

    // The network.

    /// A message does not arrive.
    static let lostRequests = Faults(rawValue: 1 << 0)
    /// A message arrives, its answer does not.
    static let lostAnswers = Faults(rawValue: 1 << 1)
    /// A message arrives twice.
    static let duplicates = Faults(rawValue: 1 << 2)
    /// A message arrives much later and after others, when its sender has given it up.
    static let delays = Faults(rawValue: 1 << 3)
    /// Some workers cannot reach the coordinator for minutes, or its answers do not reach them.
    static let partitions = Faults(rawValue: 1 << 4)

    // The coordinator.

    /// It is closed and opened again.
    static let restarts = Faults(rawValue: 1 << 5)
    /// It is killed between any two of its writes to the disk.
    static let kills = Faults(rawValue: 1 << 6)
    /// Its machine loses power between any two of its writes: what was not synchronised is kept,
    /// lost, or torn.
    static let powerCuts = Faults(rawValue: 1 << 7)
    /// Its disk is full for a while.
    static let fullDisks = Faults(rawValue: 1 << 8)
    /// An old backup of its queue is restored.
    static let restores = Faults(rawValue: 1 << 9)
    /// Its clock jumps forward.
    static let clockJumps = Faults(rawValue: 1 << 10)

    // The workers.

    /// A worker dies, and another takes its place.
    static let deaths = Faults(rawValue: 1 << 11)
    /// A worker is taken away, and says so before.
    static let preemptions = Faults(rawValue: 1 << 12)
    /// A worker stands still for minutes and then goes on as if nothing had happened.
    static let stalls = Faults(rawValue: 1 << 13)
    /// A worker does nothing any more on what it holds, but sends heartbeats.
    static let hangs = Faults(rawValue: 1 << 14)
    /// Some workers take ten times as long as the rest.
    static let slowness = Faults(rawValue: 1 << 15)
    /// A worker cannot read its source or write its output.
    static let storageFailures = Faults(rawValue: 1 << 16)
    /// No worker can read a source or write an output for some minutes.
    static let outages = Faults(rawValue: 1 << 17)
    /// A worker finds its output wrong.
    static let wrongOutputs = Faults(rawValue: 1 << 18)
    /// A worker completes a shard whose output is not in its place.
    static let missingOutputs = Faults(rawValue: 1 << 19)
    /// A worker miscounts its samples, or names a lease that it does not hold.
    static let lies = Faults(rawValue: 1 << 20)
    /// A worker makes other bytes than the rest, though right ones; its selftest shows it.
    static let oddities = Faults(rawValue: 1 << 21)

    // The users.

    /// A job is paused and resumed.
    static let pauses = Faults(rawValue: 1 << 22)
    /// The second job is cancelled.
    static let cancels = Faults(rawValue: 1 << 23)

    /// Each kind, or not, by the toss of a coin.
    static func random(using generator: inout SeededGenerator) -> Faults {
        Faults(rawValue: .random(in: 0..<1 << 24, using: &generator))
    }
}
