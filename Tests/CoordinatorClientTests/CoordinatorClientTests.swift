import CoordinatorClient
import JobProtocol
import Synchronization
import TestSupport
import Testing

private let worker = WorkerID(rawValue: "worker-1")

private func text(_ value: some Encodable) -> String {
    String(decoding: Wire.encode(value), as: UTF8.self)
}

private func refusal(_ problem: Problem) -> SocketServer.Reply {
    .response(
        status: problem.status,
        headers: ["Content-Type": Problem.mediaType],
        body: text(problem)
    )
}

@Suite(.timeLimit(.minutes(5)))
struct CoordinatorClientTests {
    /// Waits that the client asked for instead of waiting.
    private final class Waits: Sendable {
        let seconds = Mutex<[Double]>([])
    }

    private func client(
        _ server: SocketServer,
        token: String? = nil,
        patienceSeconds: Double = 10,
        waits: Waits = Waits()
    ) throws -> CoordinatorClient {
        CoordinatorClient(
            try CoordinatorClient.Configuration(
                url: server.url,
                token: token,
                patienceSeconds: patienceSeconds
            ),
            sleep: { seconds in waits.seconds.withLock { $0.append(seconds) } }
        )
    }

    @Test func aSubmissionCarriesTokenAndKeyInItsHeaders() async throws {
        let expected = SubmitReply(job: JobID(rawValue: 7), isReplay: true)
        let server = SocketServer { _, _ in .response(status: 200, body: text(expected)) }
        let request = SubmitRequest(
            source: "/source",
            destination: "/out",
            modelID: String(repeating: "a", count: 64),
            idempotencyKey: "key-1"
        )

        let reply = try await client(server, token: "secret").submit(request)

        #expect(reply == expected)
        let seen = try #require(server.requests.first)
        #expect(seen.method == "POST")
        #expect(seen.path == "/v1/jobs")
        #expect(seen.headers["authorization"] == "Bearer secret")
        #expect(seen.headers["idempotency-key"] == "key-1")
        var body = request
        body.idempotencyKey = nil
        #expect(try Wire.decode(SubmitRequest.self, from: seen.body) == body)
    }

    @Test func aHeartbeatBlocksItsThreadAndNamesTheWorkerInThePath() throws {
        let expected = HeartbeatReply(
            directive: .drain,
            leases: [],
            leaseSeconds: 60,
            heartbeatSeconds: 15
        )
        let server = SocketServer { _, _ in .response(status: 200, body: text(expected)) }

        let reply = try client(server).heartbeat(Heartbeat(worker: try #require(worker)))

        #expect(reply == expected)
        #expect(server.requests.first?.path == "/v1/workers/worker-1/heartbeat")
    }

    @Test func aProblemThatMayPassIsTriedAgain() async throws {
        let problem = Problem(.unavailable, "Busy.", next: "Wait.", retryAfterSeconds: 2)
        let server = SocketServer { _, index in
            index < 2 ? refusal(problem) : .response(status: 200, body: text(JobList(jobs: [])))
        }
        let waits = Waits()

        let reply = try await client(server, waits: waits).jobs()

        #expect(reply == JobList(jobs: []))
        #expect(server.requests.count == 3)
        let seconds = waits.seconds.withLock(\.self)
        #expect(seconds.count == 2)
        #expect(seconds.allSatisfy { $0 >= 2 })
    }

    @Test func aRefusalThatStaysIsThrownAtOnce() async throws {
        let problem = Problem(.notFound, "No job 9.", next: "flowpack jobs")
        let server = SocketServer { _, _ in refusal(problem) }

        let error = await #expect(throws: APIError.self) {
            _ = try await client(server).job(JobID(rawValue: 9))
        }

        #expect(error == .refused(problem))
        #expect(server.requests.count == 1)
    }

    @Test func patienceEnds() async throws {
        let problem = Problem(.unavailable, "Busy.", next: "Wait.", retryAfterSeconds: 4)
        let server = SocketServer { _, _ in refusal(problem) }

        let error = await #expect(throws: APIError.self) {
            _ = try await client(server, patienceSeconds: 9).jobs()
        }

        #expect(error == .refused(problem))
        #expect((2...3).contains(server.requests.count))
    }

