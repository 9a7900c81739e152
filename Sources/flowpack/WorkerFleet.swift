import Archive
import Foundation
import JobProtocol
import NIOCore
import NIOHTTP1
import NIOPosix
import Worker

/// Many simulated workers of one coordinator, driven by one event loop.
///
/// Each has a keep-alive connection, holds one shard at a time, and heartbeats as the protocol
/// asks. It computes nothing: it holds its shard for `shardSeconds` and then completes it; the
/// shard's file is a link to one small file. An eager worker completes at once.
///
/// `@unchecked Sendable`: everything that changes is touched on the event loop only.
final class WorkerFleet: @unchecked Sendable {
    /// A request of a worker's life.
    enum Operation: String, CaseIterable {
        case register, lease, heartbeat, complete
    }

    /// What happened in a phase.
    struct Measurement: Sendable {
        let seconds: Double
        /// For each request the milliseconds from when it was due until its answer was there,
        /// ascending: a request that had to wait for another one on its connection counts whole.
        let milliseconds: [Operation: [Double]]
    }

    /// How long a worker holds a shard, in seconds: the middle of what shards are cut for.
    static let shardSeconds = 60.0
    /// Workers that register at the same time.
    private static let arrivals = 64
    /// Longest time for all workers to register, in seconds.
    private static let arrivalLimitSeconds = 300.0
    private static let pollInterval = Duration.milliseconds(5)

    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let loop: any EventLoop
    private let port: Int
    /// What every shard's file is a link to.
    private let output: String
    private let outputBytes: Int64
    private let outputDigest: String

    private var workers: [SimulatedWorker] = []
    private var milliseconds: [Operation: [Double]] = [:]
    private var failure: (any Error)?
    /// Completions that the coordinator has acknowledged since the start.
    private var committed = 0
    /// Workers that hold the first shard they asked for, or got none.
    private var settled = 0

    /// - Parameters:
    ///   - port: The coordinator's, on 127.0.0.1.
    ///   - output: Absolute path of a file for every shard's content, which this makes.
    /// - Throws: When the file cannot be written.
    init(port: Int, output: String) throws {
        let content = Array("simulated".utf8)
        try Data(content).write(to: URL(filePath: output))
        self.port = port
        self.output = output
        outputBytes = Int64(content.count)
        outputDigest = Digest(of: content).hex
        loop = group.next()
    }

    /// The name of a worker.
    static func worker(_ index: Int) -> WorkerID {
        guard let worker = WorkerID(rawValue: "simulated-\(index)") else {
            preconditionFailure("a number is allowed in a worker's name")
        }
        return worker
    }

    // MARK: - What the benchmark asks for

    /// Makes workers: each connects, registers, and leases a shard.
    func enrol(_ count: Int) async throws -> Measurement {
        try await measure { [self] in
            for index in 0..<min(count, Self.arrivals) {
                connect(index, of: count)
            }
        } until: { [self] elapsed in
            elapsed > Self.arrivalLimitSeconds || settled == count
        }
    }

    /// Lets the workers work, the first `eager` of them as fast as they are answered, until the
    /// time is up or the eager ones find no shard any more.
    func work(seconds: Double, eager: Int = 0) async throws -> Measurement {
        try await measure { [self] in
            for (index, worker) in workers.enumerated() {
                if index < eager {
                    worker.hurry()
                } else if eager == 0 {
                    worker.hold(seconds: .random(in: 0..<Self.shardSeconds))
                }
            }
        } until: { [self] elapsed in
            elapsed > seconds || eager > 0 && workers.prefix(eager).allSatisfy(\.isIdle)
        }
    }

    /// Ends every connection and returns how many shards may be committed: at least those whose
    /// completion was answered, at most those whose completion was sent.
    func leave() async throws -> ClosedRange<Int> {
        let committed = try await loop.submit { [self] in
            for worker in workers { worker.leave() }
            return self.committed...self.committed + workers.count(where: \.isCompleting)
        }.get()
        try await group.shutdownGracefully()
        return committed
    }

