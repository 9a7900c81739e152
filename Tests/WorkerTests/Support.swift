import Foundation
import JobProtocol
import Kernels
import Logging
import Synchronization
import TestSupport
import Worker

/// A folder that goes when the test ends.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        path =
            FileManager.default.temporaryDirectory.resolvingSymlinksInPath()
            .appending(path: "flowpack-test-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }

    /// Writes a file, making its folders.
    func write(_ bytes: [UInt8], _ name: String) throws {
        let url = URL(filePath: "\(path)/\(name)")
        try FileManager.default.createDirectory(
            at: url.deletingLastPathComponent(),
            withIntermediateDirectories: true
        )
        try Data(bytes).write(to: url)
    }

    func bytes(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: URL(filePath: "\(path)/\(name)")))
    }

    /// Names of all files below, sorted.
    func files() -> [String] {
        let found = FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? []
        return found.filter { name in
            var isFolder: ObjCBool = false
            return FileManager.default.fileExists(
                atPath: "\(path)/\(name)",
                isDirectory: &isFolder
            ) && !isFolder.boolValue
        }.sorted()
    }
}

/// A clock that moves when the test says so.
final class ManualClock: Sendable {
    private let time = Mutex(1_000.0)

    var seconds: Double { time.withLock(\.self) }

    func advance(seconds: Double) {
        time.withLock { $0 += seconds }
    }
}

/// A coordinator that answers as the test says.
final class FakeCoordinator: CoordinatorAPI {
    struct State {
        var pending: [Lease] = []
        var heartbeats: [Heartbeat] = []
        var completions: [Completion] = []
        var failures: [FailureReport] = []
        var clearances: [ClearRequest] = []
        var releases: [ReleaseRequest] = []
        var registrations = 0
        var selftests: [SelftestReport] = []
        /// Thrown by every call while set.
        var outage: APIError?
        var directive = Directive.continue
        /// What a worker that registers is to do.
        var directiveAtRegistration = Directive.continue
        /// Leases told to stop.
        var cancelled: Set<LeaseID> = []
        /// Answers to `complete`, first come first served; then it commits.
        var refusals: [APIError] = []
        /// Called after each completion, failure or release, outside the lock.
        var afterEnd: (@Sendable () -> Void)?
    }

    private let state = Mutex(State())

    /// Reads or changes what the coordinator does.
    func with<Value>(_ body: (inout sending State) -> sending Value) -> Value {
        state.withLock(body)
    }

    private func enter<Value>(
        _ body: (inout sending State) throws(APIError) -> sending Value
    ) throws(APIError) -> Value {
        try state.withLock { state throws(APIError) in
            if let outage = state.outage { throw outage }
            return try body(&state)
        }
    }

    func register(_ registration: WorkerRegistration) async throws(APIError) -> RegistrationReply {
        try enter { state in
            state.registrations += 1
            state.directive = state.directiveAtRegistration
            return RegistrationReply(leaseSeconds: 60, heartbeatSeconds: 15)
        }
    }

    func report(_ selftest: SelftestReport) async throws(APIError) -> SelftestReply {
        try enter { state in
            state.selftests.append(selftest)
            state.directive = .continue
            return SelftestReply(directive: .continue)
        }
    }

    func lease(_ request: LeaseRequest) async throws(APIError) -> LeaseReply {
        let leases = try enter { state throws(APIError) -> [Lease] in
            guard state.directive != .selftest else { return [] }
            let leases = Array(state.pending.prefix(request.shards))
            state.pending.removeFirst(leases.count)
            return leases
        }
        if leases.isEmpty { await Task.yield() }
        return LeaseReply(leases: leases, isDrained: false, directive: .continue)
    }

    func heartbeat(_ heartbeat: Heartbeat) throws(APIError) -> HeartbeatReply {
        try enter { state in
            state.heartbeats.append(heartbeat)
            return HeartbeatReply(
                directive: state.directive,
                leases: heartbeat.leases.map {
                    LeaseDirective(
                        lease: $0.lease,
                        directive: state.cancelled.contains($0.lease) ? .cancel : .continue
                    )
                },
                leaseSeconds: 60,
                heartbeatSeconds: 15
            )
        }
    }

    func complete(_ completion: Completion) async throws(APIError) -> CompletionReply {
        let refusal = try enter { state throws(APIError) -> APIError? in
            if !state.refusals.isEmpty { return state.refusals.removeFirst() }
            state.completions.append(completion)
            return nil
        }
        if let refusal { throw refusal }
        state.withLock(\.afterEnd)?()
        return CompletionReply(outcome: .committed)
    }

