import Coordinator
import Foundation
import GRDB
import JobProtocol
import TestSupport

/// A queue, three jobs and some workers under faults that a seed decides: the real state machine,
/// the real SQL and the real SQLite, with a clock, a disk, a network and a store of outputs of our
/// own.
///
/// Workers die of one sample of the first job, always. What every answer must be is checked at once
/// (`Ledger`, `Turns`, `Simulation+Answers`), the rows on the way; then the faults stop, most
/// workers leave, and the jobs have to end.
struct Simulation {
    /// A promise that was broken.
    struct Violation: Error, CustomStringConvertible {
        let description: String
    }

    /// What a schedule came to.
    struct Course {
        var hours = 0.0
        var commands = 0
        /// Kills and power cuts.
        var crashes = 0
        var restores = 0
        /// How often each kind of event occurred.
        var events: [JobEvent.Kind: Int] = [:]

        static func += (a: inout Course, b: Course) {
            a.hours += b.hours
            a.commands += b.commands
            a.crashes += b.crashes
            a.restores += b.restores
            a.events.merge(b.events, uniquingKeysWith: +)
        }
    }

    /// A worker process as it sees itself.
    struct Worker {
        var id: WorkerID
        var isRegistered = false
        var leases: [Lease] = []
        var beatAt = Timestamp(milliseconds: 0)
        /// From one heartbeat to the next.
        var beatSeconds = 15
        /// Set while it stands still.
        var stalledUntil: Timestamp?
        /// Steps that it told when it began to do nothing, and the first answer after that; set
        /// until it has lost what it held.
        var hang: (steps: Int, knownSince: Timestamp?)?
        /// Whether it makes other bytes than the rest.
        var isOdd = false
        var isSlow = false
    }

    /// Workers between which and the coordinator the network is cut, one way or both ways.
    struct Partition {
        let parts: Int
        let part: Int
        let end: Timestamp
        /// Whether messages arrive, and only the answers are lost.
        let isOneWay: Bool
    }

    /// A copy of the queue, and what was known when it was made.
    struct Copy {
        let image: [String: [UInt8]]
        let ledger: Ledger
    }

    /// What comes back over the network.
    enum Answer {
        case reply(Reply)
        case refused(Problem.Code)
        case lost
    }

    static let samplesPerShard = 3
    static let jobs = (1...3).map { JobID(rawValue: $0) }
    /// Workers that stay when the faults stop.
    static let lastWorkers = 6

    let folder: String
    let disk = SimulatedDisk()
    var generator: SeededGenerator
    var faults: Faults
    var queue: JobQueue?
    var now = Timestamp(milliseconds: 0)
    /// Pages of the WAL after which SQLite copies them to the database.
    let checkpointPages: Int
    /// Samples of each job.
    var sources: [JobID: [ShardSample]] = [:]
    var workers: [Worker] = []
    var partition: Partition?
    /// Until when no storage can be reached.
    var outageEnd = Timestamp(milliseconds: 0)
    /// Workers that ever did nothing on what they held.
    var hung: Set<WorkerID> = []
    /// Messages that the network still holds.
    var late: [Command] = []
    /// Digests of the outputs that are in their places.
    var outputs: Set<String> = []
    /// Digests that odd workers made.
    var oddOutputs: Set<String> = []
    /// Every lease that was ever given to a worker, in order, and to whom.
    var leases: [LeaseID] = []
    var holders: [LeaseID: WorkerID] = [:]
    var ledger = Ledger()
    var turns = Turns()
    var backup: Copy?
    var course = Course()

    init(seed: UInt64, folder: String, workers count: Int) throws {
        self.folder = folder
        generator = SeededGenerator(seed: seed)
        faults = .random(using: &generator)
        checkpointPages = [20, 200, 1000].randomElement(using: &generator) ?? 1000
        SimulatedFileSystem.mount(disk, at: folder)
        workers = (0..<count).map { _ in makeWorker() }
        try open()
        for job in Self.jobs {
            let samples = 19 + Int.random(in: 0...2 * count, using: &generator)
            sources[job] = (0..<samples).map {
                ShardSample(name: "\(job)/\($0).png", bytes: Int64(10 + $0))
            }
            let request = SubmitRequest(
                source: "/in/\(job)",
                destination: "/out/\(job)",
                modelID: String(repeating: "0", count: 64),
                priority: [0, 0, 1].randomElement(using: &generator) ?? 0,
                maxWorkers: [nil, 1, 2, 8].randomElement(using: &generator) ?? nil
            )
            try perform(.submit(request, obstacle: nil))
        }
    }

    /// Runs steps with faults, then until the jobs have ended without them.
    ///
    /// - Parameters:
    ///   - steps: Steps with faults.
    ///   - checkEvery: Steps from one look at the rows to the next; 1 finds the step at fault.
    /// - Returns: How long it went on, and what it met.
    /// - Throws: `Violation`.
    mutating func run(steps: Int, checkEvery: Int) throws -> Course {
        for index in 1...steps {
            try step()
            if index % checkEvery == 0 { try checkRows() }
        }
        try stopFaults()
        let deadline = now.advanced(bySeconds: 12 * 3600)
        while !ledger.states.values.allSatisfy(\.isFinal) {
            guard now < deadline else {
                throw Violation(description: "the jobs do not end: \(ledger.states)")
            }
            try step()
        }
        try checkRows()
        try checkEnd()
        course.hours = Double(now.milliseconds) / 3_600_000
        course.events = ledger.counts
        return course
    }

    /// Ends the faults; most workers leave, and time passes until those that do nothing are found.
    private mutating func stopFaults() throws {
        faults = []
        partition = nil
        outageEnd = now
        disk.isFull = false
        try restart()
        for index in workers.indices.dropFirst(Self.lastWorkers) { try leave(index) }
        workers.removeLast(max(0, workers.count - Self.lastWorkers))
        now = now.advanced(bySeconds: Limits.stuckSeconds)
    }

