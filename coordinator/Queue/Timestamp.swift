/// A moment on the coordinator's clock, in milliseconds since 1970.
///
/// Only the coordinator compares timestamps; workers are told durations.
package struct Timestamp: Hashable, Comparable, Sendable {
    package let milliseconds: Int64

    package init(milliseconds: Int64) {
        self.milliseconds = milliseconds
    }

    package func advanced(bySeconds seconds: Int) -> Timestamp {
        Timestamp(milliseconds: milliseconds + Int64(seconds) * 1000)
    }

    /// Returns the seconds from an earlier moment to this one; negative for a later one.
    package func seconds(since earlier: Timestamp) -> Double {
        Double(milliseconds - earlier.milliseconds) / 1000
    }

    package static func < (a: Self, b: Self) -> Bool { a.milliseconds < b.milliseconds }
}

/// A clock that starts from the wall clock and then runs on at the pace of the monotonic one.
///
/// Setting the machine's time while the coordinator runs therefore expires no lease.
package struct SteadyClock: Sendable {
    private let start: Timestamp
    private let monotonicStart: ContinuousClock.Instant

    /// - Parameter wall: The wall clock's time now.
    package init(wall: Timestamp) {
        start = wall
        monotonicStart = .now
    }

    package var now: Timestamp {
        let (seconds, attoseconds) = (ContinuousClock.now - monotonicStart).components
        return Timestamp(
            milliseconds: start.milliseconds + seconds * 1000 + attoseconds / 1_000_000_000_000_000
        )
    }
}
