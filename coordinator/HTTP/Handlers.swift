import Hummingbird
import JobProtocol
import Logging
import OpenAPI
import ServiceLifecycle

/// Answers to every route: reads the request, asks the coordinator, writes what it says.
struct Handlers: Sendable {
    let coordinator: LocalCoordinator
    /// Nil when everyone who reaches the address may do everything.
    let tokens: Tokens?
    let counter: RequestCounter
    let rates = RequestRates()
    let logger: Logger

    /// Answers a request, whose path parameter has the value `parameter`; errors become problems.
    func respond(to route: Route, _ request: Request, parameter: String?) async -> Response {
        var response: Response
        do {
            let holder = try authorise(request, for: route)
            let call = Call(request: request, parameter: parameter ?? "", holder: holder)
            response = try await answer(to: route)(call)
        } catch let problem as Problem {
            response = problem.response
        } catch APIError.refused(let problem) {
            if problem.code == .internalError {
                logger.error("\(route.rawValue) failed: \(problem.detail)")
            }
            response = problem.response
        } catch {
            logger.error("\(route.rawValue) failed: \(error)")
            response =
                Problem(
                    .internalError,
                    "The request failed.",
                    next: "Look into the coordinator's log."
                ).response
        }
        counter.count(route, status: response.status.code)
        if route.method == .head { response.body = ResponseBody() }
        return response
    }

    /// Returns whose request it is; nil where nobody has to say.
    private func authorise(
        _ request: Request,
        for route: Route
    ) throws(Problem) -> Tokens.Holder? {
        guard let tokens, let scope = route.scope else { return nil }
        let prefix = "Bearer "
        guard let header = request.headers[.authorization], header.hasPrefix(prefix) else {
            throw Problem(
                .unauthenticated,
                "\(route.template) needs a bearer token.",
                next: "Name a file that holds the token with --token-file."
            )
        }
        guard let holder = tokens.holder(of: String(header.dropFirst(prefix.count))) else {
            throw Problem(
                .unauthenticated,
                "The token is unknown.",
                next: "Ask the operator for a token; they are in the coordinator's token file."
            )
        }
        guard holder.scopes.contains(where: { $0.allows(scope) }) else {
            throw Problem(
                .forbidden,
                "\(route.template) needs a token with the scope \(scope.rawValue).",
                next: "Use another token."
            )
        }
        // A heartbeat that is refused costs a lease.
        if route != .heartbeat, let seconds = rates.take(holder) {
            throw .tooFast(holder, retryAfterSeconds: seconds)
        }
        return holder
    }

    /// A request, the value of its path's parameter, and whose it is where somebody has to say.
    private struct Call {
        let request: Request
        let parameter: String
        let holder: Tokens.Holder?
    }

    /// Returns what answers a route.
    ///
    /// A connection's task keeps the memory of the largest frame that it ever had. One function for
    /// all routes has a frame of 17 kB; of closures only those count that the connection called.
    private func answer(to route: Route) -> (Call) async throws -> Response {
        switch route {
        case .submit:
            return { call in
                var submission = try await body(SubmitRequest.self, of: call.request)
                let key = call.request.headers.first {
                    $0.name.canonicalName == Route.idempotencyKeyHeader.lowercased()
                }
                submission.idempotencyKey = key?.value ?? submission.idempotencyKey
                return .json(try await coordinator.submit(submission, by: call.holder?.submitter))
            }
        case .jobs:
            return { _ in .json(try await coordinator.jobs()) }
        case .job:
            return { .json(try await coordinator.job(try id($0.parameter))) }
        case .explain:
            return { .json(try await coordinator.explain(try id($0.parameter))) }
        case .events:
            return { call in
                let after = try after(call.request) ?? 0
                return .json(
                    try await coordinator.events(of: try id(call.parameter), after: after)
                )
            }
        case .shards:
            return { call in
                let after = try after(call.request).map { Int($0) }
                let state = try shardState(call.request)
                return .json(
                    try await coordinator.shards(
                        of: try id(call.parameter),
                        in: state,
                        after: after
                    )
                )
            }
        case .pause:
            return { .json(try await coordinator.pause(try id($0.parameter))) }
        case .resume:
            return { .json(try await coordinator.resume(try id($0.parameter))) }
        case .cancel:
            return { .json(try await coordinator.cancel(try id($0.parameter))) }
        case .retry:
            return { call in
                let job: JobID = try id(call.parameter)
                return .json(try await coordinator.retry(job, by: call.holder?.submitter))
            }
        case .workers:
            return { _ in .json(try await coordinator.workers()) }
        case .pauseWorker:
            return { .json(try await coordinator.pauseWorker(try id($0.parameter))) }
        case .resumeWorker:
            return { .json(try await coordinator.resumeWorker(try id($0.parameter))) }
        case .drainWorker:
            return { .json(try await coordinator.drainWorker(try id($0.parameter))) }
        case .register:
            return { call in
                let registration = try await body(WorkerRegistration.self, of: call.request)
                return .json(try await coordinator.register(registration))
            }
        case .heartbeat:
            return { call in
                let heartbeat = try await body(Heartbeat.self, of: call, naming: \.worker)
                return .json(try await coordinator.receive(heartbeat))
            }
        case .selftest:
            return { call in
                let report = try await body(SelftestReport.self, of: call, naming: \.worker)
                return .json(try await coordinator.report(report))
            }
        case .lease:
            return { call in
                let wish = try await body(LeaseRequest.self, of: call.request)
                return .json(
                    try await cancelWhenGracefulShutdown { try await coordinator.lease(wish) }
                )
            }
        case .complete:
            return { call in
                let completion = try await body(Completion.self, of: call, naming: \.lease)
                return .json(try await coordinator.complete(completion))
            }
        case .fail:
            return { call in
                let report = try await body(FailureReport.self, of: call, naming: \.lease)
                return .json(try await coordinator.fail(report))
            }
        case .clear:
            return { call in
                let clearance = try await body(ClearRequest.self, of: call, naming: \.lease)
                return .json(try await coordinator.clear(clearance))
            }
        case .release:
            return { call in
                let release = try await body(ReleaseRequest.self, of: call, naming: \.lease)
                return .json(try await coordinator.release(release))
            }
        case .samples:
            return { try await samples($0.request, $0.parameter) }
        case .blob:
            return { try await blob($0.request, $0.parameter) }
        case .blobState:
            return { try await blobState($0.request, $0.parameter) }
        case .upload:
            return { try await upload($0.request, $0.parameter) }
        case .uploadURLs:
            return { call in
                let wish = try await body(UploadRequest.self, of: call, naming: \.lease)
                return .json(try await coordinator.urls(for: wish))
            }
        case .health:
            return { _ in .text("ok\n", mediaType: "text/plain") }
        case .readiness:
            return { _ in
                _ = try await coordinator.queue.isDrained()
                return .text("ready\n", mediaType: "text/plain")
            }
        case .metrics:
            return { _ in
                let census = try await coordinator.queue.census()
                let metrics = MetricsText(census: census, requests: counter.snapshot)
                return .text(metrics.text, mediaType: MetricsText.mediaType)
            }
        case .version:
            return { _ in .json(VersionReply()) }
        case .openapi:
            return { _ in .text(OpenAPI.document, mediaType: "application/yaml") }
        }
    }