    // MARK: Steps

    func isOn(_ fault: Faults) -> Bool { faults.contains(fault) }

    mutating func chance(_ percent: Int) -> Bool {
        Int.random(in: 0..<100, using: &generator) < percent
    }

    private mutating func seconds(_ range: ClosedRange<Int>) -> Timestamp {
        now.advanced(bySeconds: .random(in: range, using: &generator))
    }

    private mutating func step() throws {
        // Every worker acts twice or thrice a minute, however many there are.
        let pause = Int64.random(in: 0...Int64(40_000 / workers.count), using: &generator)
        now = Timestamp(milliseconds: now.milliseconds + pause)
        for index in workers.indices {
            if let end = workers[index].stalledUntil, end <= now {
                // Its next heartbeat is some time away: until then it believes in its leases.
                workers[index].stalledUntil = nil
                workers[index].beatAt = now
            }
            let silence = now.seconds(since: workers[index].beatAt)
            if silence >= Double(workers[index].beatSeconds) { try beat(index) }
        }
        switch Int.random(in: 0..<100, using: &generator) {
        case 0..<8: try plan()
        case 8..<14: try perform(.reap)
        case 14..<20 where !late.isEmpty:
            try perform(late.remove(at: .random(in: late.indices, using: &generator)))
        case 20..<24:
            for job in Self.jobs where ledger.states[job] == .paused {
                try perform(.resume(job))
            }
        case 24..<28: try seal()
        case 28..<34: try fault()
        default: try act(randomWorker())
        }
    }

    /// Lets one of many things happen, if the seed has chosen it.
    private mutating func fault() throws {
        switch Int.random(in: 0..<20, using: &generator) {
        case 0 where isOn(.restarts): try restart()
        case 1 where isOn(.kills), 2 where isOn(.powerCuts):
            disk.die(after: .random(in: 0...40, using: &generator))
        case 3 where isOn(.restores): try backUpOrRestore()
        case 4 where isOn(.fullDisks): disk.isFull.toggle()
        case 5 where isOn(.clockJumps): now = seconds(0...1800)
        case 6 where isOn(.pauses): try perform(.pause(randomJob()))
        case 7 where isOn(.cancels): try perform(.cancel(Self.jobs[1]))
        case 8 where isOn(.preemptions): try preempt(randomWorker())
        case 9...10 where isOn(.deaths): die(randomWorker())
        case 11...12 where isOn(.stalls):
            let (index, end) = (randomWorker(), seconds(30...300))
            workers[index].stalledUntil = end
        case 13...15 where isOn(.hangs): hang(randomWorker())
        case 16 where isOn(.outages): outageEnd = seconds(60...600)
        case 17 where isOn(.partitions): cut()
        default: break
        }
    }

    mutating func randomWorker() -> Int { .random(in: workers.indices, using: &generator) }

    private mutating func randomJob() -> JobID {
        Self.jobs[.random(in: Self.jobs.indices, using: &generator)]
    }

    /// The coordinator plans the next shard of a job; what it has planned is in the queue.
    private mutating func plan() throws {
        let job = randomJob()
        guard let samples = sources[job], let planned = try planned(of: job) else { return }
        let rest = samples.dropFirst(planned * Self.samplesPerShard)
        if rest.isEmpty {
            try perform(.finishScan(job, skipped: []))
        } else {
            let shard = Array(rest.prefix(Self.samplesPerShard))
            try perform(.appendShard(job, samples: shard, skipped: []))
        }
    }

    private mutating func seal() throws {
        let job = randomJob()
        guard ledger.states[job] == .sealing else { return }
        try perform(.seal(job, datasetDigest: String(repeating: "0", count: 64)))
    }

    private mutating func cut() {
        let parts = Int.random(in: 1...4, using: &generator)
        partition = Partition(
            parts: parts,
            part: .random(in: 0..<parts, using: &generator),
            end: seconds(30...300),
            isOneWay: chance(30)
        )
    }

    // MARK: The coordinator

    /// Opens the queue, for which somebody has to free space; what was answered must be in it.
    private mutating func open() throws {
        disk.isFull = false
        let queue = try JobQueue(folder: folder)
        try queue.database.inDatabase { [checkpointPages] db in
            try db.execute(sql: "PRAGMA wal_autocheckpoint = \(checkpointPages)")
        }
        self.queue = queue
        let last = try lastEvent()
        try require(last >= ledger.lastEvent, "what was answered is gone")
    }

    private mutating func start() throws {
        try perform(.start(workersSurvived: true))
        for index in workers.indices { workers[index].hang?.knownSince = nil }
    }

    private mutating func restart() throws {
        queue = nil
        // It may have died of its last words.
        disk.restart()
        try open()
        try start()
    }

    /// The coordinator is gone in the middle of its work, and another one begins.
    mutating func crash() throws {
        queue = nil
        course.crashes += 1
        if isOn(.powerCuts), !isOn(.kills) || chance(50) {
            disk.cutPower(using: &generator)
        } else {
            disk.restart()
        }
        try open()
        try checkRows()
        try start()
    }

    private mutating func backUpOrRestore() throws {
        guard let copy = backup, chance(25) else {
            backup = Copy(image: disk.image, ledger: ledger)
            return
        }
        let incarnation = try incarnation()
        queue = nil
        disk.restart()
        disk.image = copy.image
        ledger = copy.ledger
        turns = Turns()
        course.restores += 1
        try open()
        // As `Backup.restore` does, for fences of a life that the copy does not know.
        try raiseIncarnation(to: incarnation)
        try perform(.restored)
        try start()
    }
}
