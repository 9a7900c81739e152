import Archive
import Foundation
import JobProtocol
import Kernels
import Testing
import Worker

@Suite(.timeLimit(.minutes(5)))
struct JobRunTests {
    private let place: Workplace
    private let coordinator = FakeCoordinator()
    private let clock = ManualClock()
    private let keeper: LeaseKeeper

    init() throws {
        place = try Workplace()
        keeper = LeaseKeeper(
            api: coordinator,
            worker: testWorker,
            heartbeatSeconds: 15,
            logger: silent,
            now: { [clock] in clock.seconds }
        )
    }

    private func run(
        _ lease: Lease,
        models: ModelStore = Workplace.models,
        threads: Int = 2
    ) async throws -> Completion {
        let outcome = try await outcome(lease, models: models, threads: threads)
        guard case .completed(let completion) = outcome else {
            throw JobRunError(.lost, "a shard is completed")
        }
        return completion
    }

    private func outcome(
        _ lease: Lease,
        models: ModelStore = Workplace.models,
        threads: Int = 2
    ) async throws -> JobRun.Outcome {
        keeper.add(lease)
        return try await JobRun(
            lease: lease,
            models: models,
            keeper: keeper,
            plane: FolderPlane(lease),
            threads: threads
        ).run()
    }

    private func reader(_ completion: Completion, ordinal: Int = 0) throws -> ShardReader {
        let path = DatasetLayout.shardFile(ordinal: ordinal, sha256: completion.sha256)
        return try ShardReader(try place.destination.bytes(path))
    }

    @Test func aShardHoldsEverySampleInOrder() async throws {
        try place.source.write(smoothPPM(width: 24, height: 16, seed: 1), "a.ppm")
        try place.source.write(Array("cat\n".utf8), "labels/a.txt")
        try place.source.write(smoothPPM(width: 24, height: 16, seed: 2), "z.ppm")
        let names = ["a.ppm", "labels/a.txt", "z.ppm"]

        let completion = try await run(place.lease(names))

        let shard = try reader(completion)
        #expect(shard.samples.map(\.name) == names)
        #expect(shard.samples.map(\.mode) == [.flow, .stored, .flow])
        #expect(completion.problems == [])
        #expect(completion.totals.samples == 3)
        #expect(completion.totals.flowSamples == 2)
        #expect(completion.totals.storedSamples == 1)
        #expect(completion.totals.flowDimensions == 2 * 3 * 24 * 16)
        #expect(completion.totals.flowBytes == completion.bytes - 4)
        #expect(place.destination.files().count == 2)
    }

    @Test func aProbeLeavesNothingBehind() async throws {
        try place.source.write(smoothPPM(width: 24, height: 16, seed: 1), "a.ppm")
        var probe = place.lease(["a.ppm"])
        probe.purpose = .probe

        let outcome = try await outcome(probe)

        guard case .cleared(let request) = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(request.lease == probe.lease)
        #expect(place.destination.files() == [DatasetLayout.modelFile(id: place.modelID)])
    }

    @Test func aSampleThatWorkersWereLostOnIsKeptUnseen() async throws {
        let image = smoothPPM(width: 24, height: 16, seed: 1)
        for name in ["a.ppm", "b.ppm", "c.ppm"] { try place.source.write(image, name) }
        var lease = place.lease(["a.ppm", "b.ppm", "c.ppm"])
        lease.verbatim = [1]

        let completion = try await run(lease)

        let shard = try reader(completion)
        #expect(shard.samples.map(\.mode) == [.flow, .stored, .flow])
        #expect(shard.samples[1].sourceBytes == image.count)
        #expect(
            completion.problems
                == [SampleProblem(name: "b.ppm", reason: "workers were lost on it")]
        )
    }

    @Test func theBytesDoNotDependOnThreadsOrInstructionSet() async throws {
        for seed in 1...4 as ClosedRange<UInt64> {
            let size = seed % 2 == 0 ? 16 : 24
            try place.source.write(
                smoothPPM(width: size, height: 16, seed: seed),
                "\(seed).ppm"
            )
        }
        let names = (1...4).map { "\($0).ppm" }
        let expected = try await run(place.lease(names)).sha256

        #expect(try await run(place.lease(names), threads: 1).sha256 == expected)
        for isa in InstructionSet.supported where isa != .reference && isa != .best {
            let models = ModelStore(instructionSet: isa)
            #expect(try await run(place.lease(names), models: models).sha256 == expected, "\(isa)")
        }
    }

    @Test func anUnreadableFileIsMissingAndNamed() async throws {
        try place.source.write(smoothPPM(width: 16, height: 16, seed: 1), "a.ppm")

        let completion = try await run(place.lease(["a.ppm", "gone.ppm"]))

        #expect(completion.problems.map(\.name) == ["gone.ppm"])
        #expect(completion.totals.samples == 2)
        #expect(try reader(completion).samples.map(\.mode) == [.flow, .missing])
    }

    @Test func aDamagedImageIsStoredAndNamed() async throws {
        let damaged = Array(smoothPPM(width: 16, height: 16, seed: 1).dropLast(5))
        try place.source.write(damaged, "a.ppm")

        let completion = try await run(place.lease(["a.ppm"]))

        #expect(completion.problems.map(\.name) == ["a.ppm"])
        #expect(completion.totals.storedSamples == 1)
        #expect(completion.totals.flowBytes == 0)
    }

    @Test(arguments: [true, false])
    func anEmptyOrAbsentSourceIsNoDatasetOfMissingFiles(isAbsent: Bool) async throws {
        if isAbsent { try FileManager.default.removeItem(atPath: place.source.path) }

        let error = await #expect(throws: JobRunError.self) {
            try await run(place.lease(["a.ppm"]))
        }

        #expect(error?.reason == .failed(.transient))
    }

    @Test func anUnknownModelFailsTheJob() async throws {
        try place.source.write([1], "a")

        let error = await #expect(throws: JobRunError.self) {
            try await run(place.lease(["a"], modelID: String(repeating: "0", count: 64)))
        }

        #expect(error?.reason == .failed(.config))
    }

    @Test func aModelFileWithOtherContentIsRefused() async throws {
        try place.source.write([1], "a")
        let other = place.modelID.prefix(16) + String(repeating: "0", count: 48)

        let error = await #expect(throws: JobRunError.self) {
            try await run(place.lease(["a"], modelID: String(other)))
        }

        #expect(error?.reason == .failed(.config))
    }

    @Test func nothingIsPlacedForALostLease() async throws {
        try place.source.write([1], "a")
        let lease = place.lease(["a"])
        coordinator.with { $0.cancelled = [lease.lease] }
        keeper.add(lease)
        keeper.beat()

        let error = await #expect(throws: JobRunError.self) {
            try await JobRun(
                lease: lease,
                models: Workplace.models,
                keeper: keeper,
                plane: FolderPlane(lease),
                threads: 1
            ).run()
        }

        #expect(error?.reason == .lost)
        #expect(place.destination.files() == [DatasetLayout.modelFile(id: place.modelID)])
    }

    @Test func aDestinationThatCannotBeWrittenIsTransient() async throws {
        try place.source.write([1], "a")
        try place.destination.write([1], DatasetLayout.shardFolder)

        let error = await #expect(throws: JobRunError.self) { try await run(place.lease(["a"])) }

        #expect(error?.reason == .failed(.transient))
        #expect(error?.message.contains(place.destination.path) == true)
    }
}
