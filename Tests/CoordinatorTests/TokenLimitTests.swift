import Coordinator
import Hummingbird
import HummingbirdTesting
import JobProtocol
import Testing

/// What a token may do at most: open jobs, and requests in a second.
struct TokenLimitTests {
    private static let token = "a-token-0123456789"

    /// Runs a test against a server with one token, whose line begins with some words, and with
    /// folders for jobs.
    private func withServer(
        _ words: String,
        _ body: @Sendable (any TestClientProtocol, _ folder: String) async throws -> Void
    ) async throws {
        try await withTemporaryFolder { folder in
            try write("image", to: folder + "/in/a.png")
            for output in ["a", "b", "c"] {
                try write("model", to: "\(folder)/\(output)/\(DatasetLayout.modelFile(id: model))")
            }
            let coordinator = try LocalCoordinator(folder: folder + "/state", logger: silent)
            let tokens = try Tokens(text: "\(words) \(Self.token)")
            try await coordinator.withClient(tokens: tokens) { try await body($0, folder) }
        }
    }

    private let model = digest("d")

    private func send(
        _ route: Route,
        _ parameter: (any LosslessStringConvertible)? = nil,
        _ body: [UInt8] = [],
        to client: any TestClientProtocol
    ) async throws -> TestResponse {
        try await client.execute(
            uri: route.path(parameter),
            method: route.method.request,
            headers: [.authorization: "Bearer \(Self.token)"],
            body: ByteBuffer(bytes: body)
        )
    }

    private func decode<Value: Decodable>(
        _ type: Value.Type,
        _ response: TestResponse
    ) throws -> Value {
        try Wire.decode(type, from: Array(response.body.readableBytesView))
    }

    /// Submits a job and returns it; or the code of the refusal.
    private func submit(
        _ output: String,
        in folder: String,
        to client: any TestClientProtocol
    ) async throws -> Result<JobID, Problem> {
        let request = SubmitRequest(
            source: folder + "/in",
            destination: "\(folder)/\(output)",
            modelID: model
        )
        let response = try await send(.submit, nil, Wire.encode(request), to: client)
        guard response.status == .ok else {
            #expect(response.status == .tooManyRequests)
            return .failure(try decode(Problem.self, response))
        }
        return .success(try decode(SubmitReply.self, response).job)
    }

    @Test func aTokenHasItsNumberOfOpenJobsAndNoMore() async throws {
        try await withServer("submit jobs=2") { client, folder in
            let first = try await submit("a", in: folder, to: client).get()
            _ = try await submit("b", in: folder, to: client).get()

            let third = try await submit("c", in: folder, to: client)
            #expect(throws: Problem.self) { try third.get() }
            if case .failure(let problem) = third {
                #expect(problem.code == .quotaExceeded)
                #expect(!problem.retryable)
            }
            // The same again is no new job, and one that has ended makes room.
            #expect(try await submit("a", in: folder, to: client).get() == first)
            #expect(try await send(.cancel, first, to: client).status == .ok)
            _ = try await submit("c", in: folder, to: client).get()
        }
    }

    @Test func aTokenThatAsksTooOftenIsToldWhenToComeBack() async throws {
        try await withServer("read requests=1") { client, _ in
            var refusal: TestResponse?
            for _ in 0..<10_000 where refusal == nil {
                let response = try await send(.jobs, to: client)
                if response.status != .ok { refusal = response }
            }
            let response = try #require(refusal)
            #expect(response.status == .tooManyRequests)
            #expect(response.headers[.retryAfter] == "1")
            let problem = try decode(Problem.self, response)
            #expect(problem.code == .rateLimited)
            #expect(problem.retryable)
        }
    }

    @Test func aHeartbeatIsNeverTooMuch() async throws {
        try await withServer("worker requests=1") { client, _ in
            let beat = Wire.encode(Heartbeat(worker: try worker("w")))
            for _ in 0..<100 {
                let response = try await send(.heartbeat, try worker("w"), beat, to: client)
                #expect(response.status == .ok)
            }
        }
    }

    @Test func aBucketFillsAsTimePasses() {
        let start = ContinuousClock.now
        var bucket = RequestBucket(perSecond: 2, now: start)
        // Ten seconds' worth at once.
        for _ in 0..<20 { #expect(bucket.take(now: start) == nil) }
        #expect(bucket.take(now: start) == 1)
        #expect(bucket.take(now: start + .milliseconds(499)) == 1)
        #expect(bucket.take(now: start + .milliseconds(501)) == nil)
        #expect(bucket.take(now: start + .milliseconds(502)) == 1)
        // No more than that, however long nobody asks.
        for _ in 0..<20 { #expect(bucket.take(now: start + .seconds(3600)) == nil) }
        #expect(bucket.take(now: start + .seconds(3600)) == 1)
    }

    @Test func limitsStandBetweenScopeAndToken() throws {
        let tokens = try Tokens(
            text: """
                submit requests=5 jobs=20 \(Self.token)  # of the laboratory
                read \(Self.token)
                """
        )
        let holder = try #require(tokens.holder(of: Self.token))
        #expect(holder.scopes == [.submit, .read])
        #expect(holder.limits == TokenLimits(openJobs: 20, requestsPerSecond: 5))
        #expect(!holder.id.contains(Self.token))
    }

    @Test(arguments: [
        ("boss a-token-0123456789", "\"boss\" is no scope"),
        ("\nsubmit job=20 a-token-0123456789", "Line 2 of the token file: \"job=20\" is no limit"),
        ("read jobs=20 a-token-0123456789", "jobs=20 is for tokens that submit"),
        ("submit jobs=-1 a-token-0123456789", "\"jobs=-1\" is no limit"),
    ])
    func anErrorInATokenFileSaysWhereAndWhatToWrite(text: String, part: String) {
        let error = #expect(throws: StartError.self) { try Tokens(text: text) }
        #expect(error?.message.contains(part) == true, "\(String(describing: error))")
    }
}
