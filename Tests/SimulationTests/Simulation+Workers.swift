import Coordinator
import JobProtocol
import TestSupport

// What workers do.
extension Simulation {
    mutating func makeWorker() -> Worker {
        var worker = Worker(id: .random(using: &generator))
        // A worker that sends few heartbeats loses a shard with one of them.
        worker.beatSeconds = .random(in: 15...40, using: &generator)
        worker.isOdd = isOn(.oddities) && chance(20)
        worker.isSlow = isOn(.slowness) && chance(20)
        return worker
    }

    /// A worker dies and another process takes its place.
    mutating func die(_ index: Int) {
        workers[index] = makeWorker()
    }

    mutating func hang(_ index: Int) {
        guard !workers[index].leases.isEmpty, workers[index].hang == nil else { return }
        workers[index].hang = (Int(now.milliseconds), nil)
        hung.insert(workers[index].id)
    }

    /// A worker gives its shards back and says goodbye.
    mutating func leave(_ index: Int) throws {
        for lease in workers[index].leases {
            try perform(.release(ReleaseRequest(lease: lease.lease, reason: "preempted")))
        }
        try perform(.heartbeat(Heartbeat(worker: workers[index].id, isLeaving: true)))
    }

    /// A worker leaves, which costs no shard a try, and another takes its place.
    mutating func preempt(_ index: Int) throws {
        let before = try tries()
        try leave(index)
        try require(tries() == before, "a preemption cost a try")
        die(index)
    }

    mutating func act(_ index: Int) throws {
        guard workers[index].stalledUntil == nil, workers[index].hang == nil else { return }
        guard workers[index].isRegistered else { return try register(index) }
        if workers[index].isSlow, !chance(10) { return }
        let lease = workers[index].leases.randomElement(using: &generator)
        // Eight failures of one shard would fail the job, and rightly.
        let mayFail = (lease?.lease.fence.counter ?? 0) < 6
        switch (Int.random(in: 0..<10, using: &generator), lease) {
        case (_, let lease?) where now < outageEnd && mayFail: try fail(lease, .transient, index)
        case (0..<7, let lease?): try work(on: lease, index)
        case (7, let lease?) where isOn(.storageFailures) && mayFail:
            try fail(lease, .transient, index)
        case (8, let lease?) where isOn(.wrongOutputs) && chance(10):
            try fail(lease, .integrity, index)
        default: try askForWork(index)
        }
    }

    private mutating func register(_ index: Int) throws {
        let registration = WorkerRegistration(
            worker: workers[index].id,
            version: "simulated",
            host: "host \(index % 4)",
            device: "cpu",
            instructionSet: "reference",
            slots: 2
        )
        if case .reply = try send(.register(registration), index) {
            workers[index].isRegistered = true
        }
    }

    private mutating func askForWork(_ index: Int) throws {
        let free = 2 - workers[index].leases.count
        guard free > 0 else { return }
        switch try send(.lease(workers[index].id, shards: free), index) {
        case .reply(.leased(let leases, let directive)):
            workers[index].leases += try described(leases)
            if directive == .selftest { try test(index) }
        case .refused(.unknownWorker): workers[index].isRegistered = false
        default: break
        }
    }

    mutating func beat(_ index: Int) throws {
        guard workers[index].isRegistered, workers[index].stalledUntil == nil else { return }
        workers[index].beatAt = now
        let steps = workers[index].hang?.steps ?? Int(now.milliseconds)
        var named = workers[index].leases.map(\.lease)
        let stranger = isOn(.lies) && chance(10) ? leases.randomElement(using: &generator) : nil
        if let stranger, holders[stranger] != workers[index].id { named.append(stranger) }
        let heartbeat = Heartbeat(
            worker: workers[index].id,
            leases: named.map {
                LeaseProgress(lease: $0, samples: 1, sourceBytes: 1, steps: steps)
            }
        )
        guard case .reply(.heartbeat(let reply)) = try send(.heartbeat(heartbeat), index) else {
            return
        }
        let kept = Set(reply.leases.filter { $0.directive == .continue }.map(\.lease))
        workers[index].leases.removeAll { !kept.contains($0.lease) }
        try checkHang(index)
        switch reply.directive {
        case .reRegister: workers[index].isRegistered = false
        case .selftest: try test(index)
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
        try require(
            now.seconds(since: since) < Double(Limits.stuckSeconds),
            "a worker that does nothing keeps its shards"
        )
    }

    /// A worker runs the selftest; where it fails, the operator sets up another one.
    private mutating func test(_ index: Int) throws {
        let isOK = !workers[index].isOdd
        let check = SelftestCheck(name: "kernels", isOK: isOK, detail: "simulated")
        let report = SelftestReport(worker: workers[index].id, checks: [check])
        if case .reply = try send(.reportSelftest(report), index), !isOK { die(index) }
    }

    private mutating func work(on lease: Lease, _ index: Int) throws {
        let isDeadly = lease.samples.enumerated().contains {
            Self.isDeadly($0.element) && !lease.verbatim.contains($0.offset)
        }
        switch lease.purpose {
        case _ where isDeadly: die(index)
        case .shard: try complete(lease, index)
        case .probe: try report(.clear(ClearRequest(lease: lease.lease)), lease, index)
        }
    }

    private mutating func complete(_ lease: Lease, _ index: Int) throws {
        var sha256 = Self.digest(of: lease.samples, verbatim: lease.verbatim)
        if workers[index].isOdd {
            sha256 = String(sha256.reversed())
            oddOutputs.insert(sha256)
        }
        if !isOn(.missingOutputs) || !chance(10) { outputs.insert(sha256) }
        let miscount = isOn(.lies) && chance(10) ? 1 : 0
        let totals = ShardTotals(
            samples: lease.samples.count + miscount,
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
        try report(.complete(completion, mismatch: nil), lease, index)
    }

    private mutating func fail(
        _ lease: Lease,
        _ failureClass: FailureClass,
        _ index: Int
    ) throws {
        let report = FailureReport(
            lease: lease.lease,
            failureClass: failureClass,
            message: "simulated"
        )
        try self.report(.fail(report), lease, index)
    }

    /// Sends what became of a lease, and forgets the lease if there is an answer.
    private mutating func report(_ command: Command, _ lease: Lease, _ index: Int) throws {
        if case .lost = try send(command, index) { return }
        workers[index].leases.removeAll { $0.lease == lease.lease }
    }

    // MARK: The network

    /// Sends a worker's message, through whatever the network does to it.
    private mutating func send(_ command: Command, _ index: Int) throws -> Answer {
        if let partition, now < partition.end, index % partition.parts == partition.part {
            if partition.isOneWay { try perform(command) }
            return .lost
        }
        if isOn(.lostRequests), chance(10) { return .lost }
        if isOn(.delays), chance(10) {
            late.append(command)
            return .lost
        }
        if isOn(.duplicates), chance(10) { try perform(command) }
        let answer = try perform(command)
        return isOn(.lostAnswers) && chance(10) ? .lost : answer
    }
}
