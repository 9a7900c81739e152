/// What a worker process says about itself when it starts.
package struct WorkerRegistration: Equatable, Codable, Sendable {
    package var worker: WorkerID
    package var protocolVersion: Int
    /// Version of the program.
    package var version: String
    package var host: String
    /// Kind of device, such as `cpu` or `cuda`.
    package var device: String
    /// The kernels' instruction set, such as `avx2`.
    package var instructionSet: String
    /// Shards that the worker processes at the same time.
    package var slots: Int

    package init(
        worker: WorkerID,
        protocolVersion: Int = Limits.protocolVersion,
        version: String,
        host: String,
        device: String,
        instructionSet: String,
        slots: Int
    ) {
        self.worker = worker
        self.protocolVersion = protocolVersion
        self.version = version
        self.host = host
        self.device = device
        self.instructionSet = instructionSet
        self.slots = slots
    }

    /// Names what workers have in common that should take the same time for a shard.
    package var deviceClass: String { "\(device) \(instructionSet) \(slots)" }
}

/// The times that the coordinator wants a worker to keep; durations, so that clocks may differ.
package struct RegistrationReply: Equatable, Codable, Sendable {
    package var leaseSeconds: Int
    package var heartbeatSeconds: Int

    package init(leaseSeconds: Int, heartbeatSeconds: Int) {
        self.leaseSeconds = leaseSeconds
        self.heartbeatSeconds = heartbeatSeconds
    }
}

/// How far a worker is with one shard.
package struct LeaseProgress: Equatable, Codable, Sendable {
    package var lease: LeaseID
    /// Samples encoded so far.
    package var samples: Int
    /// Source bytes of these samples.
    package var sourceBytes: Int64
    /// Rises with every piece of work on the shard, such as a sample read or a block checked; a lease
    /// for which it stands still for `Limits.stuckSeconds` is lost.
    package var steps: Int

    package init(lease: LeaseID, samples: Int, sourceBytes: Int64, steps: Int) {
        self.lease = lease
        self.samples = samples
        self.sourceBytes = sourceBytes
        self.steps = steps
    }
}

/// The sign of life of one worker process, for all the leases it holds.
package struct Heartbeat: Equatable, Codable, Sendable {
    package var worker: WorkerID
    /// Whether the worker takes no more work and leaves when its leases are done.
    package var isDraining: Bool
    /// Whether this is the last one: the process holds nothing and ends.
    package var isLeaving: Bool
    /// Source bytes per second of the whole process over the last minute or so.
    package var sourceBytesPerSecond: Double
    /// Every lease that the worker holds; one that is not named here runs out.
    package var leases: [LeaseProgress]

    package init(
        worker: WorkerID,
        isDraining: Bool = false,
        isLeaving: Bool = false,
        sourceBytesPerSecond: Double = 0,
        leases: [LeaseProgress] = []
    ) {
        self.worker = worker
        self.isDraining = isDraining
        self.isLeaving = isLeaving
        self.sourceBytesPerSecond = sourceBytesPerSecond
        self.leases = leases
    }
}

/// What the coordinator wants of a worker, or of one of its leases.
package enum Directive: String, CaseIterable, Codable, Sendable {
    /// Go on.
    case `continue`
    /// For a lease: stop, delete what is unfinished, release it. It is lost or its job is over.
    case cancel
    /// For a process: take no more work, finish, say goodbye.
    case drain
    /// For a process: take no more work until told to continue.
    case pause
    /// For a process: take no more work before a selftest was run and reported; leases in work go on.
    case selftest
    /// For a process: register again, under the same name. Its leases are lost.
    case reRegister = "re_register"
}

/// The coordinator's wish for one lease.
package struct LeaseDirective: Equatable, Codable, Sendable {
    package var lease: LeaseID
    /// `continue` or `cancel`.
    package var directive: Directive

    package init(lease: LeaseID, directive: Directive) {
        self.lease = lease
        self.directive = directive
    }
}

/// The answer to a heartbeat: leases told to continue live `leaseSeconds` from now on.
package struct HeartbeatReply: Equatable, Codable, Sendable {
    /// For the process: anything but `cancel`.
    package var directive: Directive
    /// For each lease of the heartbeat, in its order.
    package var leases: [LeaseDirective]
    package var leaseSeconds: Int
    package var heartbeatSeconds: Int

    package init(
        directive: Directive,
        leases: [LeaseDirective],
        leaseSeconds: Int,
        heartbeatSeconds: Int
    ) {
        self.directive = directive
        self.leases = leases
        self.leaseSeconds = leaseSeconds
        self.heartbeatSeconds = heartbeatSeconds
    }
}

/// One thing that a selftest looked at.
package struct SelftestCheck: Equatable, Codable, Sendable {
    package var name: String
    package var isOK: Bool
    /// What was found, for people.
    package var detail: String
    /// What to do when it is not well.
    package var next: String?

    package enum CodingKeys: String, CodingKey {
        case name, detail, next
        case isOK = "ok"
    }

    package init(name: String, isOK: Bool, detail: String, next: String? = nil) {
        self.name = name
        self.isOK = isOK
        self.detail = detail
        self.next = next
    }
}

/// What a worker's selftest found; it went well when every check is well.
package struct SelftestReport: Equatable, Codable, Sendable {
    package var worker: WorkerID
    /// 1 to `Limits.checksPerSelftest`.
    package var checks: [SelftestCheck]

    package init(worker: WorkerID, checks: [SelftestCheck]) {
        self.worker = worker
        self.checks = checks
    }
}

/// What a worker shall do after its selftest.
package struct SelftestReply: Equatable, Codable, Sendable {
    /// For the process, as in a heartbeat's answer.
    package var directive: Directive

    package init(directive: Directive) {
        self.directive = directive
    }
}

/// A worker as the coordinator sees it.
package struct WorkerStatus: Equatable, Codable, Sendable {
    package var worker: WorkerID
    package var state: WorkerState
    /// Why it is suspect, or what its selftest found wrong; nil for a worker in good standing.
    package var suspicion: String?
    package var version: String
    package var host: String
    package var device: String
    package var instructionSet: String
    package var slots: Int
    /// Leases that it holds.
    package var leases: Int
    /// Shards that it completed.
    package var completed: Int
    /// Failures that it reported, and leases that it lost.
    package var failed: Int
    package var sourceBytesPerSecond: Double
    /// Seconds since its last sign of life.
    package var silentSeconds: Double

    package init(
        worker: WorkerID,
        state: WorkerState,
        suspicion: String?,
        version: String,
        host: String,
        device: String,
        instructionSet: String,
        slots: Int,
        leases: Int,
        completed: Int,
        failed: Int,
        sourceBytesPerSecond: Double,
        silentSeconds: Double
    ) {
        self.worker = worker
        self.state = state
        self.suspicion = suspicion
        self.version = version
        self.host = host
        self.device = device
        self.instructionSet = instructionSet
        self.slots = slots
        self.leases = leases
        self.completed = completed
        self.failed = failed
        self.sourceBytesPerSecond = sourceBytesPerSecond
        self.silentSeconds = silentSeconds
    }
}

/// Every worker that is known, those that left included, in the order they came.
package struct WorkerList: Equatable, Codable, Sendable {
    package var workers: [WorkerStatus]

    package init(workers: [WorkerStatus]) {
        self.workers = workers
    }
}
