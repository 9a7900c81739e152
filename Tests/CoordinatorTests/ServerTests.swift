import Coordinator
import Hummingbird
import HummingbirdTesting
import JobProtocol
import Testing

/// The HTTP surface, without sockets.
struct ServerTests {
    private static let tokenText = """
        # one for each scope
        read   read-token-0123456789
        submit submit-token-0123456789
        worker worker-token-0123456789
        admin  admin-token-0123456789
        """

    /// Runs a test against a server on an empty queue.
    private func withServer(
        tokens: Tokens? = nil,
        _ body: @Sendable (any TestClientProtocol) async throws -> Void
    ) async throws {
        try await withTemporaryFolder { folder in
            try await LocalCoordinator(folder: folder, logger: silent)
                .withClient(tokens: tokens, body)
        }
    }

    private func send(
        _ route: Route,
        _ parameter: (any LosslessStringConvertible)? = nil,
        body: String? = nil,
        token: String? = nil,
        to client: any TestClientProtocol
    ) async throws -> TestResponse {
        try await client.execute(
            uri: route.path(parameter),
            method: route.method.request,
            headers: token.map { [.authorization: "Bearer \($0)"] } ?? [:],
            body: body.map { ByteBuffer(string: $0) }
        )
    }

    private func decode<Value: Decodable>(
        _ type: Value.Type,
        _ response: TestResponse
    ) throws -> Value {
        try Wire.decode(type, from: Array(response.body.readableBytesView))
    }

    private func parameter(of route: Route) -> (any LosslessStringConvertible)? {
        switch route.parameter {
        case "job": JobID(rawValue: 7)
        case "worker": WorkerID("w")
        case "lease": LeaseID("1.1.1")
        case "sha256": digest("a")
        default: nil
        }
    }

    @Test(arguments: Route.allCases)
    func everyRouteIsServed(route: Route) async throws {
        try await withServer { client in
            let response = try await send(route, parameter(of: route), body: "{", to: client)
            if route.method == .head {
                // There is no body; the path's parameter is read, the lease is missing.
                #expect(response.status == .badRequest)
            } else if response.status != .ok {
                let problem = try decode(Problem.self, response)
                #expect(response.headers[.contentType] == Problem.mediaType)
                #expect(problem.status == response.status.code)
                // A path that is not served would be answered with its own name.
                #expect(!problem.detail.contains(route.path(parameter(of: route))))
            }
        }
    }

    @Test func anUnknownPathIsAProblem() async throws {
        try await withServer { client in
            let response = try await client.execute(uri: "/v2/jobs", method: .get)
            #expect(response.status == .notFound)
            #expect(try decode(Problem.self, response).code == .notFound)
            #expect(response.headers[.contentType] == Problem.mediaType)
        }
    }

    @Test func anotherMethodIsRefusedWithThoseThatThereAre() async throws {
        try await withServer { client in
            let response = try await client.execute(uri: "/v1/jobs/7", method: .delete)
            #expect(response.status == .methodNotAllowed)
            #expect(try decode(Problem.self, response).code == .methodNotAllowed)
            #expect(response.headers[.allow] == "GET, HEAD")
        }
    }

    @Test func aHeadOfAnUnknownPathHasNoBody() async throws {
        try await withServer { client in
            let response = try await client.execute(uri: "/v2/jobs", method: .head)
            #expect(response.status == .notFound)
            #expect(response.body.readableBytes == 0)
        }
    }

    @Test func headIsServedWhereGetIs() async throws {
        try await withServer { client in
            let response = try await client.execute(uri: Route.health.path(), method: .head)
            #expect(response.status == .ok)
            #expect(response.headers[.contentLength] == "3")
            #expect(response.body.readableBytes == 0)
        }
    }

    @Test func workersRegisterLeaseAndBeatOverHTTP() async throws {
        try await withServer { client in
            let id = try worker("w")
            let me = String(decoding: Wire.encode(try registration("w")), as: UTF8.self)
            let registered = try await send(.register, body: me, to: client)
            #expect(try decode(RegistrationReply.self, registered).leaseSeconds == 60)

            let wish = #"{"worker":"w","shards":2,"waitSeconds":0}"#
            let leases = try await send(.lease, body: wish, to: client)
            #expect(try decode(LeaseReply.self, leases).isDrained)

            let beat = String(decoding: Wire.encode(Heartbeat(worker: id)), as: UTF8.self)
            let answer = try await send(.heartbeat, id, body: beat, to: client)
            #expect(try decode(HeartbeatReply.self, answer).directive == .continue)

            let list = try await send(.workers, to: client)
            #expect(try decode(WorkerList.self, list).workers.map(\.state) == [.active])
        }
    }

