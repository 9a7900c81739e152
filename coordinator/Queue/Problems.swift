import JobProtocol

// The refusals of the queue, in words.
extension Problem {
    static func noJob(_ job: JobID) -> Problem {
        Problem(
            .notFound,
            "There is no job \(job).",
            next: "List the jobs with: flowpack jobs"
        )
    }

    static func noWorker(_ worker: WorkerID) -> Problem {
        Problem(
            .notFound,
            "There is no worker \(worker).",
            next: "List the workers with: flowpack workers"
        )
    }

    static func wrongState(_ job: JobRecord, _ verb: String) -> Problem {
        Problem(
            .wrongState,
            "Job \(job.id) is \(job.state.rawValue) and cannot \(verb).",
            next: "See how it stands with: flowpack status \(job.id)"
        )
    }

    static func wrongState(_ worker: WorkerRecord) -> Problem {
        Problem(
            .wrongState,
            "Worker \(worker.id) is \(worker.state.rawValue).",
            next: "List the workers with: flowpack workers"
        )
    }

    static func tooManyJobs(_ count: Int, limit: Int) -> Problem {
        Problem(
            .quotaExceeded,
            "The token has \(count) open jobs, and may have \(limit).",
            next: "Wait until one ends, or cancel one (flowpack jobs, flowpack cancel); jobs=N in "
                + "the coordinator's token file sets the limit."
        )
    }

    static func keyUsed(_ key: String, by job: JobID) -> Problem {
        Problem(
            .idempotencyMismatch,
            "The key \(key) made job \(job) from another request.",
            next: "Submit again with a new key."
        )
    }

    static func busy(_ destination: String, by job: JobID) -> Problem {
        Problem(
            .destinationBusy,
            "Job \(job) writes to \(destination).",
            next: "Wait for it, end it with: flowpack cancel \(job), or choose another destination."
        )
    }

    static func incompatible(_ version: Int) -> Problem {
        Problem(
            .incompatible,
            "The worker speaks protocol version \(version), the coordinator "
                + "\(Limits.protocolVersion).",
            next: "Install the same release on both."
        )
    }

    static func unknownWorker(_ worker: WorkerID) -> Problem {
        Problem(
            .unknownWorker,
            "Worker \(worker) is not registered, or was silent for too long.",
            next: "Register again."
        )
    }

    static func fenced(_ lease: LeaseID) -> Problem {
        Problem(
            .fenced,
            "Lease \(lease) is no longer held.",
            next: "Drop this shard; another worker has it or will get it."
        )
    }

    static func cancelled(_ job: JobRecord) -> Problem {
        Problem(
            .cancelled,
            "Job \(job.id) is \(job.state.rawValue).",
            next: "Drop this shard and delete its file."
        )
    }

    static func nondeterminism(_ ordinal: Int, committed: String, reported: String) -> Problem {
        Problem(
            .nondeterminism,
            "Shard \(ordinal) is committed as \(committed), this attempt made \(reported).",
            next: "Keep both files, run flowpack selftest on both machines, and report it."
        )
    }

    static func outputMismatch(_ ordinal: Int, _ reason: String) -> Problem {
        Problem(
            .outputMismatch,
            "Shard \(ordinal) is not what the worker says: \(reason).",
            next: "Place the file again, then complete again."
        )
    }
}
