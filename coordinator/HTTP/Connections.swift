import HTTPTypes
import JobProtocol
import Logging
package import NIOCore
import NIOHTTPTypes
import Synchronization

/// How many connections there may be, and how slow the clients at their other ends.
///
/// Times in which the coordinator itself works on an answer do not count: a long poll may take as
/// long as it likes.
package struct ConnectionLimits: Sendable {
    /// Connections that are served; the first beyond them get 503, the others are closed.
    package var connections: Int
    /// Time that a client has for a TLS handshake and the head of a request, from the moment that
    /// the connection is there or the answer before is written.
    package var idle: TimeAmount
    /// Time that a client is waited for, in the middle of a body or an answer, before it is looked
    /// at whether it keeps up.
    package var window: TimeAmount
    /// Fewest bytes that move in such a time.
    ///
    /// By default a kilobyte a second: clients give up transfers that are slower, too.
    package var bytesPerWindow: Int

    package init(
        connections: Int = 65_536,
        idle: TimeAmount = .seconds(60),
        window: TimeAmount = .seconds(30),
        bytesPerWindow: Int = 30 << 10
    ) {
        self.connections = connections
        self.idle = idle
        self.window = window
        self.bytesPerWindow = bytesPerWindow
    }

    /// Connections beyond `connections` that are told why they are not served.
    var spare: Int { max(8, connections / 8) }
}

/// The number of connections of a server, and what its log says about those that it ended.
final class ConnectionCounter: Sendable {
    /// What becomes of a new connection.
    enum Admission {
        case served
        /// Its first request is answered with 503.
        case refused
        case closed
    }

    private struct State {
        var open = 0
        var refused = 0
        var slow = 0
        var lastReport: ContinuousClock.Instant?
    }

    /// Shortest time between two lines in the log: a flood must not fill the disk.
    private static let reportInterval = Duration.seconds(60)

    let limits: ConnectionLimits
    private let logger: Logger
    private let state = Mutex(State())

    init(limits: ConnectionLimits, logger: Logger) {
        self.limits = limits
        self.logger = logger
    }

    /// Counts a connection; `leave` has to follow.
    func enter() -> Admission {
        state.withLock { state in
            state.open += 1
            guard state.open > limits.connections else { return .served }
            state.refused += 1
            report(&state)
            return state.open > limits.connections + limits.spare ? .closed : .refused
        }
    }

    func leave() {
        state.withLock { $0.open -= 1 }
    }

    /// Counts a connection that is ended because its client is too slow.
    func endSlow() {
        state.withLock { state in
            state.slow += 1
            report(&state)
        }
    }

    private func report(_ state: inout State) {
        let now = ContinuousClock.now
        if let last = state.lastReport, now - last < Self.reportInterval { return }
        state.lastReport = now
        logger.warning(
            """
            \(state.open) connections, of at most \(limits.connections); so far \(state.refused) \
            were refused and \(state.slow) ended for slow clients
            """
        )
    }
}

/// Whether a client keeps up: the time that it was waited for, against the bytes that came.
package struct TransferPace {
    private let window: TimeAmount
    private let leastBytes: Int
    private var bytes = 0
    private var waited = TimeAmount.zero
    private var waitsSince: NIODeadline?

    package init(_ limits: ConnectionLimits) {
        window = limits.window
        leastBytes = limits.bytesPerWindow
    }

    /// From now on it is the client that is waited for.
    package mutating func wait(now: NIODeadline) {
        waitsSince = waitsSince ?? now
    }

    /// Bytes came; or it is not the client any more that is waited for.
    package mutating func stop(now: NIODeadline) {
        guard let since = waitsSince else { return }
        waited = waited + (now - since)
        waitsSince = nil
    }

    package mutating func count(_ bytes: Int) {
        self.bytes += bytes
    }

    /// Returns the time after which to ask again; nil when the client is too slow.
    package mutating func verdict(now: NIODeadline) -> TimeAmount? {
        if waitsSince != nil {
            stop(now: now)
            wait(now: now)
        }
        if waited < window { return window - waited }
        guard bytes >= leastBytes else { return nil }
        bytes = 0
        waited = .zero
        return window
    }
}

