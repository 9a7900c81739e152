import Coordinator
import Hummingbird
import JobProtocol
import NIOCore
import Testing

/// Slow clients and many connections, on real sockets.
@Suite(.timeLimit(.minutes(5)))
struct ConnectionTests {
    /// Patience for a tenth of what is usual in tests with a client that is slow.
    private static let impatient = ConnectionLimits(
        idle: .milliseconds(500),
        window: .milliseconds(500),
        bytesPerWindow: 4096
    )

    private static let health = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"

    /// Runs a test with the port of a server on an empty queue.
    private func withServer(
        _ limits: ConnectionLimits,
        _ body: @Sendable (_ port: Int) async throws -> Void
    ) async throws {
        try await withTemporaryFolder { folder in
            let coordinator = try LocalCoordinator(folder: folder, logger: silent)
            _ = try await coordinator.register(try registration("w"))
            let (ports, port) = AsyncStream.makeStream(of: Int.self)
            let server = try Server.make(
                coordinator: coordinator,
                listen: try #require(ListenAddress("127.0.0.1:0")),
                tokens: nil,
                limits: limits,
                logger: silent,
                onListening: { port.yield($0) }
            )
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try? await server.run() }
                try await body(try #require(await ports.first { _ in true }))
                group.cancelAll()
            }
        }
    }

    @Test func aHeadThatComesByteByByteIsCutOff() async throws {
        try await withServer(Self.impatient) { port in
            let connection = try await RawConnection(port: port)
            #expect(try await connection.send("GET /healthz HTTP/1.1\r\nX: "))
            #expect(try await connection.dribble("x", everyMilliseconds: 20))
        }
    }

    @Test func aConnectionThatSaysNothingIsCutOff() async throws {
        try await withServer(Self.impatient) { port in
            let connection = try await RawConnection(port: port)
            #expect(try await connection.read() == "")
        }
    }

    @Test func aBodyThatComesByteByByteIsCutOff() async throws {
        try await withServer(Self.impatient) { port in
            let connection = try await RawConnection(port: port)
            let head = "POST /v1/leases HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"
            #expect(try await connection.send(head))
            #expect(try await connection.dribble(" ", everyMilliseconds: 20))
        }
    }

    @Test func aClientThatDoesNotTakeItsAnswersIsCutOff() async throws {
        try await withServer(Self.impatient) { port in
            let connection = try await RawConnection(port: port)
            let requests = String(
                repeating: "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n",
                count: 1000
            )
            #expect(try await connection.dribble(requests, everyMilliseconds: 1))
        }
    }

    @Test func aLongPollMayTakeLonger() async throws {
        try await withServer(Self.impatient) { port in
            let wish = #"{"worker":"w","shards":1,"waitSeconds":2}"#
            let head = "POST /v1/leases HTTP/1.1\r\nHost: h\r\nContent-Length: \(wish.utf8.count)"
            var answers: [String] = []
            // On a busy machine this client itself may be too slow to ask.
            while answers.last?.hasPrefix("HTTP/1.1 200") != true, answers.count < 20 {
                let connection = try await RawConnection(port: port)
                _ = try await connection.send("\(head)\r\n\r\n\(wish)")
                answers.append(try await connection.read(until: "}"))
            }
            #expect(answers.last?.hasPrefix("HTTP/1.1 200") == true, "\(answers)")
        }
    }

    @Test func connectionsBeyondTheLimitAreRefused() async throws {
        try await withServer(ConnectionLimits(connections: 2)) { port in
            var served: [RawConnection] = []
            for _ in 0..<2 {
                served.append(try await RawConnection(port: port))
                #expect(try await served.last?.send(Self.health) == true)
                let answer = try await served.last?.read(until: "ok\n")
                #expect(answer?.hasPrefix("HTTP/1.1 200") == true)
            }

            var refused: [RawConnection] = []
            for _ in 0..<8 {
                let connection = try await RawConnection(port: port)
                #expect(try await connection.send("GET /healthz HTTP/1.1\r\n"))
                refused.append(connection)
            }
            let closed = try await RawConnection(port: port)
            #expect(try await closed.read() == "")

            for connection in refused {
                #expect(try await connection.send("Host: h\r\n\r\n"))
                let answer = try await connection.read()
                #expect(answer.hasPrefix("HTTP/1.1 503"), "\(answer)")
                #expect(answer.contains("Retry-After: 5\r\n"), "\(answer)")
                #expect(answer.contains(#""code":"unavailable""#), "\(answer)")
            }
        }
    }

    @Test(.timeLimit(.minutes(5))) func aConnectionThatEndsMakesRoomForAnother() async throws {
        try await withServer(ConnectionLimits(connections: 1)) { port in
            let request = "GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
            for _ in 0..<3 {
                var answer = ""
                // A client sees the end of a connection before the server has counted it.
                repeat {
                    let connection = try await RawConnection(port: port)
                    answer = try await connection.send(request) ? connection.read() : ""
                } while answer.isEmpty || answer.hasPrefix("HTTP/1.1 503")
                #expect(answer.hasPrefix("HTTP/1.1 200"), "\(answer)")
            }
        }
    }

    // MARK: The pace of a body

    private static let start = NIODeadline.uptimeNanoseconds(1 << 40)

    private func pace() -> TransferPace {
        TransferPace(ConnectionLimits(window: .seconds(30), bytesPerWindow: 300))
    }

    @Test(arguments: [(299, false), (300, true)])
    func aBodyKeepsUpWithTheLeastPace(bytes: Int, isKept: Bool) {
        var pace = pace()
        pace.wait(now: Self.start)
        #expect(pace.verdict(now: Self.start + .seconds(10)) == .seconds(20))
        pace.count(bytes)
        #expect((pace.verdict(now: Self.start + .seconds(30)) == .seconds(30)) == isKept)
    }

    @Test func timeInWhichTheServerIsBusyDoesNotCount() {
        var pace = pace()
        pace.wait(now: Self.start)
        pace.stop(now: Self.start + .seconds(29))
        #expect(pace.verdict(now: Self.start + .seconds(1000)) == .seconds(1))
        pace.wait(now: Self.start + .seconds(1000))
        #expect(pace.verdict(now: Self.start + .seconds(1001)) == nil)
    }

    @Test func bytesOfOneWindowDoNotCountForTheNext() {
        var pace = pace()
        pace.wait(now: Self.start)
        pace.count(1 << 30)
        #expect(pace.verdict(now: Self.start + .seconds(30)) == .seconds(30))
        #expect(pace.verdict(now: Self.start + .seconds(60)) == nil)
    }
}
