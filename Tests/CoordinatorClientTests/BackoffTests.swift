import HTTPTransport
import TestSupport
import Testing

struct BackoffTests {
    @Test(arguments: [UInt64(1), 2, 3])
    func waitsFillBoundsThatDoubleFromOneSecondToFiveMinutes(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let bounds: [Double] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
        var lowest = bounds
        var highest = bounds.map { _ in 0.0 }

        for _ in 0..<200 {
            var backoff = Backoff()
            for index in bounds.indices {
                let delay = backoff.nextDelaySeconds(using: &generator)
                lowest[index] = min(lowest[index], delay)
                highest[index] = max(highest[index], delay)
            }
        }

        for (index, bound) in bounds.enumerated() {
            #expect(highest[index] <= bound, "seed \(seed)")
            #expect(highest[index] > 0.9 * bound, "seed \(seed)")
            #expect(lowest[index] < 0.1 * bound, "seed \(seed)")
        }
    }

    @Test func theServersRetryAfterIsALowerBoundWithinTheLimit() {
        var generator = SeededGenerator(seed: 4)
        var backoff = Backoff()

        // The first wait is at most one second by itself.
        #expect(backoff.nextDelaySeconds(retryAfterSeconds: 17, using: &generator) == 17)
        #expect(backoff.nextDelaySeconds(retryAfterSeconds: 9_999, using: &generator) == 300)
    }

    @Test func resetStartsAtOneSecondAgain() {
        var generator = SeededGenerator(seed: 5)
        var backoff = Backoff()
        for _ in 0..<5 { _ = backoff.nextDelaySeconds(using: &generator) }

        backoff.reset()

        #expect(backoff.nextDelaySeconds(using: &generator) <= 1)
        #expect(backoff.failures == 1)
    }
}