    @Test func pathAndBodyNameTheSameWorker() async throws {
        try await withServer { client in
            let beat = String(
                decoding: Wire.encode(Heartbeat(worker: try worker("v"))),
                as: UTF8.self
            )
            let answer = try await send(.heartbeat, try worker("w"), body: beat, to: client)
            #expect(answer.status == .badRequest)
        }
    }

    @Test(arguments: [
        "", "{", "[]", #"{"worker":"w"}"#, #"{"worker":"a/b","shards":1,"waitSeconds":0}"#,
        #"{"worker":"w","shards":0,"waitSeconds":0}"#,
        #"{"worker":"w","shards":65,"waitSeconds":0}"#,
        #"{"worker":"w","shards":1,"waitSeconds":26}"#,
        #"{"worker":"w","shards":1e99,"waitSeconds":0}"#,
    ])
    func aMalformedBodyIsRefused(body: String) async throws {
        try await withServer { client in
            let response = try await send(.lease, body: body, to: client)
            #expect(response.status == .badRequest)
            #expect(try decode(Problem.self, response).code == .malformedRequest)
        }
    }

    /// SQLite would cut it at the 0.
    @Test func textWithAZeroByteIsRefused() async throws {
        try await withServer { client in
            var me = try registration("w")
            me.host = "host\0x"
            let body = String(decoding: Wire.encode(me), as: UTF8.self)
            let response = try await send(.register, body: body, to: client)
            #expect(try decode(Problem.self, response).code == .malformedRequest)

            let submission =
                #"{"source":"/in","destination":"/out","modelID":"\#(digest("d"))","#
                + #""idempotencyKey":"n\u0000a"}"#
            let refused = try await send(.submit, body: submission, to: client)
            let problem = try decode(Problem.self, refused)
            #expect(problem.code == .malformedRequest && problem.detail.contains("key"))
        }
    }

    @Test(arguments: ["-1", "1e308"])
    func aRateThatNoWorkerHasIsRefused(rate: String) async throws {
        try await withServer { client in
            let beat =
                #"{"worker":"w","isDraining":false,"isLeaving":false,"leases":[],"#
                + #""sourceBytesPerSecond":\#(rate)}"#
            let response = try await send(.heartbeat, try worker("w"), body: beat, to: client)
            let problem = try decode(Problem.self, response)
            #expect(problem.detail.contains("sourceBytesPerSecond"))
        }
    }

    @Test func aSubmissionNamesSourceDestinationAndModelAndNoMore() async throws {
        try await withTemporaryFolder { folder in
            let model = digest("d")
            try write("image", to: folder + "/in/a.png")
            try write("model", to: "\(folder)/out/\(DatasetLayout.modelFile(id: model))")
            let least =
                #"{"source":"\#(folder)/in","destination":"\#(folder)/out","modelID":"\#(model)"}"#
            try await withServer { client in
                let reply = try decode(
                    SubmitReply.self,
                    try await send(.submit, body: least, to: client)
                )
                let status = try decode(
                    JobStatus.self,
                    try await send(.job, reply.job, to: client)
                )
                #expect(status.priority == 0)
                #expect(status.maxWorkers == nil)
            }
        }
    }

    @Test func aBodyThatIsTooLargeIsRefused() async throws {
        try await withServer { client in
            let body = String(repeating: " ", count: Limits.requestBytes + 1)
            let response = try await send(.submit, body: body, to: client)
            #expect(response.status == .contentTooLarge)
            #expect(try decode(Problem.self, response).code == .bodyTooLarge)
        }
    }

    @Test(arguments: ["x", "0", "-1", "1.5"])
    func aPathThatNamesNoJobIsRefused(job: String) async throws {
        try await withServer { client in
            let response = try await client.execute(uri: "/v1/jobs/\(job)", method: .get)
            #expect(response.status == .badRequest)
        }
    }

    // MARK: Tokens

