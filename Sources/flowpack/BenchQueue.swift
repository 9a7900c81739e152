import ArgumentParser
import Foundation
import JobProtocol
import Worker

struct BenchQueue: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "queue",
        abstract: "Measures a coordinator under the load of many workers.",
        discussion: """
            Starts flowpack-coordinator on a queue of that many shards in a temporary folder \
            (TMPDIR names the disk) and simulates workers over HTTP, each on a connection of its \
            own, with a heartbeat every 15 s. Phases: enrol, every worker registers and leases a \
            shard; paced, every worker completes its shard after 60 s and leases the next; \
            flat_out, up to \(QueueBenchmark.eagerWorkers) workers complete and lease as fast as they are answered; restart, \
            the coordinator is killed in the middle of that and a worker waits for a lease of the \
            next one, whose start counts. The time of a request is that from when it was due to \
            its answer. Every completion that was answered must be there after the kill. Rows \
            fdatasync are no requests: they tell how long the same disk took for 4 kB beside them, \
            twenty times a second.

            Processor time is that of the whole phase, divided by its time (1 is one core) or by \
            its requests. Shard files have a few bytes and lie in memory: the digest of larger \
            ones, which the coordinator takes, is not measured.
            """
    )

    /// Files that this process has open besides connections.
    private static let otherFiles = 100

    @Option(help: "Simulated workers.")
    var workers = 1000

    @Option(help: "Shards in the queue, with commas between them.")
    var shards = CommaSeparated([100_000])

    @Option(help: "Samples in the plan of a shard.")
    var samples = 8

    @Option(help: "Seconds of each of the phases paced and flat_out.")
    var seconds = 10.0

    @Flag(help: "Print the result as JSON.")
    var json = false

    func validate() throws {
        guard (1...1_000_000).contains(workers) else {
            throw ValidationError("--workers takes 1 to 1000000.")
        }
        guard shards.elements.allSatisfy({ (1...100_000_000).contains($0) }) else {
            throw ValidationError("--shards takes 1 to 100000000.")
        }
        guard (1...Limits.shardSamples).contains(samples) else {
            throw ValidationError("--samples takes 1 to \(Limits.shardSamples).")
        }
        guard seconds > 0, seconds <= 3600 else {
            throw ValidationError("--seconds takes more than 0, at most 3600.")
        }
    }

    func run() async throws {
        try Self.allowOpenFiles(workers + Self.otherFiles)
        let benchmarks = shards.elements.map {
            QueueBenchmark(shards: $0, samples: samples, workers: workers, seconds: seconds)
        }
        let rows = try await withStopSignals {
            var rows: [QueueBenchmark.Row] = []
            for benchmark in benchmarks {
                rows += try await benchmark.run()
            }
            return rows
        }
        if json {
            Console.print(json: BenchReport(rows: rows))
        } else {
            Console.table(Self.table(rows))
        }
    }

    /// Raises the limit of open files, for this process and the coordinator that it starts.
    private static func allowOpenFiles(_ count: Int) throws {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        guard limit.rlim_max >= count else {
            throw CommandFailure(
                .error,
                "This many workers need \(count) open files; the limit is \(limit.rlim_max).",
                next: "raise it (ulimit -Hn, as root), or name fewer with --workers"
            )
        }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    private static func table(_ rows: [QueueBenchmark.Row]) -> [[String]] {
        let head = [
            "SHARDS", "PHASE", "REQUEST", "PER SECOND", "P50 MS", "P95 MS", "P99 MS", "MAX MS",
            "CPU", "CPU MS EACH", "PEAK MB", "CLIENT CPU",
        ]
        let lines = rows.map { row in
            [
                "\(row.shards)", row.phase.rawValue, row.operation, decimals(row.perSecond, 1),
                decimals(row.p50, 1), decimals(row.p95, 1), decimals(row.p99, 1),
                decimals(row.max, 1), decimals(row.coordinatorProcessorShare, 2),
                row.coordinatorProcessorMillisecondsPerRequest.map { decimals($0, 2) } ?? "-",
                decimals(row.coordinatorPeakMegabytes, 0), decimals(row.clientProcessorShare, 2),
            ]
        }
        return [head] + lines
    }
}
