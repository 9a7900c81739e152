/// How long to wait before the next try: full jitter, 1 s · 2ⁿ, at most 5 minutes.
///
/// After "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015): a uniform draw from zero
/// to the bound spreads a fleet's retries best.
package struct Backoff: Sendable {
    /// Bound of the first wait, in seconds.
    package static let baseSeconds = 1.0
    /// Largest bound, in seconds.
    package static let limitSeconds = 300.0

    /// Failures so far.
    package private(set) var failures = 0

    package init() {}

    /// Counts one more failure and returns the wait before the next try, in seconds.
    ///
    /// - Parameters:
    ///   - retryAfterSeconds: What the server asked for; the wait is never shorter than that
    ///     (itself at most ``limitSeconds``).
    ///   - generator: Where the jitter comes from.
    /// - Returns: Seconds, 0 to ``limitSeconds``.
    package mutating func nextDelaySeconds(
        retryAfterSeconds: Double? = nil,
        using generator: inout some RandomNumberGenerator
    ) -> Double {
        var bound = Self.baseSeconds
        for _ in 0..<failures where bound < Self.limitSeconds { bound *= 2 }
        failures += 1
        let jittered = Double.random(in: 0...min(bound, Self.limitSeconds), using: &generator)
        return max(jittered, min(retryAfterSeconds ?? 0, Self.limitSeconds))
    }

    /// Forgets the failures: something succeeded.
    package mutating func reset() {
        failures = 0
    }
}