/// Keeps a connection within the limits: refuses it, or ends it when its client is too slow.
///
/// It sees whole parts of requests and answers; Hummingbird's own handler, behind it, ends
/// connections that are idle or whose head does not come.
final class ConnectionHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private let counter: ConnectionCounter
    private var admission = ConnectionCounter.Admission.served
    /// The pace of the body that comes now; nil between two.
    private var inflow: TransferPace?
    private var inflowCheck: Scheduled<Void>?
    /// Bytes of answers that the client had not taken when they were counted last.
    private var unsentBytes = 0
    private var outflowCheck: Scheduled<Void>?

    init(_ counter: ConnectionCounter) {
        self.counter = counter
    }

    func handlerAdded(context: ChannelHandlerContext) {
        admission = counter.enter()
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        inflowCheck?.cancel()
        outflowCheck?.cancel()
        counter.leave()
    }

    func channelActive(context: ChannelHandlerContext) {
        context.fireChannelActive()
        if admission == .closed { context.close(promise: nil) }
    }

    // MARK: Requests

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let part = unwrapInboundIn(data)
        switch part {
        case .head: inflow = TransferPace(counter.limits)
        case .body(let bytes): inflow?.count(bytes.readableBytes)
        case .end: endInflow()
        }
        guard admission == .served else { return refuse(part, context) }
        context.fireChannelRead(data)
    }

    func read(context: ChannelHandlerContext) {
        // Hummingbird does not read while it has more of the body than it can write to the disk.
        inflow?.wait(now: .now())
        context.read()
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        inflow?.stop(now: .now())
        if inflow != nil, inflowCheck == nil {
            checkInflow(context, after: counter.limits.window)
        }
        context.fireChannelReadComplete()
    }

    private func checkInflow(_ context: ChannelHandlerContext, after delay: TimeAmount) {
        inflowCheck = context.eventLoop.assumeIsolated().scheduleTask(in: delay) {
            guard let delay = self.inflow?.verdict(now: .now()) else {
                return self.endSlow(context)
            }
            self.checkInflow(context, after: delay)
        }
    }

    private func endInflow() {
        inflow = nil
        inflowCheck?.cancel()
        inflowCheck = nil
    }

    /// Answers the head of a request with 503, and ends the connection behind its body.
    private func refuse(_ part: HTTPRequestPart, _ context: ChannelHandlerContext) {
        switch part {
        case .head:
            let problem = Problem.tooManyConnections(counter.limits.connections)
            let body = ByteBuffer(bytes: Wire.encode(problem))
            let head = HTTPResponse(
                status: .serviceUnavailable,
                headerFields: [
                    .contentType: Problem.mediaType,
                    .contentLength: String(body.readableBytes),
                    .retryAfter: String(problem.retryAfterSeconds ?? 0),
                    .connection: "close",
                ]
            )
            context.write(wrapOutboundOut(.head(head)), promise: nil)
            context.write(wrapOutboundOut(.body(body)), promise: nil)
            context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        case .body: break
        case .end: context.close(promise: nil)
        }
    }

    // MARK: Answers

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        outflowCheck?.cancel()
        outflowCheck = nil
        if !context.channel.isWritable {
            unsentBytes = Self.unsentBytes(context)
            checkOutflow(context)
        }
        context.fireChannelWritabilityChanged()
    }

    private func checkOutflow(_ context: ChannelHandlerContext) {
        let window = counter.limits.window
        outflowCheck = context.eventLoop.assumeIsolated().scheduleTask(in: window) {
            let unsent = Self.unsentBytes(context)
            guard self.unsentBytes - unsent >= self.counter.limits.bytesPerWindow else {
                return self.endSlow(context)
            }
            self.unsentBytes = unsent
            self.checkOutflow(context)
        }
    }

    private static func unsentBytes(_ context: ChannelHandlerContext) -> Int {
        (try? context.channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
    }

    private func endSlow(_ context: ChannelHandlerContext) {
        counter.endSlow()
        context.close(promise: nil)
    }
}

extension Problem {
    fileprivate static func tooManyConnections(_ limit: Int) -> Problem {
        Problem(
            .unavailable,
            "The coordinator serves \(limit) connections, and has as many.",
            next: "Try again later; --max-connections and the limit of open files raise it.",
            retryAfterSeconds: 5
        )
    }
}
