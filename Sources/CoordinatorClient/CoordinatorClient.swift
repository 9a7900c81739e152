import Foundation
package import HTTPTransport
package import JobProtocol

/// A coordinator at the other end of an HTTP connection.
///
/// Calls that failed for a reason that may pass are tried again, with ``Backoff``, for
/// ``Configuration/patienceSeconds``; a refusal that will stay is thrown at once. A cancelled task
/// ends its call within a second, as `APIError.unreachable`.
package final class CoordinatorClient: CoordinatorAPI {
    package struct Configuration: Sendable {
        /// `http://` or `https://`, host, port; without a path.
        package var url: String
        /// Bearer token; nil for a coordinator that asks for none.
        package var token: String?
        /// Whom to trust behind an `https` URL, and by what to be known there.
        package var tls: TLSFiles
        /// How long to try again before giving up, in seconds of waiting.
        package var patienceSeconds: Double

        /// - Throws: `ClientConfigurationError` for a URL that is none.
        package init(
            url: String,
            token: String?,
            tls: TLSFiles = TLSFiles(),
            patienceSeconds: Double = 10
        ) throws(ClientConfigurationError) {
            let trimmed = url.hasSuffix("/") ? String(url.dropLast()) : url
            guard let components = URLComponents(string: trimmed),
                let scheme = components.scheme, ["http", "https"].contains(scheme),
                components.host?.isEmpty == false, components.path.isEmpty,
                components.query == nil, components.fragment == nil
            else { throw .badURL(url) }
            self.url = trimmed
            self.token = token
            self.tls = tls
            self.patienceSeconds = patienceSeconds
        }
    }

    /// Longest wait for the answer to an ordinary call, in seconds.
    static let callTimeoutSeconds = 60.0
    /// Longest wait for the answer to a heartbeat, in seconds: over before the next one is due.
    static let heartbeatTimeoutSeconds = 10.0

    private let configuration: Configuration
    private let http: HTTPClient
    /// Heartbeats have handles of their own: no other call can be in their way.
    private let heartbeats: HTTPClient
    private let sleep: @Sendable (_ seconds: Double) async throws -> Void

    /// A client; `sleep` waits between two tries, and tests pass their own.
    package init(
        _ configuration: Configuration,
        sleep: @escaping @Sendable (_ seconds: Double) async throws -> Void = {
            try await Task.sleep(for: .seconds($0))
        }
    ) {
        self.configuration = configuration
        http = HTTPClient(tls: configuration.tls)
        heartbeats = HTTPClient(tls: configuration.tls)
        self.sleep = sleep
    }

    package func submit(_ request: SubmitRequest) async throws(APIError) -> SubmitReply {
        var body = request
        body.idempotencyKey = nil
        var message = self.request(.submit, body: Wire.encode(body))
        if let key = request.idempotencyKey {
            message.headers.append((name: Route.idempotencyKeyHeader, value: key))
        }
        return try await call(message)
    }

    package func jobs() async throws(APIError) -> JobList {
        try await call(request(.jobs))
    }

    package func job(_ job: JobID) async throws(APIError) -> JobStatus {
        try await call(request(.job, job))
    }

    package func explain(_ job: JobID) async throws(APIError) -> Diagnosis {
        try await call(request(.explain, job))
    }

    package func events(of job: JobID, after: Int64) async throws(APIError) -> EventList {
        var message = request(.events, job)
        message.url += "?\(Route.afterParameter)=\(after)"
        return try await call(message)
    }

    package func shards(
        of job: JobID,
        in state: ShardState?,
        after ordinal: Int?
    ) async throws(APIError) -> ShardList {
        let parameters = [
            state.map { "\(Route.stateParameter)=\($0.rawValue)" },
            ordinal.map { "\(Route.afterParameter)=\($0)" },
        ].compactMap(\.self)
        var message = request(.shards, job)
        if !parameters.isEmpty { message.url += "?" + parameters.joined(separator: "&") }
        return try await call(message)
    }

    package func pause(_ job: JobID) async throws(APIError) -> JobStatus {
        try await call(request(.pause, job))
    }

    package func resume(_ job: JobID) async throws(APIError) -> JobStatus {
        try await call(request(.resume, job))
    }

    package func cancel(_ job: JobID) async throws(APIError) -> JobStatus {
        try await call(request(.cancel, job))
    }

    package func retry(_ job: JobID) async throws(APIError) -> JobStatus {
        try await call(request(.retry, job))
    }

    package func workers() async throws(APIError) -> WorkerList {
        try await call(request(.workers))
    }

    package func pauseWorker(_ worker: WorkerID) async throws(APIError) -> Acknowledgement {
        try await call(request(.pauseWorker, worker))
    }

    package func resumeWorker(_ worker: WorkerID) async throws(APIError) -> Acknowledgement {
        try await call(request(.resumeWorker, worker))
    }

    package func drainWorker(_ worker: WorkerID) async throws(APIError) -> Acknowledgement {
        try await call(request(.drainWorker, worker))
    }

    package func register(
        _ registration: WorkerRegistration
    ) async throws(APIError) -> RegistrationReply {
        try await call(request(.register, body: Wire.encode(registration)))
    }

    package func report(_ selftest: SelftestReport) async throws(APIError) -> SelftestReply {
        try await call(request(.selftest, selftest.worker, body: Wire.encode(selftest)))
    }

    package func lease(_ request: LeaseRequest) async throws(APIError) -> LeaseReply {
        var message = self.request(.lease, body: Wire.encode(request))
        message.limit = .total(seconds: Self.callTimeoutSeconds + Double(request.waitSeconds))
        return try await call(message)
    }

    package func heartbeat(_ heartbeat: Heartbeat) throws(APIError) -> HeartbeatReply {
        var message = request(.heartbeat, heartbeat.worker, body: Wire.encode(heartbeat))
        message.limit = .total(seconds: Self.heartbeatTimeoutSeconds)
        do {
            return try Self.read(try heartbeats.sendBlocking(message))
        } catch let error as APIError {
            throw error
        } catch let error as TransportError {
            throw APIError(error)
        } catch {
            throw .unintelligible("\(error)")
        }
    }

    package func complete(_ completion: Completion) async throws(APIError) -> CompletionReply {
        try await call(request(.complete, completion.lease, body: Wire.encode(completion)))
    }

    package func fail(_ report: FailureReport) async throws(APIError) -> Acknowledgement {
        try await call(request(.fail, report.lease, body: Wire.encode(report)))
    }

    package func clear(_ request: ClearRequest) async throws(APIError) -> Acknowledgement {
        try await call(self.request(.clear, request.lease, body: Wire.encode(request)))
    }

    package func release(_ request: ReleaseRequest) async throws(APIError) -> Acknowledgement {
        try await call(self.request(.release, request.lease, body: Wire.encode(request)))
    }

    func request(
        _ route: Route,
        _ parameter: (any LosslessStringConvertible)? = nil,
        body: [UInt8]? = nil
    ) -> HTTPRequest {
        var headers = [(name: "Accept", value: "application/json, \(Problem.mediaType)")]
        if let token = configuration.token {
            headers.append((name: "Authorization", value: "Bearer \(token)"))
        }
        if body != nil { headers.append((name: "Content-Type", value: "application/json")) }
        var message = HTTPRequest(
            method: route.method.rawValue,
            url: configuration.url + route.path(parameter),
            headers: headers,
            // A POST without a body still announces that it has none.
            body: body ?? (route.method == .post ? [] : nil),
            limit: .total(seconds: Self.callTimeoutSeconds)
        )
        message.replyLimitBytes = Limits.replyBytes
        return message
    }

    private func call<Reply: Decodable>(_ request: HTTPRequest) async throws(APIError) -> Reply {
        try await retrying(configuration.patienceSeconds) { () async throws(APIError) in
            try Self.read(try await send(request))
        }
    }

    /// Does `work` again while it fails with something that may pass.
    ///
    /// - Parameters:
    ///   - patienceSeconds: How long to wait in all before giving up.
    ///   - longestPauseSeconds: Longest wait between two tries.
    ///   - work: What to do.
    /// - Returns: What `work` returns.
    /// - Throws: The last failure.
    func retrying<Value>(
        _ patienceSeconds: Double,
        _ longestPauseSeconds: Double = Backoff.limitSeconds,
        _ work: () async throws(APIError) -> Value
    ) async throws(APIError) -> Value {
        var backoff = Backoff()
        var generator = SystemRandomNumberGenerator()
        var waitedSeconds = 0.0
        while true {
            let error: APIError
            do throws(APIError) {
                return try await work()
            } catch let failure {
                error = failure
            }
            let delay = min(
                longestPauseSeconds,
                backoff.nextDelaySeconds(
                    retryAfterSeconds: error.retryAfterSeconds,
                    using: &generator
                )
            )
            waitedSeconds += delay
            guard error.isRetryable, waitedSeconds <= patienceSeconds,
                !Task.isCancelled, (try? await sleep(delay)) != nil
            else { throw error }
        }
    }

    func send(_ request: HTTPRequest) async throws(APIError) -> HTTPResponse {
        do {
            return try await http.send(request)
        } catch {
            throw APIError(error)
        }
    }

    /// The value of a 200, or the problem of anything else.
    static func read<Reply: Decodable>(
        _ response: HTTPResponse
    ) throws(APIError) -> Reply {
        do {
            return try Wire.decode(Reply.self, from: try checked(response).body)
        } catch let error as APIError {
            throw error
        } catch {
            throw .unintelligible("\(error)")
        }
    }

    /// Returns a successful answer.
    ///
    /// - Throws: The problem of any other.
    static func checked(_ response: HTTPResponse) throws(APIError) -> HTTPResponse {
        guard (200...299).contains(response.status) else {
            throw .refused(try problem(response))
        }
        return response
    }

    private static func problem(_ response: HTTPResponse) throws(APIError) -> Problem {
        let type = response.headers["content-type"] ?? ""
        if type.hasPrefix(Problem.mediaType),
            let problem = try? Wire.decode(Problem.self, from: response.body)
        {
            return problem
        }
        // Proxies answer 502, 503 and 504 in their own words while the coordinator is away, and 429
        // to those who ask too often.
        if [429, 502, 503, 504].contains(response.status) {
            return Problem(
                .unavailable,
                "HTTP status \(response.status) from a proxy.",
                next: "Try again later.",
                retryAfterSeconds: response.headers["retry-after"].flatMap { Int($0) }
            )
        }
        throw .unintelligible(
            "HTTP status \(response.status) with content type \"\(type)\"; is this URL a coordinator's?"
        )
    }
}

/// A client that cannot be made from what the user gave.
package enum ClientConfigurationError: Error, Equatable, Sendable {
    case badURL(String)
    case badTokenFile(path: String, reason: String)

    /// What is wrong and what to do, for people.
    package var message: String {
        switch self {
        case .badURL(let url):
            "\"\(url)\" is no coordinator URL. Write one such as http://127.0.0.1:7878."
        case .badTokenFile(let path, let reason):
            "The token file \(path) is not usable: \(reason). It holds a token, or lines \"scope token\"."
        }
    }
}

extension APIError {
    init(_ error: TransportError) {
        self =
            switch error.code {
            case .peerFailedVerification:
                .unintelligible("\(error). Name the authority of its certificate with --ca-file.")
            case .certificateProblem:
                .unintelligible("\(error). Look at --client-certificate and --client-key.")
            case .abortedByCallback: .unreachable(error.description)
            default:
                error.isRetryable
                    ? .unreachable(error.description) : .unintelligible(error.description)
            }
    }

    /// What the server asked to wait.
    var retryAfterSeconds: Double? {
        guard case .refused(let problem) = self else { return nil }
        return problem.retryAfterSeconds.map(Double.init)
    }
}