    private func measure(
        _ start: @escaping @Sendable () -> Void,
        until isOver: @escaping @Sendable (_ seconds: Double) -> Bool
    ) async throws -> Measurement {
        let begin = NIODeadline.now()
        try await loop.submit { [self] in
            milliseconds = [:]
            start()
        }.get()
        while true {
            try await Task.sleep(for: Self.pollInterval)
            let measurement = try await loop.submit { [self] () -> Measurement? in
                if let failure { throw failure }
                let seconds = (NIODeadline.now() - begin).seconds
                guard isOver(seconds) else { return nil }
                return Measurement(
                    seconds: seconds,
                    milliseconds: milliseconds.mapValues { $0.sorted() }
                )
            }.get()
            if let measurement { return measurement }
        }
    }

    // MARK: - What the workers report

    private func connect(_ index: Int, of count: Int) {
        ClientBootstrap(group: loop)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { [self] in
                    let worker = SimulatedWorker(Self.worker(index), fleet: self) { [self] in
                        settled += 1
                        if index + Self.arrivals < count {
                            connect(index + Self.arrivals, of: count)
                        }
                    }
                    workers.append(worker)
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHTTPClientHandlers()
                    try pipeline.addHandler(
                        NIOHTTPClientResponseAggregator(maxContentLength: Limits.replyBytes)
                    )
                    try pipeline.addHandler(worker)
                }
            }
            .connect(host: "127.0.0.1", port: port)
            .whenFailure { [self] in fail($0) }
    }

    fileprivate func record(_ operation: Operation, since due: NIODeadline) {
        milliseconds[operation, default: []].append((NIODeadline.now() - due).seconds * 1000)
    }

    fileprivate func fail(_ error: any Error) {
        failure = failure ?? error
    }

    fileprivate func countCommit() {
        committed += 1
    }

    /// Places a shard's file, which the coordinator will look for, and returns the completion.
    fileprivate func finish(_ lease: Lease) throws(FileSystemError) -> Completion {
        let file = DatasetLayout.shardFile(ordinal: lease.ordinal, sha256: outputDigest)
        let path = "\(lease.destination)/\(file)"
        guard symlink(output, path) == 0 || errno == EEXIST else {
            throw FileSystemError(operation: "link", path: path, number: errno)
        }
        let sourceBytes = lease.samples.reduce(0) { $0 + $1.bytes }
        return Completion(
            lease: lease.lease,
            sha256: outputDigest,
            bytes: outputBytes,
            totals: ShardTotals(
                samples: lease.samples.count,
                flowSamples: lease.samples.count,
                storedSamples: 0,
                sourceBytes: sourceBytes,
                flowDimensions: sourceBytes,
                flowBytes: outputBytes
            ),
            problems: [],
            seconds: Self.shardSeconds
        )
    }
}

/// One worker on its connection; requests may follow one another before the first is answered.
private final class SimulatedWorker: ChannelInboundHandler {
    typealias InboundIn = NIOHTTPClientResponseFull
    typealias OutboundOut = HTTPClientRequestPart

    private let id: WorkerID
    private unowned let fleet: WorkerFleet
    /// Called when the first lease is there, or there was none.
    private var onSettled: (() -> Void)?
    private var context: ChannelHandlerContext?
    /// Requests without an answer, oldest first, and when they were due.
    private var open: [(operation: WorkerFleet.Operation, due: NIODeadline)] = []
    private var lease: Lease?
    /// Counts how often it was decided when to complete: only the last decision holds.
    ///
    /// To cancel what was scheduled would search all that is scheduled on the event loop.
    private var decision = 0
    private var isEager = false
    private var isLeaving = false

    init(_ id: WorkerID, fleet: WorkerFleet, onSettled: @escaping () -> Void) {
        self.id = id
        self.fleet = fleet
        self.onSettled = onSettled
    }

    /// Whether it waits for nothing and has no shard.
    var isIdle: Bool { lease == nil && open.allSatisfy { $0.operation == .heartbeat } }

    /// Whether it waits for the answer to a completion.
    var isCompleting: Bool { open.contains { $0.operation == .complete } }

    /// Completes from now on as soon as it has a shard.
    func hurry() {
        isEager = true
        complete(due: .now())
    }