    @Test(arguments: TokenScope.allCases)
    func aTokenOpensItsRoutesAndNoOther(scope: TokenScope) async throws {
        try await withServer(tokens: try Tokens(text: Self.tokenText)) { client in
            for route in Route.allCases {
                let response = try await send(
                    route,
                    parameter(of: route),
                    body: "{",
                    token: "\(scope.rawValue)-token-0123456789",
                    to: client
                )
                let isAllowed = route.scope.map { scope.allows($0) } ?? true
                #expect((response.status == .forbidden) == !isAllowed, "\(route)")
            }
        }
    }

    @Test(arguments: [nil, "", "guess-guess-guess", "read-token-012345678", "x"])
    func withoutATokenNothingButHealthIsOpen(token: String?) async throws {
        try await withServer(tokens: try Tokens(text: Self.tokenText)) { client in
            for route in Route.allCases {
                let response = try await send(
                    route,
                    parameter(of: route),
                    body: "{",
                    token: token,
                    to: client
                )
                #expect((response.status == .unauthorized) == (route.scope != nil), "\(route)")
                if response.status == .unauthorized {
                    #expect(response.headers[.wwwAuthenticate] == "Bearer")
                }
            }
        }
    }

    @Test func aDigestInTheFileStandsForItsToken() throws {
        // SHA-256 of "abc".
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        let tokens = try Tokens(text: "worker sha256:\(digest)\n")
        #expect(tokens.holder(of: "abc")?.scopes == [.worker])
        #expect(tokens.holder(of: digest) == nil)
        #expect(tokens.holder(of: "sha256:\(digest)") == nil)
    }

    @Test func aBareTokenIsAnAdministrators() throws {
        let tokens = try Tokens(text: "  0123456789abcdef  # of the operator\n\n")
        #expect(tokens.holder(of: "0123456789abcdef")?.scopes == [.admin])
    }

    @Test(arguments: [
        "submit jobs=0 0123456789abcdef", "submit jobs 0123456789abcdef",
        "submit shards=3 0123456789abcdef", "worker jobs=3 0123456789abcdef",
        "submit jobs=9999999999999999999 0123456789abcdef", "submit jobs=1=2 0123456789abcdef",
        "", "# nothing\n", "boss 0123456789abcdef", "read short", "a b c", "sha256:12",
        "read 0123456789abcdef\nworker",
    ])
    func aTokenFileWithAnErrorIsRefused(text: String) {
        #expect(throws: StartError.self) { try Tokens(text: text) }
    }

    // MARK: Addresses

    @Test(arguments: [
        ("127.0.0.1:7878", true), ("127.9.9.9:1", true), ("localhost:0", true), ("[::1]:80", true),
        ("0.0.0.0:7878", false), ("[::]:7878", false), ("192.168.1.2:7878", false),
        ("127.example.org:7878", false), ("[fe80::1]:1", false),
    ])
    func anAddressIsLoopbackOrNot(text: String, isLoopback: Bool) throws {
        #expect(try #require(ListenAddress(text)).isLoopback == isLoopback)
    }

    @Test(arguments: ["", "7878", "127.0.0.1", "127.0.0.1:", ":7878", "h:65536", "h:-1", "::1:80"])
    func textThatIsNoAddressIsRefused(text: String) {
        #expect(ListenAddress(text) == nil)
    }

    @Test func aPublicAddressNeedsTokens() async throws {
        try await withTemporaryFolder { folder in
            let coordinator = try LocalCoordinator(folder: folder, logger: silent)
            let address = try #require(ListenAddress("0.0.0.0:7878"))
            #expect(throws: StartError.self) {
                _ = try Server.make(
                    coordinator: coordinator,
                    listen: address,
                    tokens: nil,
                    logger: silent
                )
            }
            _ = try Server.make(
                coordinator: coordinator,
                listen: address,
                tokens: try Tokens(text: Self.tokenText),
                logger: silent
            )
        }
    }

    // MARK: Metrics

    @Test func metricsAreInThePrometheusFormat() async throws {
        try await withServer { client in
            _ = try await send(.jobs, to: client)
            let response = try await send(.metrics, to: client)
            let lines = String(buffer: response.body).split(separator: "\n")
            #expect(lines.contains(#"flowpack_http_requests_total{route="jobs",status="200"} 1"#))
            for state in ShardState.allCases {
                #expect(lines.contains("flowpack_shards{state=\"\(state.rawValue)\"} 0"))
            }
            let series = /[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.]+/
            #expect(lines.allSatisfy { $0.hasPrefix("# ") || $0.wholeMatch(of: series) != nil })
        }
    }
}
