/// Names a job: a number that the coordinator assigns, counted from 1 and never used twice.
package struct JobID: RawRepresentable, Hashable, Comparable, Codable, Sendable,
    LosslessStringConvertible
{
    package let rawValue: Int64

    package init(rawValue: Int64) {
        self.rawValue = rawValue
    }

    /// Reads the decimal form that paths and command lines use; nil for anything else.
    package init?(_ description: String) {
        guard let rawValue = Int64(description), rawValue > 0, String(rawValue) == description
        else { return nil }
        self.init(rawValue: rawValue)
    }

    package var description: String { String(rawValue) }

    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// Names a shard in one coordinator, across all of its jobs.
///
/// A shard's place in its dataset is its ordinal, not this number.
package struct ShardID: RawRepresentable, Hashable, Comparable, Codable, Sendable,
    CustomStringConvertible
{
    package let rawValue: Int64

    package init(rawValue: Int64) {
        self.rawValue = rawValue
    }

    package var description: String { String(rawValue) }

    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// Names one worker process, not a machine: a worker that starts again takes a new name.
///
/// The worker draws it at random, so that registering twice after a lost answer is harmless.
/// 1 to 64 characters out of `A–Z a–z 0–9 . _ -`, not `.` or `..`, which no path can carry.
package struct WorkerID: RawRepresentable, Hashable, Codable, Sendable, LosslessStringConvertible {
    package let rawValue: String

    package init?(rawValue: String) {
        guard
            (1...Limits.workerNameBytes).contains(rawValue.utf8.count),
            rawValue.utf8.allSatisfy(Self.isAllowed),
            rawValue != ".", rawValue != ".."
        else { return nil }
        self.rawValue = rawValue
    }

    package init?(_ description: String) {
        self.init(rawValue: description)
    }

    /// Draws a new name: 32 hexadecimal digits.
    package static func random(using generator: inout some RandomNumberGenerator) -> WorkerID {
        let halves = [generator.next(), generator.next()].map { (half: UInt64) in
            let digits = String(half, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }
        guard let worker = WorkerID(rawValue: halves.joined()) else {
            preconditionFailure("hexadecimal digits are allowed in a worker's name")
        }
        return worker
    }

    package var description: String { rawValue }

    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "-"):
            true
        default:
            false
        }
    }
}

/// The number that tells the holder of a lease from everyone who held the shard before.
///
/// It only ever grows, also when the coordinator's database is restored from a backup: then the
/// incarnation rises, and no fence handed out before is current again. (The idea is Lamport's
/// fencing token; see Kleppmann, "How to do distributed locking", 2016.)
package struct Fence: Hashable, Comparable, Codable, Sendable {
    /// Counts the lives of the database, from 1.
    package let incarnation: UInt32
    /// Counts the leases of one shard, from 1; 0 means that the shard was never leased.
    package let counter: UInt32

    package init(incarnation: UInt32, counter: UInt32) {
        self.incarnation = incarnation
        self.counter = counter
    }

    package static func < (a: Self, b: Self) -> Bool {
        (a.incarnation, a.counter) < (b.incarnation, b.counter)
    }
}

/// Names one lease, which is one attempt at one shard.
///
/// In paths and JSON it is text: `shard.incarnation.counter`, such as `17.1.2`.
package struct LeaseID: Hashable, Sendable, LosslessStringConvertible {
    package let shard: ShardID
    package let fence: Fence

    package init(shard: ShardID, fence: Fence) {
        self.shard = shard
        self.fence = fence
    }

    /// Reads the text form; nil for anything else.
    package init?(_ description: String) {
        let parts = description.split(separator: ".", omittingEmptySubsequences: false)
        guard
            parts.count == 3,
            let shard = Int64(parts[0]), shard > 0,
            let incarnation = UInt32(parts[1]),
            let counter = UInt32(parts[2])
        else { return nil }
        self.init(
            shard: ShardID(rawValue: shard),
            fence: Fence(incarnation: incarnation, counter: counter)
        )
        guard self.description == description else { return nil }
    }

    package var description: String { "\(shard).\(fence.incarnation).\(fence.counter)" }
}

extension LeaseID: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let lease = LeaseID(try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(
                in: container,
                debugDescription: "A lease is written shard.incarnation.counter."
            )
        }
        self = lease
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