    @Test func aProxysUnavailableIsTriedAgain() async throws {
        let server = SocketServer { _, index in
            index == 0
                ? .response(status: 502, headers: ["Content-Type": "text/html"], body: "<html>")
                : .response(status: 200, body: text(JobList(jobs: [])))
        }

        _ = try await client(server).jobs()

        #expect(server.requests.count == 2)
    }

    @Test func aRequestThatCameTooSoonIsSentAgainWhenTheCoordinatorSays() async throws {
        let problem = Problem(.rateLimited, "Too fast.", next: "Wait.", retryAfterSeconds: 7)
        let server = SocketServer { _, index in
            index == 0 ? refusal(problem) : .response(status: 200, body: text(JobList(jobs: [])))
        }
        let waits = Waits()

        _ = try await client(server, waits: waits).jobs()

        #expect(waits.seconds.withLock { $0 } == [7])
    }

    @Test(arguments: [(200, "not JSON"), (404, "<html>"), (301, "")])
    func anAnswerOfSomethingElseIsUnintelligible(status: Int, body: String) async throws {
        let server = SocketServer { _, _ in .response(status: status, body: body) }

        let error = await #expect(throws: APIError.self) { _ = try await client(server).jobs() }

        guard case .unintelligible = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(server.requests.count == 1)
    }

    @Test(arguments: [
        "", "coordinator:7878", "ftp://host", "http://", "http://host/v1", "http://h?x",
    ])
    func aURLThatIsNoCoordinatorsIsRefused(url: String) {
        #expect(throws: ClientConfigurationError.badURL(url)) {
            _ = try CoordinatorClient.Configuration(url: url, token: nil)
        }
    }

    @Test func aTrailingSlashIsFine() throws {
        let configuration = try CoordinatorClient.Configuration(url: "https://host:1/", token: nil)
        #expect(configuration.url == "https://host:1")
    }

    // MARK: Bytes

    /// A server that takes uploads, and breaks the connection in the middle of the first.
    private final class UploadServer: Sendable {
        let there = Mutex(0)

        func answer(_ request: SocketServer.Request, _ index: Int) -> SocketServer.Reply {
            there.withLock { there in
                if index == 0 {
                    there = 4
                    return .raw("")
                }
                if let value = request.headers["content-range"], let part = ContentRange(value) {
                    there = Int(part.bytes.upperBound)
                }
                return .response(status: 200, headers: [BlobHeader.offset: String(there)])
            }
        }
    }

    @Test func anUploadGoesOnWhereTheConnectionBroke() async throws {
        let upload = UploadServer()
        let server = SocketServer { request, index in upload.answer(request, index) }
        let sha256 = String(repeating: "a", count: 64)
        let lease = try #require(LeaseID("1.1.1"))

        try await client(server).put(Array("a shard".utf8), sha256: sha256, for: lease)

        let requests = server.requests
        #expect(requests.map(\.method) == ["PUT", "HEAD", "PUT"])
        #expect(requests.allSatisfy { $0.path == "/v1/blobs/\(sha256)?lease=1.1.1" })
        #expect(requests.last?.headers["content-range"] == "bytes 4-6/7")
        #expect(requests.last.map { String(decoding: $0.body, as: UTF8.self) } == "ard")
    }

    @Test func samplesThatBreakOffAreFetchedAgain() async throws {
        let frame = SampleFrame.header(fileBytes: 2) + [97, 98]
        let server = SocketServer { _, index in
            index == 0
                ? .raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab")
                : .response(status: 200, body: String(decoding: frame, as: UTF8.self))
        }
        let lease = try #require(LeaseID("1.1.1"))

        let frames = try await client(server, patienceSeconds: 0).samples(of: lease, from: 3)

        #expect(frames == [.file([97, 98])])
        let path = "/v1/leases/1.1.1/samples?from=3"
        #expect(server.requests.map(\.path) == [path, path])
    }
}
