import Archive
import Foundation
import JobProtocol
import Synchronization
import Testing
import Worker

/// A coordinator's bytes out of a folder, some samples at a time.
private final class FakeBlobs: BlobAPI {
    private let folder: FolderPlane
    private let batch: Int
    private let refusal: APIError?
    let requests = Mutex<[Int]>([])
    let placed = Mutex<[String: [UInt8]]>([:])

    init(_ lease: Lease, batch: Int = 2, refusal: APIError? = nil) {
        folder = FolderPlane(lease)
        self.batch = batch
        self.refusal = refusal
        count = lease.samples.count
        paths = lease.samples.map { "\(lease.source)/\($0.name)" }
    }

    private let count: Int
    private let paths: [String]

    func samples(of lease: LeaseID, from index: Int) throws(APIError) -> [SampleFrame] {
        requests.withLock { $0.append(index) }
        if let refusal { throw refusal }
        return (index..<min(index + batch, count)).map { number in
            do {
                return .file(try folder.read(number))
            } catch {
                return .failure(.init(path: paths[number], code: ENOENT))
            }
        }
    }

    func blob(_ sha256: String, for lease: LeaseID) throws(APIError) -> [UInt8] {
        if let refusal { throw refusal }
        do {
            return try folder.model()
        } catch {
            throw .unintelligible(error.message)
        }
    }

    func put(_ bytes: [UInt8], sha256: String, for lease: LeaseID) throws(APIError) {
        if let refusal { throw refusal }
        placed.withLock { $0[sha256] = bytes }
    }

    func urls(for upload: UploadRequest) throws(APIError) -> UploadReply {
        throw .unintelligible("not part of this test")
    }
}

@Suite(.timeLimit(.minutes(5)))
struct DataPlaneTests {
    private let place: Workplace
    /// Nobody confirms leases here, so no time passes, however slow the machine.
    private let keeper = LeaseKeeper(
        api: FakeCoordinator(),
        worker: testWorker,
        heartbeatSeconds: 15,
        logger: silent,
        now: { 0 }
    )

    init() throws {
        place = try Workplace()
    }

    private func run(_ lease: Lease, _ plane: any DataPlane) async throws -> Completion {
        keeper.add(lease)
        let outcome = try await JobRun(
            lease: lease,
            models: Workplace.models,
            keeper: keeper,
            plane: plane,
            threads: 2
        ).run()
        guard case .completed(let completion) = outcome else {
            throw JobRunError(.lost, "a shard is completed")
        }
        return completion
    }

    /// A lease on images, a side file, a file that is missing and one that is damaged.
    private func lease(counter: UInt32 = 1) throws -> Lease {
        var names: [String] = []
        for seed in 1...5 as ClosedRange<UInt64> {
            names.append("\(seed).ppm")
            try place.source.write(smoothPPM(width: 24, height: 16, seed: seed), "\(seed).ppm")
        }
        try place.source.write(Array("cat\n".utf8), "labels/1.txt")
        try place.source.write(
            Array(smoothPPM(width: 16, height: 16, seed: 9).dropLast(5)),
            "damaged.ppm"
        )
        return place.lease(names + ["labels/1.txt", "gone.ppm", "damaged.ppm"], counter: counter)
    }

    @Test(arguments: [1, 2, 3, 100])
    func theBytesAreTheSameOverEveryWay(batch: Int) async throws {
        let lease = try lease()
        let expected = try await run(lease, FolderPlane(lease))
        let blobs = FakeBlobs(lease, batch: batch)

        let found = try await run(lease, CoordinatorPlane(lease, api: blobs))

        #expect(found.sha256 == expected.sha256)
        #expect(found.problems == expected.problems)
        #expect(found.problems.map(\.name) == ["gone.ppm", "damaged.ppm"])
        let path = DatasetLayout.shardFile(ordinal: 0, sha256: expected.sha256)
        #expect(blobs.placed.withLock { $0[found.sha256] } == (try place.destination.bytes(path)))
        // Each sample came once.
        #expect(blobs.requests.withLock(\.self) == Array(stride(from: 0, to: 8, by: batch)))
    }

    @Test func aBrokenWayIsNoMissingSample() async throws {
        // Not even on a lease on which every unreadable file counts as missing.
        let lease = try lease(counter: 9)
        let blobs = FakeBlobs(lease, refusal: .unintelligible("a broken cable"))

        let error = await #expect(throws: JobRunError.self) {
            try await run(lease, CoordinatorPlane(lease, api: blobs))
        }

        #expect(error?.reason == .failed(.transient))
        #expect(error?.message.contains("a broken cable") == true)
    }

    @Test func aFencedWorkerStopsInsteadOfFailing() async throws {
        let lease = try lease()
        let problem = Problem(.fenced, "Lost.", next: "Stop.")
        let blobs = FakeBlobs(lease, refusal: .refused(problem))
        _ = try await Workplace.models.model(id: lease.modelID, from: FolderPlane(lease))

        let error = await #expect(throws: JobRunError.self) {
            try await run(lease, CoordinatorPlane(lease, api: blobs))
        }

        #expect(error?.reason == .lost)
    }

    @Test func foldersAreVisibleWhereSourceAndModelAre() throws {
        let lease = try lease()
        #expect(FolderPlane(lease).isVisible)
        var elsewhere = lease
        elsewhere.source += "/elsewhere"
        #expect(!FolderPlane(elsewhere).isVisible)
        elsewhere = lease
        elsewhere.destination += "/elsewhere"
        #expect(!FolderPlane(elsewhere).isVisible)
    }
}
