import Coordinator
import JobProtocol
import TestSupport

// What the coordinator answers, and whether it may.
extension Simulation {
    /// Lets the coordinator perform a command; it looks for outputs itself.
    ///
    /// - Returns: Its answer; `lost` when it crashed before, or its disk is full.
    @discardableResult
    mutating func perform(_ command: Command) throws -> Answer {
        course.commands += 1
        let command = examined(command)
        let expected = try expectedAnswer(to: command)
        let answer: Answer
        do throws(APIError) {
            answer = .reply(try execute(command))
        } catch {
            if disk.isDead {
                try crash()
                try resolve(command)
                return .lost
            }
            if error.code == .unavailable, disk.isFull { return .lost }
            guard let code = error.code, code != .internalError, code != .unavailable else {
                throw Violation(description: error.message)
            }
            answer = .refused(code)
        }
        // The command was answered, but the next one finds nobody.
        if disk.isDead { try crash() }
        try takeEvents()
        try check(answer, to: command, expected)
        return answer
    }

    private mutating func execute(_ command: Command) throws(APIError) -> Reply {
        guard let queue else { preconditionFailure("the queue is open between steps") }
        return try queue.performBlocking(command, now: now, random: generator.next())
    }

    /// Returns a completion with what the coordinator sees of its output.
    private func examined(_ command: Command) -> Command {
        guard case .complete(let completion, _) = command else { return command }
        let mismatch = outputs.contains(completion.sha256) ? nil : "there is no output"
        return .complete(completion, mismatch: mismatch)
    }

    /// Finds out what became of a command that was cut off, where the events do not say it.
    private mutating func resolve(_ command: Command) throws {
        guard case .reportSelftest(let report) = command else { return }
        if try workerState(of: report.worker) == .active { ledger.trust(report.worker) }
    }

    private mutating func takeEvents() throws {
        let events = try events(after: ledger.lastEvent)
        try ledger.take(events)
        for event in events where event.kind == .stuck {
            guard let worker = event.worker, hung.contains(worker) else {
                throw Violation(description: "a worker at work was taken for stuck")
            }
        }
    }

    private mutating func check(
        _ answer: Answer,
        to command: Command,
        _ expected: ExpectedAnswer?
    ) throws {
        if let expected {
            try require(expected.matches(answer), "\(expected) was expected, not \(answer)")
        }
        switch (command, answer) {
        case (.complete(let completion, _), .refused(.nondeterminism)):
            try checkDistrust(after: completion.lease)
        case (.lease(let worker, let asked), .reply(.leased(let leases, let directive))):
            try checkLeases(leases, worker, asked: asked, directive)
        case (.heartbeat(let heartbeat), .reply(.heartbeat(let reply))):
            for lease in reply.leases where lease.directive == .continue {
                try require(
                    holders[lease.lease] ?? heartbeat.worker == heartbeat.worker,
                    "a worker keeps a shard of another one"
                )
            }
        case (.reportSelftest(let report), .reply(.directed(.continue))):
            try require(
                report.checks.allSatisfy(\.isOK) || !ledger.suspects.contains(report.worker),
                "a suspect worker is trusted though its selftest failed"
            )
            ledger.trust(report.worker)
        default: break
        }
    }

    /// Leases are new, go to workers that are trusted, and come from the jobs whose turn it is.
    private mutating func checkLeases(
        _ leases: [LeaseID],
        _ worker: WorkerID,
        asked: Int,
        _ directive: Directive
    ) throws {
        try require(leases.count <= asked, "too many leases")
        for lease in leases {
            try require(holders[lease] == nil, "lease \(lease) was given twice")
            holders[lease] = worker
        }
        self.leases += leases
        try require(
            leases.isEmpty || !ledger.suspects.contains(worker),
            "a suspect worker got a lease"
        )
        guard directive == .continue else { return }
        try turns.serve(try jobs(of: leases), asked: asked, try claims(of: worker))
    }
}

/// The answer that the table in HTTPAPI.md asks for.
enum ExpectedAnswer: CustomStringConvertible {
    case outcome(CompletionReply.Outcome)
    case refusal(Problem.Code)

    /// What a completion meets.
    struct Situation {
        let lease: LeaseID
        /// Samples of the shard.
        let samples: Int
        let shardFence: Fence
        /// Digest of what is committed.
        let committed: String?
        let attempt: AttemptState
        let job: JobState
        let isProbe: Bool
    }

    /// - Parameters:
    ///   - completion: What the worker says.
    ///   - isPlaced: Whether its output is there.
    ///   - situation: Nil when nobody knows the lease.
    init(to completion: Completion, isPlaced: Bool, in situation: Situation?) {
        guard let situation else {
            self = .refusal(.fenced)
            return
        }
        let isOver = [.cancelling, .cancelled, .failed].contains(situation.job)
        let isRight = completion.totals.samples == situation.samples
        self =
            switch situation.committed {
            case completion.sha256? where situation.lease.fence == situation.shardFence:
                .outcome(.replay)
            case completion.sha256?: .outcome(.agreed)
            case .some: .refusal(.nondeterminism)
            case nil where situation.attempt == .cancelled: .refusal(.cancelled)
            case nil where situation.attempt != .issued: .refusal(.fenced)
            case nil where isOver: .refusal(.cancelled)
            case nil where situation.isProbe || !isPlaced || !isRight: .refusal(.outputMismatch)
            case nil: .outcome(.committed)
            }
    }

    var description: String {
        switch self {
        case .outcome(let outcome): outcome.rawValue
        case .refusal(let code): code.rawValue
        }
    }

    func matches(_ answer: Simulation.Answer) -> Bool {
        switch (self, answer) {
        case (.outcome(let expected), .reply(.completed(let outcome))): outcome == expected
        case (.refusal(let expected), .refused(let code)): code == expected
        default: false
        }
    }
}
