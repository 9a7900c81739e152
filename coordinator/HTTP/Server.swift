package import Hummingbird
import HummingbirdCore
import HummingbirdTLS
package import JobProtocol
package import Logging

/// An address to listen on: a host, and a port or 0 for any.
package struct ListenAddress: Equatable, Sendable {
    package let host: String
    package let port: Int

    /// Reads `host:port`, with an IPv6 address in brackets; nil for anything else.
    package init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"),
            let port = UInt16(text[text.index(after: colon)...])
        else { return nil }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        guard !host.isEmpty else { return nil }
        self.host = String(host)
        self.port = Int(port)
    }

    /// Whether only this machine can reach it.
    package var isLoopback: Bool {
        let parts = host.split(separator: ".", omittingEmptySubsequences: false)
        let isIPv4 = parts.count == 4 && parts.allSatisfy { UInt8($0) != nil }
        return host == "localhost" || host == "::1" || (isIPv4 && parts[0] == "127")
    }
}

/// The coordinator behind HTTP.
package enum Server {
    /// Returns the HTTP server as a service.
    ///
    /// - Parameters:
    ///   - coordinator: Answers the requests; its `run` has to go on beside the server.
    ///   - address: Where to listen.
    ///   - tokens: Who may do what; nil lets everyone do everything, on a loopback address only.
    ///   - tls: For `https`; nil for `http`.
    ///   - limits: How many connections there may be, and how slow.
    ///   - logger: Takes what goes wrong.
    ///   - onListening: Called with the port once connections are accepted.
    /// - Returns: The server; it serves when it is run.
    /// - Throws: `StartError.refused` for an address that others can reach, without tokens;
    ///   `unusable` for files of `tls`.
    package static func make(
        coordinator: LocalCoordinator,
        listen address: ListenAddress,
        tokens: Tokens?,
        tls: ServerTLS? = nil,
        limits: ConnectionLimits = ConnectionLimits(),
        logger: Logger,
        onListening: @escaping @Sendable (_ port: Int) -> Void = { _ in }
    ) throws(StartError) -> some ApplicationProtocol {
        guard tokens != nil || address.isLoopback else {
            throw .refused(
                reason: "\(address.host) can be reached from other machines: name a token file "
                    + "with --token-file, or listen on 127.0.0.1."
            )
        }
        let handlers = Handlers(
            coordinator: coordinator,
            tokens: tokens,
            counter: RequestCounter(),
            logger: logger
        )
        return Application(
            router: router(handlers),
            server: try builder(tls, ConnectionCounter(limits: limits, logger: logger)),
            configuration: ApplicationConfiguration(
                address: .hostname(address.host, port: address.port),
                serverName: "flowpack/\(Release.version)"
            ),
            onServerRunning: { onListening($0.localAddress?.port ?? address.port) },
            logger: logger
        )
    }

    /// What is between a socket and the requests.
    private static func builder(
        _ tls: ServerTLS?,
        _ counter: ConnectionCounter
    ) throws(StartError) -> HTTPServerBuilder {
        let http = HTTPServerBuilder.http1(
            configuration: HTTP1Channel.Configuration(
                additionalChannelHandlers: [ConnectionHandler(counter)],
                idleTimeout: counter.limits.idle
            )
        )
        guard let configuration = try tls?.configuration() else { return http }
        do {
            return try .tls(http, tlsConfiguration: configuration)
        } catch {
            throw .refused(reason: "TLS cannot be set up: \(error).")
        }
    }

    private static func router(_ handlers: Handlers) -> Router<BasicRequestContext> {
        let router = Router(options: .autoGenerateHeadEndpoints)
        router.add(middleware: UnknownRequests())
        for route in Route.allCases {
            router.on(
                RouterPath(route.template),
                method: route.method.request
            ) { request, context in
                let parameter = route.parameter.flatMap { context.parameters.get($0) }
                return await handlers.respond(to: route, request, parameter: parameter)
            }
        }
        return router
    }
}

extension Route.Method {
    package var request: HTTPRequest.Method {
        switch self {
        case .get: .get
        case .head: .head
        case .post: .post
        case .put: .put
        }
    }
}

/// Answers with a problem where the router knows no route.
private struct UnknownRequests: RouterMiddleware {
    func handle(
        _ request: Request,
        context: BasicRequestContext,
        next: (Request, BasicRequestContext) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch let error as HTTPError where error.status == .notFound {
            let response = answer(to: request)
            return request.method == .head ? response.createHeadResponse() : response
        }
    }

    private func answer(to request: Request) -> Response {
        let methods = Set(Route.allCases.filter { $0.matches(request.uri.path) }.map(\.method))
        guard !methods.isEmpty else {
            return Problem(
                .notFound,
                "There is no \(request.uri.path).",
                next: "HTTPAPI.md lists the paths."
            ).response
        }
        let served = methods.contains(.get) ? methods.union([.head]) : methods
        let allowed = served.map(\.rawValue).sorted().joined(separator: ", ")
        var response = Problem(
            .methodNotAllowed,
            "\(request.uri.path) has no \(request.method.rawValue).",
            next: "Use one of: \(allowed)."
        ).response
        response.headers[.allow] = allowed
        return response
    }
}
