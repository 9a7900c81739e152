import JobProtocol
import Synchronization

/// Requests that a client may make now: a bucket that fills steadily, and that each request takes
/// one from (token bucket, after Turner, "New Directions in Communications", IEEE Communications
/// Magazine 24(10), 1986).
package struct RequestBucket {
    /// Seconds in which an empty bucket becomes full.
    private static let secondsToFill = 10.0

    private let perSecond: Double
    private var content: Double
    private var filledAt: ContinuousClock.Instant

    /// A full bucket.
    package init(perSecond: Int, now: ContinuousClock.Instant) {
        self.perSecond = Double(perSecond)
        content = self.perSecond * Self.secondsToFill
        filledAt = now
    }

    /// Takes a request out of the bucket.
    ///
    /// - Returns: Nil if there was one; else the seconds until there is, rounded up.
    package mutating func take(now: ContinuousClock.Instant) -> Int? {
        let seconds = (now - filledAt) / .seconds(1)
        content = min(perSecond * Self.secondsToFill, content + seconds * perSecond)
        filledAt = now
        guard content >= 1 else { return Int(((1 - content) / perSecond).rounded(.up)) }
        content -= 1
        return nil
    }
}

/// The buckets of the tokens that have a limit.
final class RequestRates: Sendable {
    private let buckets = Mutex<[String: RequestBucket]>([:])

    /// Counts a request with a token.
    ///
    /// - Returns: Nil if it may be made; else the seconds after which to try again.
    func take(_ holder: Tokens.Holder) -> Int? {
        guard let perSecond = holder.limits.requestsPerSecond else { return nil }
        let now = ContinuousClock.now
        return buckets.withLock { buckets in
            buckets[holder.id, default: RequestBucket(perSecond: perSecond, now: now)]
                .take(now: now)
        }
    }
}
