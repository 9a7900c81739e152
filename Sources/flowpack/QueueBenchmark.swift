import CoordinatorClient
import Foundation
import JobProtocol
import Worker

/// A real coordinator process under the load of simulated workers, from its first request to the
/// first one after it was killed.
struct QueueBenchmark: Sendable {
    /// Workers without a pause in the phase `flat_out`; as many as share one commit at most.
    static let eagerWorkers = 256

    /// Where shard files lie: in memory.
    ///
    /// Making them does not disturb the disk that the coordinator's commits wait for; in a fleet
    /// they lie on another one, too.
    private static let outputParent = "/dev/shm"

    /// Shards in the queue.
    let shards: Int
    /// Samples in the plan of a shard.
    let samples: Int
    let workers: Int
    /// Of each of the phases `paced` and `flat_out`.
    let seconds: Double

    private typealias Usage = CoordinatorProcess.Usage

    enum Phase: String, Encodable {
        /// Every worker registers and leases a shard.
        case enrol
        /// Every worker completes its shard when its time is over and leases the next.
        case paced
        /// Some workers do that as fast as they are answered.
        case flatOut = "flat_out"
        /// The coordinator is killed, and one worker waits for a lease of the next one.
        case restart
    }

    /// One kind of request in one phase, or the writes of the `DiskProbe`.
    struct Row: Encodable, Sendable {
        let shards: Int
        let workers: Int
        let phase: Phase
        let operation: String
        let count: Int
        let perSecond: Double
        let p50: Double
        let p95: Double
        let p99: Double
        let max: Double
        let coordinatorProcessorShare: Double
        /// Nil for a phase without requests.
        let coordinatorProcessorMillisecondsPerRequest: Double?
        let coordinatorPeakMegabytes: Double
        /// What the simulation itself takes.
        let clientProcessorShare: Double

        enum CodingKeys: String, CodingKey {
            case shards, workers, phase, operation, count
            case perSecond = "per_second"
            case p50 = "p50_ms"
            case p95 = "p95_ms"
            case p99 = "p99_ms"
            case max = "max_ms"
            case coordinatorProcessorShare = "coordinator_processor_share"
            case coordinatorProcessorMillisecondsPerRequest =
                "coordinator_processor_ms_per_request"
            case coordinatorPeakMegabytes = "coordinator_peak_megabytes"
            case clientProcessorShare = "client_processor_share"
        }
    }

    /// Runs all phases on a new queue.
    ///
    /// - Throws: `CommandFailure` with `integrityFailure` when the kill lost a commit that the
    ///   coordinator had acknowledged.
    func run() async throws -> [Row] {
        let name = "flowpack-bench-\(UUID().uuidString)"
        let data = FileManager.default.temporaryDirectory.resolvingSymlinksInPath()
            .appending(path: name).path
        let output = "\(Self.outputParent)/\(name)"
        defer {
            for folder in [data, output] { try? FileManager.default.removeItem(atPath: folder) }
        }
        for folder in [data, "\(output)/\(DatasetLayout.shardFolder)"] {
            try FileManager.default.createDirectory(
                atPath: folder,
                withIntermediateDirectories: true
            )
        }
        let job = try await QueueFixture.make(
            folder: data,
            destination: output,
            shards: shards,
            samples: samples
        )

        let coordinator = try await CoordinatorProcess(data: data)
        let fleet = try WorkerFleet(port: coordinator.port, output: "\(output)/content")
        let disk = try DiskProbe(path: "\(data)/probe")
        defer { disk.end() }
        var rows: [Row] = []
        do {
            rows += try await measure(.enrol, coordinator, disk) {
                try await fleet.enrol(workers)
            }
            rows += try await measure(.paced, coordinator, disk) {
                try await fleet.work(seconds: seconds)
            }
            rows += try await measure(.flatOut, coordinator, disk) {
                try await fleet.work(seconds: seconds, eager: min(workers, Self.eagerWorkers))
            }
        } catch {
            _ = try await fleet.leave()
            throw error
        }
        coordinator.kill()
        let committed = try await fleet.leave()
        return try await rows + restart(data, job, committed)
    }

    /// Starts a coordinator on what the killed one left, and checks that it is all there.
    private func restart(
        _ data: String,
        _ job: JobID,
        _ committed: ClosedRange<Int>
    ) async throws -> [Row] {
        let (begin, own) = (monotonicSeconds(), try Usage(process: getpid()))
        let coordinator = try await CoordinatorProcess(data: data)
        let client = CoordinatorClient(try .init(url: coordinator.url, token: nil))
        _ = try await client.lease(
            LeaseRequest(worker: WorkerFleet.worker(0), shards: 1, waitSeconds: 0)
        )
        let seconds = monotonicSeconds() - begin
        let rows = rows(
            .restart,
            WorkerFleet.Measurement(seconds: seconds, milliseconds: [.lease: [seconds * 1000]]),
            coordinator: try coordinator.usage,
            client: try Usage(process: getpid()) - own
        )
        let found = try await client.job(job).committed.shards
        guard committed.contains(found) else {
            throw CommandFailure(
                .integrityFailure,
                "After the kill \(found) shards are committed; \(committed) were acknowledged."
            )
        }
        return rows
    }

    private func measure(
        _ phase: Phase,
        _ coordinator: CoordinatorProcess,
        _ disk: DiskProbe,
        _ work: () async throws -> WorkerFleet.Measurement
    ) async throws -> [Row] {
        let (own, other) = (try Usage(process: getpid()), try coordinator.usage)
        _ = disk.take()
        let measurement = try await work()
        return rows(
            phase,
            measurement,
            writes: disk.take(),
            coordinator: try coordinator.usage - other,
            client: try Usage(process: getpid()) - own
        )
    }

    /// The rows of a phase, one for each kind of request in it, and one for what the disk did beside it.
    private func rows(
        _ phase: Phase,
        _ measurement: WorkerFleet.Measurement,
        writes: [Double] = [],
        coordinator: Usage,
        client: Usage
    ) -> [Row] {
        let requests = measurement.milliseconds.values.reduce(0) { $0 + $1.count }
        let operations = WorkerFleet.Operation.allCases.map {
            ($0.rawValue, measurement.milliseconds[$0] ?? [])
        }
        return (operations + [("fdatasync", writes)]).compactMap { operation, times in
            guard let max = times.last else { return nil }
            func percentile(_ percent: Int) -> Double { times[(times.count - 1) * percent / 100] }
            return Row(
                shards: shards,
                workers: workers,
                phase: phase,
                operation: operation,
                count: times.count,
                perSecond: Double(times.count) / measurement.seconds,
                p50: percentile(50),
                p95: percentile(95),
                p99: percentile(99),
                max: max,
                coordinatorProcessorShare: coordinator.processorSeconds / measurement.seconds,
                coordinatorProcessorMillisecondsPerRequest:
                    requests == 0 ? nil : coordinator.processorSeconds * 1000 / Double(requests),
                coordinatorPeakMegabytes: Double(coordinator.peakBytes) * 1e-6,
                clientProcessorShare: client.processorSeconds / measurement.seconds
            )
        }
    }
}
