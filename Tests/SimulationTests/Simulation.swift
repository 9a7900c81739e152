import Coordinator
import Foundation
import GRDB
import JobProtocol
import TestSupport

/// A queue, two jobs and some workers under faults that a seed decides: the real state machine and
/// the real SQL on a file, with a clock, a network and a store of outputs of our own.
///
/// Workers die of one sample of the first job, always. The invariants are checked on the way; then
/// the faults stop and both jobs have to end.
struct Simulation {
    /// A promise that was broken.
    struct Violation: Error, CustomStringConvertible {
        let description: String
    }

    /// What a schedule came to.
    struct Course {
        var hours = 0.0
        /// How often each kind of event occurred.
        var events: [JobEvent.Kind: Int] = [:]

        static func += (a: inout Course, b: Course) {
            a.hours += b.hours
            a.events.merge(b.events, uniquingKeysWith: +)
        }
    }

    static let samplesPerShard = 3
    static let jobs = [JobID(rawValue: 1), JobID(rawValue: 2)]

    /// A worker process as it sees itself.
    struct Worker {
        var id: WorkerID
        var isRegistered = false
        var leases: [LeaseID] = []
        var beatAt = Timestamp(milliseconds: 0)
        /// Set while it stands still.
        var stalledUntil: Timestamp?
        /// Steps that it told when it began to do nothing, and the first answer after that; set until
        /// it has lost what it held.
        var hang: (steps: Int, knownSince: Timestamp?)?
        /// Whether it makes other bytes than the rest.
        var isOdd = false
    }

    /// The scan of a job's source.
    struct Source {
        let samples: [ShardSample]
        /// Samples that are in shards.
        var planned = 0
        var isScanFinished = false
    }

    /// What comes back over the network.
    enum Answer {
        case reply(Reply)
        case refused(Problem.Code)
        case lost
    }

    let folder: String
    var generator: SeededGenerator
    var faults: Faults
    var queue: JobQueue?
    private(set) var now = Timestamp(milliseconds: 0)
    var sources: [JobID: Source] = [:]
    var workers: [Worker] = []
    /// Workers that ever did nothing on what they held.
    var hung: Set<WorkerID> = []
    /// Messages that the network still holds.
    var late: [Command] = []
    /// Digests of the outputs that are in their places.
    var outputs: Set<String> = []
    /// Digests that odd workers made.
    var oddOutputs: Set<String> = []
    /// Commits whose answer reached the worker.
    var acknowledged: [ShardID: String] = [:]
    /// Shards of the second job that were committed when its cancelling was answered.
    var committedAtCancel: Int?

    init(seed: UInt64, folder: String, workers count: Int) async throws {
        self.folder = folder
        generator = SeededGenerator(seed: seed)
        faults = .random(using: &generator)
        workers = (0..<count).map { _ in Worker(id: .random(using: &generator)) }
        queue = try JobQueue(folder: folder)
        for job in Self.jobs {
            let samples = (0..<(19 + 3 * count)).map {
                ShardSample(name: "\(job)/\($0).png", bytes: Int64(10 + $0))
            }
            sources[job] = Source(samples: samples)
            let request = SubmitRequest(
                source: "/in/\(job)",
                destination: "/out/\(job)",
                modelID: Self.digest(of: [], verbatim: []),
                priority: [0, 0, 1].randomElement(using: &generator) ?? 0,
                maxWorkers: [nil, 1, 2].randomElement(using: &generator) ?? nil
            )
            try await perform(.submit(request, obstacle: nil))
        }
    }

    /// Whether a worker that looks at this sample dies.
    static func isDeadly(_ sample: ShardSample) -> Bool { sample.name == "1/16.png" }

