import ArgumentParser
import Coordinator
import Foundation
import JobProtocol
import Logging
import S3
import ServiceLifecycle
import UnixSignals

@main
struct FlowpackCoordinator: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flowpack-coordinator",
        abstract: "Shards datasets and leads the workers that compress them.",
        version: Release.version,
        subcommands: [Serve.self, BackUp.self, Restore.self, Selftest.self],
        defaultSubcommand: Serve.self
    )
}

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serves the job queue over HTTP until SIGTERM or SIGINT.",
        discussion: """
            Some options can also be set in the environment: FLOWPACK_DATA, FLOWPACK_LISTEN, \
            FLOWPACK_TOKEN_FILE, FLOWPACK_LEASE_SECONDS, FLOWPACK_LOG_LEVEL. The option wins. \
            Sources and outputs in S3 need a key, from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or \
            ~/.aws/credentials; workers need none.
            Exit codes: 0 shut down, 1 error, 2 usage, 3 another coordinator holds the folder, \
            8 the queue is damaged, 11 a newer release made it.
            """
    )

    @OptionGroup var data: DataOption

    @Option(help: "Address and port, as host:port; port 0 takes any. (default: 127.0.0.1:7878)")
    var listen: String?

    @Option(help: "File of tokens, one a line: \"scope token\" with read, submit, worker, admin.")
    var tokenFile: String?

    @Option(help: "Certificate for https, with its chain, in PEM.")
    var tlsCertificate: String?

    @Option(help: "The certificate's key, in PEM.")
    var tlsKey: String?

    @Option(
        help: "Authorities of clients, in PEM: without a certificate from one nobody gets anything."
    )
    var tlsClientCa: String?

    @Option(
        help: """
            Seconds of silence after which a worker's shards go to others, 4 to 3600. (default: \
            \(Limits.leaseSeconds))
            """
    )
    var leaseSeconds: Int?

    @Option(
        help: "URL of the S3 service of places s3://… (default: AWS_ENDPOINT_URL, else AWS's own)"
    )
    var s3Endpoint: String?

    @Option(
        help: """
            Most connections at a time; a worker has two or three. (default: 65536, or what the \
            limit of open files leaves room for)
            """
    )
    var maxConnections: Int?

    @Option(help: "trace, debug, info, notice, warning, error, critical. (default: info)")
    var logLevel: String?

    func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        let listen = listen ?? environment["FLOWPACK_LISTEN"] ?? "127.0.0.1:7878"
        let tokenFile = tokenFile ?? environment["FLOWPACK_TOKEN_FILE"]
        let level = logLevel ?? environment["FLOWPACK_LOG_LEVEL"] ?? "info"
        let leaseSeconds =
            leaseSeconds ?? environment["FLOWPACK_LEASE_SECONDS"].map { Int($0) ?? 0 }
            ?? Limits.leaseSeconds
        guard let address = ListenAddress(listen) else {
            throw ValidationError("\"\(listen)\" is not host:port.")
        }
        guard Limits.leaseSecondsRange.contains(leaseSeconds) else {
            throw ValidationError("A lease takes 4 to 3600 seconds.")
        }
        guard let logLevel = Logger.Level(rawValue: level) else {
            throw ValidationError("\"\(level)\" is not a log level.")
        }
        let limits = try connectionLimits()
        let tls = try serverTLS()
        var logger = Logger(label: "flowpack-coordinator") {
            StreamLogHandler.standardError(label: $0)
        }
        logger.logLevel = logLevel
        do throws(StartError) {
            try await serve(data.folder, address, tokenFile, tls, leaseSeconds, limits, logger)
        } catch {
            logger.critical("\(error.message)")
            throw error.exitCode
        }
    }

    /// Raises the limit of open files, and returns how many connections it leaves room for.
    private func connectionLimits() throws -> ConnectionLimits {
        let files = OpenFiles.raiseLimit()
        let room = OpenFiles.connections(within: files)
        var limits = ConnectionLimits()
        if let maxConnections {
            guard (1...room).contains(maxConnections) else {
                throw ValidationError(
                    "--max-connections takes 1 to \(room) with the limit of \(files) open files; "
                        + "raise that (ulimit -Hn, LimitNOFILE= of systemd), or name fewer."
                )
            }
            limits.connections = maxConnections
        } else {
            limits.connections = min(limits.connections, room)
        }
        return limits
    }

    private func serverTLS() throws -> ServerTLS? {
        guard let tlsCertificate, let tlsKey else {
            guard tlsCertificate == nil, tlsKey == nil, tlsClientCa == nil else {
                throw ValidationError("https needs both --tls-certificate and --tls-key.")
            }
            return nil
        }
        return ServerTLS(certificate: tlsCertificate, key: tlsKey, clientAuthorities: tlsClientCa)
    }

    /// The S3 service of sources and outputs; nil without a key, unless the user names a service.
    private func s3() throws(StartError) -> S3Client? {
        do throws(S3ConfigurationError) {
            return S3Client(try S3Configuration(endpoint: s3Endpoint))
        } catch {
            guard s3Endpoint != nil else { return nil }
            throw .refused(reason: error.message)
        }
    }

    private func serve(
        _ data: String,
        _ address: ListenAddress,
        _ tokenFile: String?,
        _ tls: ServerTLS?,
        _ leaseSeconds: Int,
        _ limits: ConnectionLimits,
        _ logger: Logger
    ) async throws(StartError) {
        var tokens: Tokens?
        if let tokenFile {
            tokens = try Tokens(path: tokenFile)
        }
        let coordinator = try LocalCoordinator(
            folder: data,
            leaseSeconds: leaseSeconds,
            hasBallast: true,
            s3: try s3(),
            logger: logger
        )
        try NetworkFileSystem.refuse(data)
        if let warning = coordinator.queue.sqliteVersion.warning {
            logger.warning("\(warning)")
        }
        let server = try Server.make(
            coordinator: coordinator,
            listen: address,
            tokens: tokens,
            tls: tls,
            limits: limits,
            logger: logger,
            onListening: { port in
                let scheme = tls == nil ? "http" : "https"
                logger.notice(
                    "listening on \(scheme)://\(address.host):\(port), queue in \(data)"
                )
            }
        )
        // The server stops first: it is the last in the list.
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [coordinator, server],
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: logger
            )
        )
        do {
            try await group.run()
        } catch let error as StartError {
            throw error
        } catch {
            throw .unusable(path: "\(address.host):\(address.port)", reason: "\(error)")
        }
    }
}

/// `--data`.
struct DataOption: ParsableArguments {
    @Option(help: "Folder of the queue, on a local disk. (default: ./flowpack-data)")
    var data: String?

    var folder: String {
        data ?? ProcessInfo.processInfo.environment["FLOWPACK_DATA"] ?? "./flowpack-data"
    }
}

extension StartError {
    /// The program's exit code; the numbers are part of its interface.
    var exitCode: ExitCode {
        switch self {
        case .locked: ExitCode(3)
        case .damaged: ExitCode(8)
        case .newer: ExitCode(11)
        case .unusable, .refused: ExitCode(1)
        }
    }
}
