import ArgumentParser
import CoordinatorClient
import Foundation
import HTTPTransport
import JobProtocol
import Kernels
import S3
import Worker

/// Which coordinator, and how to be let in.
struct CoordinatorOptions: ParsableArguments {
    @Option(help: "URL of the coordinator (default: FLOWPACK_COORDINATOR).")
    var coordinator: String?

    @Option(help: "File with a token (default: FLOWPACK_TOKEN_FILE).")
    var tokenFile: String?

    @Option(help: "Authorities to trust, in PEM (default: FLOWPACK_CA_FILE, or the system's).")
    var caFile: String?

    @Option(help: "Certificate to be known by (default: FLOWPACK_CLIENT_CERTIFICATE).")
    var clientCertificate: String?

    @Option(help: "Its key, unless in the same file (default: FLOWPACK_CLIENT_KEY).")
    var clientKey: String?

    func client(for scope: TokenScope) throws -> CoordinatorClient {
        let environment = ProcessInfo.processInfo.environment
        guard let url = coordinator ?? environment["FLOWPACK_COORDINATOR"], !url.isEmpty else {
            throw CommandFailure(
                .usage,
                "No coordinator is given.",
                next: "add --coordinator http://127.0.0.1:7878, or set FLOWPACK_COORDINATOR"
            )
        }
        let file = tokenFile ?? environment["FLOWPACK_TOKEN_FILE"]
        let token = try file.map { try TokenFile.read(path: $0, for: scope) }
        let tls = TLSFiles(
            authorities: caFile ?? environment["FLOWPACK_CA_FILE"],
            certificate: clientCertificate ?? environment["FLOWPACK_CLIENT_CERTIFICATE"],
            key: clientKey ?? environment["FLOWPACK_CLIENT_KEY"]
        )
        return CoordinatorClient(try .init(url: url, token: token, tls: tls))
    }
}

/// `--json`.
struct JSONOption: ParsableArguments {
    @Flag(help: "Print the result as JSON.")
    var json = false
}

/// The job that a command is about.
struct JobArgument: ParsableArguments {
    @Argument(
        help: "The job's number.",
        transform: { text in
            guard let job = JobID(text) else {
                throw ValidationError("\"\(text)\" is no job's number; flowpack jobs lists them.")
            }
            return job
        }
    )
    var job: JobID
}

struct Submit: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Gives a coordinator a folder to compress.",
        discussion: """
            SRC and DST are paths on the coordinator's machine, or s3://bucket/prefix. Workers that \
            see the paths use them; others get the bytes from the coordinator, and those in S3 by \
            signed URLs. The model is copied to DST first, which for S3 needs a key here too. \
            Submitting the same again returns the same job. Jobs of the same priority share the \
            workers evenly.
            """
    )

    @Argument(help: "Folder of images, or s3://bucket/prefix.", completion: .directory)
    var source: String

    @Option(
        name: [.short, .customLong("output")],
        help: "Folder of the new dataset, or s3://bucket/prefix."
    )
    var output: String

    @Option(help: "Profile or model file.")
    var model = "fast"

    @Option(help: "Source bytes of a shard, such as 64MiB.")
    var shardBytes = ByteSize(bytes: Limits.shardBytes)

    @Option(help: "URL of the output's S3 service (default: AWS_ENDPOINT_URL, else AWS's own).")
    var s3Endpoint: String?

    @Option(help: "-100 to 100; jobs with a larger number come first.")
    var priority = 0

    @Option(help: "Most workers at a time (default: as many as there are).")
    var maxWorkers: Int?

    @OptionGroup var coordinator: CoordinatorOptions
    @OptionGroup var format: JSONOption

    func validate() throws {
        guard Limits.priorities.contains(priority) else {
            let (least, most) = (Limits.priorities.lowerBound, Limits.priorities.upperBound)
            throw ValidationError("--priority takes \(least) to \(most), not \(priority).")
        }
        if let maxWorkers, maxWorkers < 1 {
            throw ValidationError("--max-workers takes 1 or more; leave it out for no limit.")
        }
    }

    func run() async throws {
        let client = try coordinator.client(for: .submit)
        let destination = absolutePlace(output)
        let path = try ModelStore.path(ofModel: model)
        let bytes = try ModelStore.read(path)
        let id = try ModelStore(instructionSet: InstructionSet.best).load(bytes, path: path).id
        try placeModel(bytes, id: id, in: destination)
        let reply = try await client.submit(
            SubmitRequest(
                source: absolutePlace(source),
                destination: destination,
                modelID: id,
                shardBytes: shardBytes.bytes,
                priority: priority,
                maxWorkers: maxWorkers,
                // When the answer is lost, the request is sent again: it must find its own job.
                idempotencyKey: UUID().uuidString
            )
        )
        if format.json {
            Console.print(json: reply)
        } else {
            Console.print("\(reply.job)")
        }
    }

    private func placeModel(_ bytes: [UInt8], id: String, in destination: String) throws {
        let name = DatasetLayout.modelFile(id: id)
        if let location = S3Location(destination) {
            let client = S3Client(try S3Configuration(endpoint: s3Endpoint))
            try client.put(bytes, at: location.appending(name))
        } else {
            try OutputFolder.makeFolders(destination)
            _ = try placeFile(bytes, name: name, in: destination)
        }
    }
}