    func fail(_ report: FailureReport) async throws(APIError) -> Acknowledgement {
        let after = try enter { state in
            state.failures.append(report)
            return state.afterEnd
        }
        after?()
        return Acknowledgement()
    }

    func clear(_ request: ClearRequest) async throws(APIError) -> Acknowledgement {
        try enter { $0.clearances.append(request) }
        return Acknowledgement()
    }

    func release(_ request: ReleaseRequest) async throws(APIError) -> Acknowledgement {
        let after = try enter { state in
            state.releases.append(request)
            return state.afterEnd
        }
        after?()
        return Acknowledgement()
    }

    private var unused: APIError { .unintelligible("not part of this test") }

    func submit(_ request: SubmitRequest) async throws(APIError) -> SubmitReply { throw unused }
    func jobs() async throws(APIError) -> JobList { throw unused }
    func job(_ job: JobID) async throws(APIError) -> JobStatus { throw unused }
    func explain(_ job: JobID) async throws(APIError) -> Diagnosis { throw unused }
    func events(of job: JobID, after: Int64) async throws(APIError) -> EventList { throw unused }
    func shards(
        of job: JobID,
        in state: ShardState?,
        after ordinal: Int?
    ) async throws(APIError) -> ShardList { throw unused }
    func pause(_ job: JobID) async throws(APIError) -> JobStatus { throw unused }
    func resume(_ job: JobID) async throws(APIError) -> JobStatus { throw unused }
    func cancel(_ job: JobID) async throws(APIError) -> JobStatus { throw unused }
    func retry(_ job: JobID) async throws(APIError) -> JobStatus { throw unused }
    func workers() async throws(APIError) -> WorkerList { throw unused }
    func pauseWorker(_ worker: WorkerID) async throws(APIError) -> Acknowledgement { throw unused }
    func resumeWorker(_ worker: WorkerID) async throws(APIError) -> Acknowledgement { throw unused }
    func drainWorker(_ worker: WorkerID) async throws(APIError) -> Acknowledgement { throw unused }
}

let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

let testWorker: WorkerID = {
    var generator = SeededGenerator(seed: 1)
    return .random(using: &generator)
}()

func leaseID(_ shard: Int64, counter: UInt32 = 1) -> LeaseID {
    LeaseID(shard: ShardID(rawValue: shard), fence: Fence(incarnation: 1, counter: counter))
}

/// A binary PPM with a smooth picture, so that a model makes it smaller.
func smoothPPM(width: Int, height: Int, seed: UInt64) -> [UInt8] {
    var generator = SeededGenerator(seed: seed)
    let (a, b) = (
        Int.random(in: 1...5, using: &generator), Int.random(in: 1...5, using: &generator)
    )
    var bytes = Array("P6\n\(width) \(height)\n255\n".utf8)
    for y in 0..<height {
        for x in 0..<width {
            for channel in 0..<3 {
                let noise = Int.random(in: 0...2, using: &generator)
                bytes.append(UInt8((40 + a * x + b * y + 10 * channel + noise) & 255))
            }
        }
    }
    return bytes
}

/// A source and a destination with the built-in model.
struct Workplace {
    /// Loaded once for all tests.
    static let models = ModelStore(instructionSet: .best)
    private static let model = Result {
        let path = try ModelStore.path(ofModel: "fast", environment: [:])
        let bytes = try ModelStore.read(path)
        return (id: try models.load(bytes, path: path).id, bytes: bytes)
    }

    let source: TemporaryFolder
    let destination: TemporaryFolder
    let modelID: String

    init() throws {
        source = try TemporaryFolder()
        destination = try TemporaryFolder()
        let model = try Self.model.get()
        modelID = model.id
        try destination.write(model.bytes, DatasetLayout.modelFile(id: model.id))
    }

    /// A lease on files of the source, whether they exist or not.
    func lease(
        _ names: [String],
        shard: Int64 = 1,
        counter: UInt32 = 1,
        modelID: String? = nil
    ) -> Lease {
        Lease(
            lease: leaseID(shard, counter: counter),
            job: JobID(rawValue: 1),
            ordinal: Int(shard) - 1,
            source: source.path,
            destination: destination.path,
            modelID: modelID ?? self.modelID,
            samples: names.map { ShardSample(name: $0, bytes: 1) },
            leaseSeconds: 60
        )
    }
}
