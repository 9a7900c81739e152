import Coordinator
import Foundation
import GRDB
import JobProtocol
import TestSupport
import Testing

/// A queue and some workers under faults that a seed decides: the real state machine and the real
/// SQL on a file, with a clock and a network of our own.
///
/// Messages are dropped, delivered twice, delivered late, and answers are lost; workers die in the
/// middle of everything, and always of one sample; the coordinator is closed and opened again. The
/// invariants are checked on
/// the way; then the faults stop and the job has to end.
struct Simulation {
    /// Source samples, and samples in each full shard.
    static let samples = (0..<37).map { ShardSample(name: "\($0).png", bytes: Int64(10 + $0)) }
    static let samplesPerShard = 3
    /// A worker that looks at this sample dies.
    static let poison = samples[16]

    /// A worker process as it sees itself.
    private struct Worker {
        var id: WorkerID
        var isRegistered = false
        var leases: [LeaseID] = []
        var beatAt = Timestamp(milliseconds: 0)
    }

    /// What comes back over the network.
    private enum Answer {
        case reply(Reply)
        case refused(Problem.Code)
        case lost
    }

    private let folder: String
    private var generator: SeededGenerator
    private var queue: JobQueue?
    private var now = Timestamp(milliseconds: 0)
    private var hasFaults = true
    private let job = JobID(rawValue: 1)
    private var workers: [Worker] = []
    /// Messages that the network still holds.
    private var late: [Command] = []
    /// Samples that are in shards.
    private var planned = 0
    private var isScanFinished = false
    /// Commits whose answer reached the worker.
    private var acknowledged: [ShardID: String] = [:]

    init(seed: UInt64, folder: String, workers count: Int) async throws {
        self.folder = folder
        generator = SeededGenerator(seed: seed)
        workers = (0..<count).map { _ in Worker(id: .random(using: &generator)) }
        queue = try JobQueue(folder: folder)
        try await perform(
            .submit(
                SubmitRequest(source: "/in", destination: "/out", modelID: Self.digest(of: [])),
                obstacle: nil
            )
        )
    }