    /// Reads a job's or a worker's id from the path.
    func id<ID: LosslessStringConvertible>(_ parameter: String) throws(Problem) -> ID {
        guard let id = ID(parameter) else {
            throw .malformed("\"\(parameter)\" in the path is not an id.")
        }
        return id
    }

    /// Reads the query parameter `after`; nil when there is none.
    private func after(_ request: Request) throws(Problem) -> Int64? {
        guard let text = request.uri.queryParameters[Route.afterParameter[...]] else { return nil }
        guard let number = Int64(text), number >= 0 else {
            throw .malformed("The parameter \(Route.afterParameter), \"\(text)\", is no number.")
        }
        return number
    }

    /// Reads the query parameter `state`; nil when there is none.
    private func shardState(_ request: Request) throws(Problem) -> ShardState? {
        guard let text = request.uri.queryParameters[Route.stateParameter[...]] else { return nil }
        guard let state = ShardState(rawValue: String(text)) else {
            let states = ShardState.allCases.map(\.rawValue).joined(separator: ", ")
            throw .malformed(
                "The parameter \(Route.stateParameter), \"\(text)\", is none of \(states)."
            )
        }
        return state
    }

    /// Reads a body of JSON that names the same worker or lease as the path.
    private func body<Value: Decodable>(
        _ type: Value.Type,
        of call: Call,
        naming id: KeyPath<Value, some LosslessStringConvertible>
    ) async throws -> Value {
        let value = try await body(type, of: call.request)
        let name = value[keyPath: id].description
        guard name == call.parameter else {
            throw Problem.malformed("The path names \(call.parameter), the body \(name).")
        }
        return value
    }

    /// Reads a body of JSON.
    private func body<Value: Decodable>(
        _ type: Value.Type,
        of request: Request
    ) async throws -> Value {
        var bytes: [UInt8] = []
        for try await part in request.body {
            guard bytes.count + part.readableBytes <= Limits.requestBytes else {
                throw Problem(
                    .bodyTooLarge,
                    "The body has more than \(Limits.requestBytes) bytes.",
                    next: "Use smaller shards."
                )
            }
            bytes.append(contentsOf: part.readableBytesView)
        }
        do {
            return try Wire.decode(type, from: bytes)
        } catch {
            throw Problem.malformed("The body is not right at \"\(error.path)\": \(error.reason)")
        }
    }
}

extension Tokens.Holder {
    /// Who submits, as the queue knows it.
    fileprivate var submitter: Submitter { Submitter(id: id, openJobs: limits.openJobs) }
}

extension Problem {
    fileprivate static func tooFast(
        _ holder: Tokens.Holder,
        retryAfterSeconds: Int
    ) -> Problem {
        Problem(
            .rateLimited,
            "The token may make \(holder.limits.requestsPerSecond ?? 0) requests in a second.",
            next: "Wait; requests=N in the coordinator's token file sets the limit.",
            retryAfterSeconds: retryAfterSeconds
        )
    }
}

/// The answer of `/version`.
private struct VersionReply: Encodable {
    let version = Release.version
    let protocolVersion = Limits.protocolVersion
}

extension Problem {
    /// The problem as an answer.
    var response: Response {
        var response = Response.json(self, status: HTTPResponse.Status(code: status))
        response.headers[.contentType] = Problem.mediaType
        if let retryAfterSeconds {
            response.headers[.retryAfter] = String(retryAfterSeconds)
        }
        if code == .unauthenticated {
            response.headers[.wwwAuthenticate] = "Bearer"
        }
        return response
    }
}

extension Response {
    fileprivate static func json(
        _ value: some Encodable,
        status: HTTPResponse.Status = .ok
    ) -> Response {
        Response(
            status: status,
            headers: [.contentType: "application/json"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: Wire.encode(value)))
        )
    }

    fileprivate static func text(_ text: String, mediaType: String) -> Response {
        Response(
            status: .ok,
            headers: [.contentType: mediaType],
            body: ResponseBody(byteBuffer: ByteBuffer(string: text))
        )
    }
}