    /// Returns the digest of the shard that holds these samples, in place of an encoder.
    static func digest(of samples: [ShardSample], verbatim: [Int]) -> String {
        // FNV-1a.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in "\(samples.map(\.name)) \(verbatim)".utf8 {
            hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3
        }
        let digits = String(hash, radix: 16)
        return String(repeating: "0", count: 64 - digits.count) + digits
    }

    /// Runs steps with faults, then until the jobs have ended without them.
    ///
    /// - Parameters:
    ///   - steps: Steps with faults.
    ///   - checkEvery: Steps from one look at the invariants to the next; 1 finds the step at fault.
    /// - Returns: How long it went on, and what it met.
    /// - Throws: `Violation`.
    mutating func run(steps: Int, checkEvery: Int) async throws -> Course {
        for index in 1...steps {
            try await step()
            if index % checkEvery == 0 { try await checkInvariants() }
        }
        faults = []
        try await restart()
        let deadline = now.advanced(bySeconds: 12 * 3600)
        while try await !haveEnded() {
            guard now < deadline else {
                throw Violation(description: "the jobs do not end: \(try await jobStates())")
            }
            try await step()
        }
        try await checkInvariants()
        try await checkEnd()
        return Course(hours: Double(now.milliseconds) / 3_600_000, events: try await events())
    }

    // MARK: Steps

    private func isOn(_ fault: Faults) -> Bool { faults.contains(fault) }

    private mutating func chance(_ percent: Int) -> Bool {
        Int.random(in: 0..<100, using: &generator) < percent
    }

    private mutating func step() async throws {
        // Every worker acts twice or thrice a minute, however many there are.
        let pause = Int64.random(in: 0...Int64(40_000 / workers.count), using: &generator)
        now = Timestamp(milliseconds: now.milliseconds + pause)
        for index in workers.indices {
            if let end = workers[index].stalledUntil, end <= now {
                // Its next heartbeat is some time away: until then it believes in its leases.
                workers[index].stalledUntil = nil
                workers[index].beatAt = now
            }
            if now.seconds(since: workers[index].beatAt) >= 15 { try await beat(index) }
        }
        switch Int.random(in: 0..<100, using: &generator) {
        case 0..<8: try await plan()
        case 8..<14: try await perform(.reap)
        case 14 where isOn(.restarts): try await restart()
        case 15 where isOn(.deaths): die(Int.random(in: workers.indices, using: &generator))
        case 16 where isOn(.preemptions): try await preempt()
        case 17 where isOn(.clockJumps):
            now = now.advanced(bySeconds: .random(in: 0...1800, using: &generator))
        case 18..<24 where !late.isEmpty:
            try await perform(late.remove(at: .random(in: late.indices, using: &generator)))
        case 24 where isOn(.pauses): try await perform(.pause(randomJob()))
        case 25..<29:
            for job in Self.jobs { try await perform(.resume(job)) }
        case 29 where isOn(.cancels): try await cancel()
        case 30..<34: try await seal()
        case 34 where isOn(.stalls):
            let index = Int.random(in: workers.indices, using: &generator)
            workers[index].stalledUntil = now.advanced(
                bySeconds: .random(in: 30...300, using: &generator)
            )
        case 35 where isOn(.hangs): hang(.random(in: workers.indices, using: &generator))
        default: try await act(.random(in: workers.indices, using: &generator))
        }
    }

    private mutating func randomJob() -> JobID {
        Self.jobs[.random(in: Self.jobs.indices, using: &generator)]
    }

    private mutating func plan() async throws {
        let job = randomJob()
        guard let source = sources[job], !source.isScanFinished else { return }
        guard source.planned < source.samples.count else {
            try await perform(.finishScan(job, skipped: []))
            sources[job]?.isScanFinished = true
            return
        }
        let end = min(source.planned + Self.samplesPerShard, source.samples.count)
        let samples = Array(source.samples[source.planned..<end])
        try await perform(.appendShard(job, samples: samples, skipped: []))
        sources[job]?.planned = end
    }

    private mutating func restart() async throws {
        queue = nil
        queue = try JobQueue(folder: folder)
        try await perform(.start(workersSurvived: true))
        for index in workers.indices { workers[index].hang?.knownSince = nil }
    }

    private mutating func cancel() async throws {
        let job = Self.jobs[1]
        if case .reply = try await perform(.cancel(job)), committedAtCancel == nil {
            committedAtCancel = try await committedShards(of: job)
        }
    }

    private mutating func seal() async throws {
        let job = randomJob()
        if try await jobStates()[job] == .sealing {
            try await perform(.seal(job, datasetDigest: Self.digest(of: [], verbatim: [])))
        }
    }

    /// A worker dies and another process takes its place.
    private mutating func die(_ index: Int) {
        workers[index] = Worker(id: .random(using: &generator))
        workers[index].isOdd = isOn(.oddities) && chance(20)
    }

    private mutating func hang(_ index: Int) {
        guard !workers[index].leases.isEmpty, workers[index].hang == nil else { return }
        workers[index].hang = (Int(now.milliseconds), nil)
        hung.insert(workers[index].id)
    }

    /// A worker gives its shards back, says goodbye, and another takes its place; none of this costs
    /// a shard a try.
    private mutating func preempt() async throws {
        let index = Int.random(in: workers.indices, using: &generator)
        let before = try await tries()
        for lease in workers[index].leases {
            try await perform(.release(ReleaseRequest(lease: lease, reason: "preempted")))
        }
        try await perform(.heartbeat(Heartbeat(worker: workers[index].id, isLeaving: true)))
        guard try await tries() == before else {
            throw Violation(description: "a preemption cost a try")
        }
        die(index)
    }

    // MARK: Workers

    private mutating func act(_ index: Int) async throws {
        guard workers[index].stalledUntil == nil, workers[index].hang == nil else { return }
        guard workers[index].isRegistered else { return try await register(index) }
        let lease = workers[index].leases.randomElement(using: &generator)
        switch (Int.random(in: 0..<10, using: &generator), lease) {
        case (0..<7, let lease?): try await work(on: lease, index)
        case (7, let lease?) where isOn(.storageFailures) && lease.fence.counter < 6:
            // Eight for one shard would fail the job, and rightly.
            try await fail(lease, .transient, index)
        case (8, let lease?) where isOn(.wrongOutputs) && chance(10):
            try await fail(lease, .integrity, index)
        default: try await askForWork(index)
        }
    }

    private mutating func register(_ index: Int) async throws {
        let registration = WorkerRegistration(
            worker: workers[index].id,
            version: "simulated",
            host: "host \(index % 4)",
            device: "cpu",
            instructionSet: "reference",
            slots: 2
        )
        if case .reply = try await send(.register(registration)) {
            workers[index].isRegistered = true
        }
    }

    private mutating func askForWork(_ index: Int) async throws {
        let free = 2 - workers[index].leases.count
        guard free > 0 else { return }
        switch try await send(.lease(workers[index].id, shards: free)) {
        case .reply(.leased(let leases, let directive)):
            guard leases.count <= free else { throw Violation(description: "too many leases") }
            workers[index].leases += leases
            if directive == .selftest { try await test(index) }
        case .refused(.unknownWorker): workers[index].isRegistered = false
        default: break
        }
    }

    private mutating func beat(_ index: Int) async throws {
        guard workers[index].isRegistered, workers[index].stalledUntil == nil else { return }
        workers[index].beatAt = now
        let steps = workers[index].hang?.steps ?? Int(now.milliseconds)
        let heartbeat = Heartbeat(
            worker: workers[index].id,
            leases: workers[index].leases.map {
                LeaseProgress(lease: $0, samples: 1, sourceBytes: 1, steps: steps)
            }
        )
        guard case .reply(.heartbeat(let reply)) = try await send(.heartbeat(heartbeat)) else {
            return
        }
        workers[index].leases = reply.leases.filter { $0.directive == .continue }.map(\.lease)
        try checkHang(index)
        switch reply.directive {
        case .reRegister: workers[index].isRegistered = false
        case .selftest: try await test(index)
        case .drain where workers[index].leases.isEmpty: die(index)
        default: break
        }
    }

    /// A worker that does nothing keeps no lease for long, and goes on once it has none.
    private mutating func checkHang(_ index: Int) throws {
        guard let hang = workers[index].hang else { return }
        guard !workers[index].leases.isEmpty else {
            workers[index].hang = nil
            return
        }
        let since = hang.knownSince ?? now
        workers[index].hang?.knownSince = since
        guard now.seconds(since: since) < Double(Limits.stuckSeconds) else {
            throw Violation(description: "a worker that does nothing keeps its shards")
        }
    }

    /// A worker runs the selftest; where it fails, the operator sets up another one.
    private mutating func test(_ index: Int) async throws {
        let isOK = !workers[index].isOdd
        let check = SelftestCheck(name: "kernels", isOK: isOK, detail: "simulated")
        let report = SelftestReport(worker: workers[index].id, checks: [check])
        if case .reply = try await send(.reportSelftest(report)), !isOK { die(index) }
    }

    private mutating func work(on id: LeaseID, _ index: Int) async throws {
        guard let lease = try await queue?.describe([id]).first else { return }
        let isDeadly = lease.samples.enumerated().contains {
            Self.isDeadly($0.element) && !lease.verbatim.contains($0.offset)
        }
        switch lease.purpose {
        case _ where isDeadly: die(index)
        case .shard: try await complete(lease, index)
        case .probe: try await report(.clear(ClearRequest(lease: id)), id, index)
        }
    }

    private mutating func complete(_ lease: Lease, _ index: Int) async throws {
        var sha256 = Self.digest(of: lease.samples, verbatim: lease.verbatim)
        if workers[index].isOdd {
            sha256 = String(sha256.reversed())
            oddOutputs.insert(sha256)
        }
        if !isOn(.missingOutputs) || !chance(10) { outputs.insert(sha256) }
        let totals = ShardTotals(
            samples: lease.samples.count,
            flowSamples: lease.samples.count - lease.verbatim.count,
            storedSamples: lease.verbatim.count,
            sourceBytes: lease.samples.reduce(0) { $0 + $1.bytes },
            flowDimensions: 1,
            flowBytes: 1
        )
        let completion = Completion(
            lease: lease.lease,
            sha256: sha256,
            bytes: 9,
            totals: totals,
            problems: lease.verbatim.map {
                SampleProblem(name: lease.samples[$0].name, reason: "deadly")
            },
            seconds: 1
        )
        let answer = try await report(.complete(completion, mismatch: nil), lease.lease, index)
        switch answer {
        case .reply: acknowledged[lease.lease.shard] = sha256
        case .refused(.fenced), .refused(.cancelled), .refused(.outputMismatch), .lost: break
        case .refused(.nondeterminism): try await checkDistrust(after: lease.lease)
        case .refused(let code): throw Violation(description: "a completion is answered \(code)")
        }
    }

    private mutating func fail(
        _ lease: LeaseID,
        _ failureClass: FailureClass,
        _ index: Int
    ) async throws {
        let report = FailureReport(
            lease: lease,
            failureClass: failureClass,
            message: "simulated"
        )
        try await self.report(.fail(report), lease, index)
    }

    /// Sends what became of a lease, and forgets the lease if there is an answer.
    @discardableResult
    private mutating func report(
        _ command: Command,
        _ lease: LeaseID,
        _ index: Int
    ) async throws -> Answer {
        let answer = try await send(command)
        if case .lost = answer { return answer }
        workers[index].leases.removeAll { $0 == lease }
        return answer
    }

    // MARK: The network

    /// Sends a worker's message, through whatever the network does to it.
    private mutating func send(_ command: Command) async throws -> Answer {
        if isOn(.lostRequests), chance(10) { return .lost }
        if isOn(.delays), chance(10) {
            late.append(command)
            return .lost
        }
        if isOn(.duplicates), chance(10) { try await perform(command) }
        let answer = try await perform(command)
        return isOn(.lostAnswers) && chance(10) ? .lost : answer
    }

    /// Lets the coordinator perform a command; it looks for outputs itself.
    @discardableResult
    private mutating func perform(_ command: Command) async throws -> Answer {
        guard let queue else { preconditionFailure("the queue is open between steps") }
        var command = command
        var holders: [LeaseID] = []
        var isSuspect = false
        if case .complete(let completion, _) = command {
            let mismatch = outputs.contains(completion.sha256) ? nil : "there is no output"
            command = .complete(completion, mismatch: mismatch)
            holders = try await self.holders(of: completion.lease.shard)
        }
        if case .lease(let worker, _) = command {
            isSuspect = try await workerState(of: worker) == .suspect
        }
        let reply: Reply
        do throws(APIError) {
            reply = try await queue.perform(command, now: now, random: generator.next())
        } catch {
            guard let code = error.code, code != .internalError else {
                throw Violation(description: error.message)
            }
            return .refused(code)
        }
        if case .complete(let completion, _) = command, reply == .completed(.committed),
            !holders.contains(completion.lease)
        {
            throw Violation(description: "a stale fence committed: \(completion.lease)")
        }
        if case .lease(let worker, _) = command, case .leased(let leases, _) = reply {
            guard leases.isEmpty || !isSuspect else {
                throw Violation(description: "a suspect worker got a lease")
            }
            try await checkTurns(of: leases, worker)
        }
        return .reply(reply)
    }
}