struct Jobs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Lists all jobs, oldest first.")

    @OptionGroup var coordinator: CoordinatorOptions
    @OptionGroup var output: JSONOption

    func run() async throws {
        let list = try await coordinator.client(for: .read).jobs()
        if output.json {
            Console.print(json: list)
        } else {
            let rows = list.jobs.map { job in
                [
                    "\(job.job)", job.state.rawValue, "\(job.priority)", percent(job),
                    "\(job.committed.samples)/\(job.total.samples)", "\(job.problems)",
                    job.destination,
                ]
            }
            let head = ["JOB", "STATE", "PRIORITY", "DONE", "SAMPLES", "PROBLEMS", "OUTPUT"]
            Console.table([head] + rows)
        }
    }
}

/// Share of the source bytes that is committed; "scanning" until the total is known.
private func percent(_ job: JobStatus) -> String {
    ProgressSnapshot(job, workers: 0).fraction.map { "\(Int($0 * 100)) %" } ?? "scanning"
}

private func printStatus(_ job: JobStatus, json: Bool) {
    guard !json else {
        Console.print(json: job)
        return
    }
    let states = job.shards.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
    var rows = [
        ["job", "\(job.job)"], ["state", job.state.rawValue], ["priority", "\(job.priority)"],
        ["workers", "\(job.workers)" + (job.maxWorkers.map { " of at most \($0)" } ?? "")],
        ["done", percent(job)],
        ["samples", "\(job.committed.samples)/\(job.total.samples)"],
        [
            "source",
            "\(byteCount(Int(job.committed.sourceBytes)))/\(byteCount(Int(job.total.sourceBytes)))",
        ],
        ["output", byteCount(Int(job.committed.outputBytes))],
        ["shards", states.joined(separator: ", ")],
        ["failed attempts", "\(job.failedAttempts)"], ["problems", "\(job.problems)"],
        ["from", job.source], ["to", job.destination],
    ]
    if job.stuckAttempts > 0 { rows.append(["stuck attempts", "\(job.stuckAttempts)"]) }
    if let reason = job.pauseReason { rows.append(["paused because", reason]) }
    if let failure = job.failure { rows.append(["failure", failure]) }
    if let rate = job.sourceBytesPerSecond { rows.append(["rate", "\(byteCount(Int(rate)))/s"]) }
    if let seconds = job.remainingSeconds { rows.append(["time left", duration(seconds)]) }
    if let digest = job.datasetDigest { rows.append(["dataset", digest]) }
    Console.table(rows)
}

/// What the commands take that ask something of a job and show how it stands then.
struct JobOptions: ParsableArguments {
    @OptionGroup var argument: JobArgument

    @OptionGroup var coordinator: CoordinatorOptions
    @OptionGroup var output: JSONOption

    /// Prints the status that a request answers with.
    ///
    /// - Parameters:
    ///   - scope: What the token must allow.
    ///   - request: Asks the coordinator about the job.
    /// - Throws: What the options lack; what the coordinator refuses.
    func printStatus(
        for scope: TokenScope,
        _ request: (CoordinatorClient, JobID) async throws -> JobStatus
    ) async throws {
        let status = try await request(coordinator.client(for: scope), argument.job)
        flowpack.printStatus(status, json: output.json)
    }
}

struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Shows one job.")

    @OptionGroup var options: JobOptions

    func run() async throws {
        try await options.printStatus(for: .read) { try await $0.job($1) }
    }
}

struct Watch: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows a job's progress until it ends.",
        discussion: """
            EXIT CODES: 0 completed · 1 failed · 4 no such job · 6 coordinator unreachable · \
            7 completed with problems · 9 cancelled
            """
    )

    @OptionGroup var argument: JobArgument

    @OptionGroup var coordinator: CoordinatorOptions
    @OptionGroup var display: OutputOptions

    /// Pause between two looks.
    private static let interval = Duration.seconds(1)

    func run() async throws {
        let client = try coordinator.client(for: .read)
        let progress = ProgressDisplay(display.style)
        while true {
            let status = try await client.job(argument.job)
            let workers = try await client.workers().workers.filter { $0.leases > 0 }.count
            let snapshot = ProgressSnapshot(status, workers: workers)
            guard status.state.isFinal else {
                progress.update(snapshot)
                try await Task.sleep(for: Self.interval)
                continue
            }
            progress.finish(snapshot)
            printStatus(status, json: display.json)
            switch status.state {
            case .completed: return
            case .completedWithFallbacks: throw ExitStatus.finishedWithProblems.code
            case .cancelled: throw ExitStatus.cancelled.code
            default: throw ExitStatus.error.code
            }
        }
    }
}

