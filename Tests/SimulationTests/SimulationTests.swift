import Foundation
import JobProtocol
import Testing

struct SimulationTests {
    /// A failure names its seed; `ops/soak --workers few --seeds 1 --first SEED` repeats it.
    @Test(arguments: UInt64(1)...200)
    func everyPromiseIsKept(seed: UInt64) throws {
        _ = try simulate(seed: seed, workers: 2 + Int(seed % 6), steps: 200)
    }

    /// Many schedules of many workers; the last lines tell what they met, how many they were, and
    /// what was broken.
    @Test(.enabled(if: Soak.isAskedFor, "started by ops/soak"))
    func soak() async throws {
        let soak = try Soak()
        typealias Ended = (seed: UInt64, result: Result<Simulation.Course, any Error>)
        var total = Simulation.Course()
        var violations = 0
        await withTaskGroup(of: Ended.self) { group in
            func collect(_ ended: Ended) {
                switch ended.result {
                case .success(let course): total += course
                case .failure(let error):
                    violations += 1
                    print("seed \(ended.seed): \(error)")
                }
            }
            for (index, seed) in soak.seeds.enumerated() {
                if index >= Soak.tasks, let ended = await group.next() { collect(ended) }
                group.addTask {
                    do {
                        let (workers, steps) = (soak.workers(seed: seed), soak.steps)
                        let course = try simulate(seed: seed, workers: workers, steps: steps)
                        return (seed, .success(course))
                    } catch {
                        return (seed, .failure(error))
                    }
                }
            }
            for await ended in group { collect(ended) }
        }
        let events = JobEvent.Kind.allCases.map { "\($0.rawValue) \(total.events[$0] ?? 0)" }
        print("soak: events: \(events.joined(separator: ", "))")
        print(
            """
            soak: \(soak.seeds.count) schedules, \(Int(total.hours)) virtual hours, \
            \(total.commands) commands, \(total.crashes) crashes, \(total.restores) restores, \
            \(violations) violations
            """
        )
        #expect(violations == 0)
    }
}

/// Runs the schedule of a seed.
///
/// - Returns: How long it went on, and what it met.
private func simulate(seed: UInt64, workers: Int, steps: Int) throws -> Simulation.Course {
    // Only the queue's lock lies in the folder; its database is on the simulated disk.
    let folder = FileManager.default.temporaryDirectory.resolvingSymlinksInPath()
        .appending(path: "flowpack-simulation-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer {
        SimulatedFileSystem.unmount(folder.path)
        try? FileManager.default.removeItem(at: folder)
    }
    var simulation = try Simulation(seed: seed, folder: folder.path, workers: workers)
    return try simulation.run(steps: steps, checkEvery: 50)
}

/// What `ops/soak` asks for.
private struct Soak: Sendable {
    static let tasks = ProcessInfo.processInfo.activeProcessorCount
    private static let environment = ProcessInfo.processInfo.environment
    static let isAskedFor = environment["FLOWPACK_SOAK_SEEDS"] != nil

    let seeds: Range<UInt64>
    private let isSmall: Bool

    init() throws {
        let count = try #require(Self.environment["FLOWPACK_SOAK_SEEDS"].flatMap { UInt64($0) })
        let first = try #require(Self.environment["FLOWPACK_SOAK_FIRST"].flatMap { UInt64($0) })
        seeds = first..<first + count
        isSmall = Self.environment["FLOWPACK_SOAK_WORKERS"] == "few"
    }

    var steps: Int { isSmall ? 200 : 600 }

    func workers(seed: UInt64) -> Int {
        isSmall ? 2 + Int(seed % 6) : 50 + Int(seed % 50)
    }
}
