import Foundation
import Testing

struct SimulationTests {
    /// Each seed is a schedule of some hundred steps; a failure names its seed, which replays it.
    @Test(arguments: UInt64(1)...12)
    func everyScheduleEndsWithEverySampleOnce(seed: UInt64) async throws {
        let url = FileManager.default.temporaryDirectory
            .appending(path: "flowpack-simulation-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: url) }
        var simulation = try await Simulation(
            seed: seed,
            folder: url.path,
            workers: 2 + Int(seed % 5)
        )
        try await simulation.run(steps: 250, checkEvery: 5)
    }
}