struct Explain: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Tells why a job is not moving, and what to do."
    )

    @OptionGroup var argument: JobArgument

    @OptionGroup var coordinator: CoordinatorOptions
    @OptionGroup var output: JSONOption

    func run() async throws {
        let diagnosis = try await coordinator.client(for: .read).explain(argument.job)
        guard !output.json else { return Console.print(json: diagnosis) }
        Console.print("Job \(diagnosis.job) is \(diagnosis.state.rawValue).")
        for finding in diagnosis.findings {
            Console.print(finding.text)
            if let next = finding.next { Console.print("  Next: \(next)") }
        }
    }
}

extension ShardState: ExpressibleByArgument {}

struct Shards: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists a job's shards, in the order of the dataset.",
        discussion: """
            --state quarantined lists those that were given up, with the last failure of each; \
            flowpack retry takes them up again.
            """
    )

    @OptionGroup var argument: JobArgument

    @Option(help: "Only shards in this state.")
    var state: ShardState?

    @OptionGroup var coordinator: CoordinatorOptions
    @OptionGroup var output: JSONOption

    func run() async throws {
        let client = try coordinator.client(for: .read)
        var list = ShardList(shards: [], next: nil)
        repeat {
            let page = try await client.shards(of: argument.job, in: state, after: list.next)
            list.shards += page.shards
            list.next = page.next
        } while list.next != nil
        guard !output.json else { return Console.print(json: list) }
        let rows = list.shards.map { shard in
            [
                "\(shard.ordinal)", shard.state.rawValue, "\(shard.samples)",
                byteCount(Int(shard.sourceBytes)), "\(shard.failures)", "\(shard.losses)",
                shard.workers.map(\.rawValue).joined(separator: ", "), shard.message ?? "",
            ]
        }
        let head = [
            "SHARD", "STATE", "SAMPLES", "SOURCE", "FAILURES", "LOSSES", "WORKERS", "MESSAGE",
        ]
        Console.table([head] + rows)
    }
}

struct Pause: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Leases out no more shards of a job until it is resumed."
    )

    @OptionGroup var options: JobOptions

    func run() async throws {
        try await options.printStatus(for: .submit) { try await $0.pause($1) }
    }
}

struct Resume: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Takes back a pause.")

    @OptionGroup var options: JobOptions

    func run() async throws {
        try await options.printStatus(for: .submit) { try await $0.resume($1) }
    }
}

struct Cancel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Ends a job; what is committed stays, nothing is added."
    )

    @OptionGroup var options: JobOptions

    func run() async throws {
        try await options.printStatus(for: .submit) { try await $0.cancel($1) }
    }
}

struct Retry: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Tries a failed job again; what is committed stays."
    )

    @OptionGroup var options: JobOptions

    func run() async throws {
        try await options.printStatus(for: .submit) { try await $0.retry($1) }
    }
}

struct Drain: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes a worker finish what it holds and leave; needs an admin's token."
    )

    @Argument(help: "The worker's name; flowpack workers lists them.")
    var worker: String

    @OptionGroup var coordinator: CoordinatorOptions

    func run() async throws {
        guard let worker = WorkerID(worker) else {
            throw CommandFailure(
                .usage,
                "\"\(worker)\" is no worker's name.",
                next: "flowpack workers"
            )
        }
        _ = try await coordinator.client(for: .admin).drainWorker(worker)
    }
}

struct Workers: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Lists all workers.")

    @OptionGroup var coordinator: CoordinatorOptions
    @OptionGroup var output: JSONOption

    func run() async throws {
        let list = try await coordinator.client(for: .read).workers()
        if output.json {
            Console.print(json: list)
        } else {
            let rows = list.workers.map { worker in
                [
                    "\(worker.worker)", worker.state.rawValue, worker.host, worker.instructionSet,
                    "\(worker.slots)", "\(worker.leases)", "\(worker.completed)",
                    "\(worker.failed)", "\(byteCount(Int(worker.sourceBytesPerSecond)))/s",
                    duration(worker.silentSeconds), worker.suspicion ?? "",
                ]
            }
            let head = [
                "WORKER", "STATE", "HOST", "ISA", "SLOTS", "SHARDS", "DONE", "FAILED", "RATE",
                "SILENT", "SUSPICION",
            ]
            Console.table([head] + rows)
        }
    }
}