    /// Returns the digest of the shard that holds these samples, in place of an encoder.
    static func digest(of samples: [ShardSample], verbatim: [Int] = []) -> String {
        // FNV-1a.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in "\(samples.map(\.name)) \(verbatim)".utf8 {
            hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3
        }
        let digits = String(hash, radix: 16)
        return String(repeating: "0", count: 64 - digits.count) + digits
    }

    /// Runs steps with faults, then until the job has ended without them.
    ///
    /// The invariants are looked at every so many steps; 1 finds the step at fault.
    mutating func run(steps: Int, checkEvery: Int) async throws {
        for index in 1...steps {
            try await step()
            if index % checkEvery == 0 {
                try await checkInvariants()
            }
        }
        hasFaults = false
        try await restart()
        for _ in 0..<2000 {
            if try await state() == .sealing { break }
            try await step()
        }
        try await checkInvariants()
        try await checkEnd()
    }

    // MARK: Steps

    private mutating func step() async throws {
        now = Timestamp(milliseconds: now.milliseconds + .random(in: 0...8000, using: &generator))
        for index in workers.indices where now.seconds(since: workers[index].beatAt) >= 15 {
            try await beat(index)
        }
        switch Int.random(in: 0..<100, using: &generator) {
        case 0..<10: try await plan()
        case 10..<20: try await perform(.reap)
        case 20..<24 where hasFaults: try await restart()
        case 24..<28 where hasFaults: die(Int.random(in: 0..<workers.count, using: &generator))
        case 28..<36 where !late.isEmpty:
            let index = Int.random(in: 0..<late.count, using: &generator)
            try await perform(late.remove(at: index))
        case 36..<38 where hasFaults: try await perform(.pause(job))
        case 38..<46: try await perform(.resume(job))
        default:
            try await act(Int.random(in: 0..<workers.count, using: &generator))
        }
    }

    private mutating func plan() async throws {
        guard !isScanFinished else { return }
        guard planned < Self.samples.count else {
            try await perform(.finishScan(job, skipped: []))
            isScanFinished = true
            return
        }
        let end = min(planned + Self.samplesPerShard, Self.samples.count)
        try await perform(
            .appendShard(job, samples: Array(Self.samples[planned..<end]), skipped: [])
        )
        planned = end
    }

    private mutating func restart() async throws {
        queue = nil
        queue = try JobQueue(folder: folder)
        try await perform(.start(workersSurvived: true))
    }

    /// A worker dies and another process takes its place.
    private mutating func die(_ index: Int) {
        workers[index] = Worker(id: .random(using: &generator))
    }

    private mutating func act(_ index: Int) async throws {
        let worker = workers[index]
        guard worker.isRegistered else {
            let registration = WorkerRegistration(
                worker: worker.id,
                version: "simulated",
                host: "host",
                device: "cpu",
                instructionSet: "reference",
                slots: 2
            )
            if case .reply = try await send(.register(registration)) {
                workers[index].isRegistered = true
            }
            return
        }
        let lease = worker.leases.randomElement(using: &generator)
        switch Int.random(in: 0..<10, using: &generator) {
        case 0..<8 where lease != nil:
            if let lease { try await work(on: lease, index) }
        case 8 where lease != nil && hasFaults:
            if let lease { try await giveUp(lease, index) }
        default:
            guard worker.leases.count < 2 else { return }
            let answer = try await send(.lease(worker.id, shards: 2 - worker.leases.count))
            switch answer {
            case .reply(.leased(let leases, _)): workers[index].leases += leases
            case .refused(.unknownWorker): workers[index].isRegistered = false
            default: break
            }
        }
    }

    private mutating func beat(_ index: Int) async throws {
        guard workers[index].isRegistered else { return }
        workers[index].beatAt = now
        let heartbeat = Heartbeat(
            worker: workers[index].id,
            leases: workers[index].leases.map {
                LeaseProgress(lease: $0, samples: 1, sourceBytes: 1)
            }
        )
        guard case .reply(.heartbeat(let reply)) = try await send(.heartbeat(heartbeat)) else {
            return
        }
        let kept = reply.leases.filter { $0.directive == .continue }.map(\.lease)
        workers[index].leases = kept
        if reply.directive == .reRegister {
            workers[index].isRegistered = false
        }
    }

    private mutating func work(on id: LeaseID, _ index: Int) async throws {
        guard let lease = try await queue?.describe([id]).first else { return }
        let isDeadly = lease.samples.enumerated().contains {
            $0.element == Self.poison && !lease.verbatim.contains($0.offset)
        }
        switch lease.purpose {
        case _ where isDeadly: die(index)
        case .shard: try await complete(lease, index)
        case .probe:
            switch try await send(.clear(ClearRequest(lease: id))) {
            case .lost: break
            case .reply, .refused: workers[index].leases.removeAll { $0 == id }
            }
        }
    }

    private mutating func complete(_ lease: Lease, _ index: Int) async throws {
        let samples = lease.samples
        let sha256 = Self.digest(of: samples, verbatim: lease.verbatim)
        let totals = ShardTotals(
            samples: samples.count,
            flowSamples: samples.count,
            storedSamples: 0,
            sourceBytes: samples.reduce(0) { $0 + $1.bytes },
            flowDimensions: 1,
            flowBytes: 1
        )
        let answer = try await send(
            .complete(
                Completion(
                    lease: lease.lease,
                    sha256: sha256,
                    bytes: 9,
                    totals: totals,
                    problems: [],
                    seconds: 1
                ),
                mismatch: nil
            )
        )
        switch answer {
        case .reply(.completed):
            acknowledged[lease.lease.shard] = sha256
            workers[index].leases.removeAll { $0 == lease.lease }
        case .refused(let code):
            #expect(code == .fenced, "\(code)")
            workers[index].leases.removeAll { $0 == lease.lease }
        case .reply, .lost: break
        }
    }

    private mutating func giveUp(_ lease: LeaseID, _ index: Int) async throws {
        // Failures are rarer than eight for a shard, or the job would fail, and rightly.
        let command: Command =
            lease.fence.counter < 6 && Bool.random(using: &generator)
            ? .fail(FailureReport(lease: lease, failureClass: .transient, message: "simulated"))
            : .release(ReleaseRequest(lease: lease, reason: "simulated"))
        switch try await send(command) {
        case .lost: break
        case .reply, .refused: workers[index].leases.removeAll { $0 == lease }
        }
    }

    // MARK: The network

    /// Sends a worker's message, through whatever the network does to it.
    private mutating func send(_ command: Command) async throws -> Answer {
        let fault = hasFaults ? Int.random(in: 0..<100, using: &generator) : 100
        switch fault {
        case 0..<10: return .lost
        case 10..<20: late.append(command)
        case 20..<30: try await perform(command)
        default: break
        }
        let answer = try await perform(command)
        if case 30..<40 = fault { return .lost }
        return answer
    }

    @discardableResult
    private mutating func perform(_ command: Command) async throws -> Answer {
        guard let queue else { preconditionFailure("the queue is open between steps") }
        do throws(APIError) {
            return .reply(
                try await queue.perform(command, now: now, random: generator.next())
            )
        } catch {
            let code = try #require(error.code)
            #expect(code != .internalError, "\(error.message)")
            return .refused(code)
        }
    }

    // MARK: Invariants

    private func read<Value: Sendable>(
        _ body: @escaping @Sendable (Database) throws -> Value
    ) async throws -> Value {
        guard let queue else { preconditionFailure("the queue is open between steps") }
        return try await queue.database.read(body)
    }

    private func state() async throws -> JobState? {
        try await read { db in try String.fetchOne(db, sql: "SELECT state FROM job") }
            .flatMap(JobState.init(rawValue:))
    }

    private func checkInvariants() async throws {
        // The counters are what a count of the rows gives.
        let counted = """
            SELECT state, count(*), sum(samples), sum(source_bytes), sum(ifnull(output_bytes, 0))
            FROM shard GROUP BY state
            """
        let kept = """
            SELECT state, n, samples, source_bytes, output_bytes FROM counter
            WHERE subject = 'shard' AND n > 0
            """
        let attempts = "SELECT state, count(*) FROM attempt GROUP BY state"
        let keptAttempts = "SELECT state, n FROM counter WHERE subject = 'attempt' AND n > 0"
        for (a, b) in [
            (counted, kept), (kept, counted), (attempts, keptAttempts), (keptAttempts, attempts),
        ] {
            let differences = try await read { db in
                try Row.fetchAll(db, sql: "\(a) EXCEPT \(b)").map(\.description)
            }
            #expect(differences == [])
        }

        // One commit for each shard, by the holder of its last fence.
        let wrong = try await read { db in
            try Int.fetchOne(
                db,
                sql: """
                    SELECT count(*) FROM shard WHERE (state = 'committed') <> ((
                        SELECT count(*) FROM attempt WHERE attempt.shard = shard.id
                            AND attempt.state = 'succeeded' AND attempt.fence = shard.fence) = 1)
                    """
            )
        }
        #expect(wrong == 0)

        // A held shard has one open attempt, and no other shard has one.
        let open = try await read { db in
            try Int.fetchOne(
                db,
                sql: """
                    SELECT count(*) FROM shard WHERE (state = 'leased') <> (
                        SELECT count(*) FROM attempt
                        WHERE attempt.shard = shard.id AND attempt.state = 'issued')
                    """
            )
        }
        #expect(open == 0)

        // A commit that was acknowledged stays.
        let committed = try await read { db in
            try Row.fetchAll(db, sql: "SELECT id, sha256 FROM shard WHERE state = 'committed'")
                .reduce(into: [Int64: String]()) { $0[$1["id"]] = $1["sha256"] }
        }
        for (shard, sha256) in acknowledged {
            #expect(committed[shard.rawValue] == sha256)
        }
    }

    /// The job has every sample once, in order, whatever happened on the way.
    private func checkEnd() async throws {
        #expect(try await state() == .sealing)
        let rows = try await read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT ordinal, sha256, search, plan.samples AS plan FROM shard
                    JOIN plan ON plan.shard = shard.id WHERE state = 'committed' ORDER BY ordinal
                    """
            ).map { row -> (ordinal: Int, sha256: String, search: String?, plan: String) in
                (row["ordinal"], row["sha256"], row["search"], row["plan"])
            }
        }
        var found: [ShardSample] = []
        for (index, row) in rows.enumerated() {
            let samples = try Wire.decode([ShardSample].self, from: Array(row.plan.utf8))
            #expect(row.ordinal == index)
            let deadly = samples.indices.filter { samples[$0] == Self.poison }
            let expected = Self.digest(of: samples, verbatim: deadly)
            #expect(row.sha256 == expected, "\(row.ordinal): \(row.search ?? "never searched")")
            found += samples
        }
        #expect(found == Self.samples)
    }
}
