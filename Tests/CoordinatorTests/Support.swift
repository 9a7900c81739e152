import Coordinator
import Foundation
import GRDB
import HummingbirdTesting
import JobProtocol
import Logging
import Testing

/// Runs a test in a folder of its own, which is removed afterwards.
func withTemporaryFolder<Value>(
    _ body: (_ path: String) async throws -> Value
) async throws -> Value {
    let url = FileManager.default.temporaryDirectory
        .appending(path: "flowpack-coordinator-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: url) }
    return try await body(url.path)
}

/// Writes a file, with the folders above it.
func write(_ text: String, to path: String) throws {
    let url = URL(filePath: path)
    try FileManager.default.createDirectory(
        at: url.deletingLastPathComponent(),
        withIntermediateDirectories: true
    )
    try Data(text.utf8).write(to: url)
}

/// Flips bits in a page in the middle of a file.
func damageHalf(of path: String) throws {
    var file = try Data(contentsOf: URL(filePath: path))
    for index in file.count / 2..<file.count / 2 + 4096 { file[index] ^= 0x10 }
    try file.write(to: URL(filePath: path))
}

/// A logger that says nothing.
let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

extension LocalCoordinator {
    /// Runs a test with a client of the coordinator's HTTP surface, without sockets.
    func withClient(
        tokens: Tokens? = nil,
        _ body: @Sendable (any TestClientProtocol) async throws -> Void
    ) async throws {
        let server = try Server.make(
            coordinator: self,
            listen: try #require(ListenAddress("127.0.0.1:0")),
            tokens: tokens,
            logger: silent
        )
        try await server.test(.router, body)
    }
}

func digest(_ character: Character) -> String {
    String(repeating: character, count: 64)
}

/// A moment of the tests' clock, in seconds after its start.
func at(_ seconds: Double) -> Timestamp {
    Timestamp(milliseconds: 1_700_000_000_000 + Int64(seconds * 1000))
}

func worker(_ name: String) throws -> WorkerID {
    try #require(WorkerID(name))
}

func registration(_ name: String) throws -> WorkerRegistration {
    WorkerRegistration(
        worker: try worker(name),
        version: "test",
        host: "host",
        device: "cpu",
        instructionSet: "reference",
        slots: 2
    )
}

func submission(
    destination: String = "/out",
    modelID: String = digest("d"),
    priority: Int = 0,
    maxWorkers: Int? = nil,
    key: String? = nil
) -> SubmitRequest {
    SubmitRequest(
        source: "/in",
        destination: destination,
        modelID: modelID,
        priority: priority,
        maxWorkers: maxWorkers,
        idempotencyKey: key
    )
}

func samples(_ range: Range<Int>) -> [ShardSample] {
    range.map { ShardSample(name: "\($0).png", bytes: 10) }
}

func completion(
    of lease: LeaseID,
    sha256: String = digest("a"),
    samples: Int = 2,
    problems: [SampleProblem] = []
) -> Completion {
    Completion(
        lease: lease,
        sha256: sha256,
        bytes: 5,
        totals: ShardTotals(
            samples: samples,
            flowSamples: samples,
            storedSamples: 0,
            sourceBytes: Int64(samples) * 10,
            flowDimensions: 300,
            flowBytes: 4
        ),
        problems: problems,
        seconds: 1
    )
}

extension JobQueue {
    /// Submits a job and gives it shards of two samples each, with the scan finished.
    func makeJob(
        _ request: SubmitRequest = submission(),
        shards: Int,
        now: Timestamp = at(0)
    ) async throws -> JobID {
        let reply = try await perform(.submit(request, obstacle: nil), now: now)
        guard case .submitted(let submitted) = reply else { throw TestError.wrongReply }
        for index in 0..<shards {
            try await perform(
                .appendShard(
                    submitted.job,
                    samples: samples(2 * index..<2 * index + 2),
                    skipped: []
                ),
                now: now
            )
        }
        try await perform(.finishScan(submitted.job, skipped: []), now: now)
        return submitted.job
    }

    func lease(_ name: String, _ shards: Int, now: Timestamp) async throws -> [LeaseID] {
        let reply = try await perform(.lease(try worker(name), shards: shards), now: now)
        guard case .leased(let leases, _) = reply else { throw TestError.wrongReply }
        return leases
    }

    /// Completes a lease and returns the outcome, or the code of the refusal.
    func complete(
        _ completion: Completion,
        mismatch: String? = nil,
        now: Timestamp
    ) async -> Answer {
        do throws(APIError) {
            let reply = try await perform(.complete(completion, mismatch: mismatch), now: now)
            guard case .completed(let outcome) = reply else { return .code(.other) }
            return .outcome(outcome)
        } catch {
            return .code(error.code ?? .other)
        }
    }

    func beat(
        _ name: String,
        _ leases: [LeaseID],
        steps: Int = 0,
        now: Timestamp
    ) async throws -> HeartbeatReply {
        let heartbeat = Heartbeat(
            worker: try worker(name),
            leases: leases.map {
                LeaseProgress(lease: $0, samples: 1, sourceBytes: 10, steps: steps)
            }
        )
        let reply = try await perform(.heartbeat(heartbeat), now: now)
        guard case .heartbeat(let directives) = reply else { throw TestError.wrongReply }
        return directives
    }

    /// Reports a selftest of one check and returns what the worker shall do.
    func selftest(_ name: String, isOK: Bool, now: Timestamp) async throws -> Directive {
        let check = SelftestCheck(name: "kernels", isOK: isOK, detail: "numbers")
        let report = SelftestReport(worker: try worker(name), checks: [check])
        let reply = try await perform(.reportSelftest(report), now: now)
        guard case .directed(let directive) = reply else { throw TestError.wrongReply }
        return directive
    }

    func state(of job: JobID) async throws -> JobState {
        try await status(of: job, now: at(0)).state
    }

    /// Returns what the counters say that a count of the rows does not say.
    func miscounts() async throws -> [String] {
        try await database.read(Self.miscounts)
    }
}

enum Answer: Equatable {
    case outcome(CompletionReply.Outcome)
    case code(Problem.Code)
}

enum TestError: Error {
    case wrongReply
}
