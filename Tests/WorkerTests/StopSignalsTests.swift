import Foundation
import Testing
import Worker

@Suite(.serialized) struct StopSignalsTests {
    private struct OtherPartEnded: Error {}

    @Test func anErrorAfterASignalIsACancellation() async {
        await #expect(throws: CancellationError.self) {
            try await withStopSignals {
                kill(getpid(), SIGINT)
                while !Task.isCancelled { try? await Task.sleep(for: .milliseconds(1)) }
                throw OtherPartEnded()
            }
        }
    }

    @Test func anErrorWithoutASignalIsItself() async {
        await #expect(throws: OtherPartEnded.self) {
            try await withStopSignals { throw OtherPartEnded() }
        }
    }
}