    /// Completes what it holds after a time.
    func hold(seconds: Double) {
        decision += 1
        schedule(seconds) { [decision] worker, due in
            if worker.decision == decision { worker.complete(due: due) }
        }
    }

    func leave() {
        isLeaving = true
        context?.close(promise: nil)
    }

    // MARK: - A worker's life

    func channelActive(context: ChannelHandlerContext) {
        self.context = context
        send(
            .register,
            .register,
            nil,
            due: .now(),
            WorkerRegistration(
                worker: id,
                version: Release.version,
                host: "localhost",
                device: "simulated",
                instructionSet: "none",
                slots: 1
            )
        )
    }

    private func requestLease() {
        let request = LeaseRequest(worker: id, shards: 1, waitSeconds: 0)
        send(.lease, .lease, nil, due: .now(), request)
    }

    private func heartbeat(due: NIODeadline) {
        let held = lease.map {
            LeaseProgress(lease: $0.lease, samples: 0, sourceBytes: 0, steps: 0)
        }
        let heartbeat = Heartbeat(worker: id, leases: held.map { [$0] } ?? [])
        send(.heartbeat, .heartbeat, id, due: due, heartbeat)
        beat(inSeconds: Double(Limits.heartbeatSeconds))
    }

    private func beat(inSeconds seconds: Double) {
        schedule(seconds) { $0.heartbeat(due: $1) }
    }

    private func complete(due: NIODeadline) {
        guard let lease else { return }
        self.lease = nil
        decision += 1
        do {
            send(.complete, .complete, lease.lease, due: due, try fleet.finish(lease))
        } catch {
            fleet.fail(error)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let response = unwrapInboundIn(data)
        let (operation, due) = open.removeFirst()
        fleet.record(operation, since: due)
        let body = response.body.map { Array($0.readableBytesView) } ?? []
        do {
            guard response.head.status == .ok else {
                throw APIError.refused(try Wire.decode(Problem.self, from: body))
            }
            try go(on: operation, body)
        } catch {
            fleet.fail(error)
        }
    }

    /// Does what follows an answer.
    private func go(on operation: WorkerFleet.Operation, _ body: [UInt8]) throws {
        switch operation {
        case .register:
            beat(inSeconds: .random(in: 0..<Double(Limits.heartbeatSeconds)))
            requestLease()
        case .lease:
            lease = try Wire.decode(LeaseReply.self, from: body).leases.first
            if isEager {
                complete(due: .now())
            } else {
                hold(seconds: WorkerFleet.shardSeconds)
            }
            onSettled?()
            onSettled = nil
        case .complete:
            fleet.countCommit()
            requestLease()
        case .heartbeat:
            break
        }
    }

    // MARK: - The connection

    private func send(
        _ operation: WorkerFleet.Operation,
        _ route: Route,
        _ parameter: (any LosslessStringConvertible)?,
        due: NIODeadline,
        _ value: some Encodable
    ) {
        guard let context else { return }
        let body = context.channel.allocator.buffer(bytes: Wire.encode(value))
        let head = HTTPRequestHead(
            version: .http1_1,
            method: .POST,
            uri: route.path(parameter),
            headers: [
                "host": "127.0.0.1", "content-type": "application/json",
                "content-length": "\(body.readableBytes)",
            ]
        )
        open.append((operation, due))
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    }

    /// Does something later; what it is told to be due is the time it was meant for.
    private func schedule(
        _ seconds: Double,
        _ action: @escaping (SimulatedWorker, _ due: NIODeadline) -> Void
    ) {
        let due = NIODeadline.now() + .nanoseconds(Int64(seconds * 1e9))
        context?.eventLoop.assumeIsolated().scheduleTask(deadline: due) { [self] in
            if !isLeaving { action(self, due) }
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.context = nil
        if !isLeaving {
            fleet.fail(APIError.unreachable("The coordinator closed a connection."))
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fleet.fail(error)
        context.close(promise: nil)
    }
}

extension TimeAmount {
    fileprivate var seconds: Double { Double(nanoseconds) * 1e-9 }
}
