import ArgumentParser
import CoordinatorClient
import Foundation
import HTTPTransport
import JobProtocol
import Kernels
import Logging
import Worker

/// `flowpack-worker`: a daemon that does a coordinator's shards.
@main
struct FlowpackWorker: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flowpack-worker",
        abstract: "Compresses shards for a coordinator until told to stop.",
        discussion: """
            SIGTERM and SIGINT finish the shards in work and leave; a second one gives them back \
            at once. FLOWPACK_ISA=reference|sse41|avx2|avxvnni|avx512vnni|amx|neon forces an \
            instruction set.

            EXIT CODES: 0 drained · 1 error · 2 usage · 5 refused by the coordinator
            """,
        version: flowpackVersion
    )

    @Option(help: "URL of the coordinator, such as http://127.0.0.1:7878.")
    var coordinator: String

    @Option(help: "File with the worker token.")
    var tokenFile: String?

    @Option(help: "Authorities to trust, in PEM (default: the system's).")
    var caFile: String?

    @Option(help: "Certificate to be known by, in PEM.")
    var clientCertificate: String?

    @Option(help: "Its key, unless it is in the same file.")
    var clientKey: String?

    @Option(help: "Device to compute on: auto or cpu.")
    var device = Device.auto

    @Option(help: "Threads that encode and verify (default: one for each core).")
    var slots: Int?

    @Option(
        help: """
            How bytes come and go: folder (the job's paths, which all machines share), http (through \
            the coordinator), or auto, which is folder where the paths are visible, else http.
            """
    )
    var dataPlane = DataPlaneChoice.auto

    @Option(help: "Least severe messages to log: debug, info, notice, warning or error.")
    var logLevel = Severity.info

    enum Device: String, ExpressibleByArgument {
        case auto, cpu, cuda
    }

    enum Severity: String, ExpressibleByArgument {
        case debug, info, notice, warning, error

        var level: Logger.Level {
            switch self {
            case .debug: .debug
            case .info: .info
            case .notice: .notice
            case .warning: .warning
            case .error: .error
            }
        }
    }

    func validate() throws {
        if device == .cuda {
            throw ValidationError(
                "This version computes on CPUs only. Leave --device out, or use --device cpu."
            )
        }
        if let slots, !(1...4096).contains(slots) {
            throw ValidationError("--slots takes 1 to 4096.")
        }
    }

    static func main() async {
        do {
            let command = try parse()
            try await command.run()
        } catch {
            // The parser's own errors; usage is 2 here, and help and version end with 0.
            guard exitCode(for: error) == .validationFailure else { exit(withError: error) }
            FileHandle.standardError.write(Data("\(fullMessage(for: error))\n".utf8))
            Foundation.exit(2)
        }
    }

    func run() async throws {
        var logger = Logger(label: "flowpack-worker") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = logLevel.level
        do {
            try await work(logger)
        } catch let error as APIError {
            logger.critical("\(error.message)")
            let isRefusal = [.unauthenticated, .forbidden].contains(error.code)
            throw ExitCode(isRefusal ? 5 : 1)
        } catch let error as ClientConfigurationError {
            logger.critical("\(error.message)")
            throw ExitCode(2)
        } catch let error as InstructionSetError {
            logger.critical("\(error)")
            throw ExitCode(2)
        }
    }

    private func work(_ logger: Logger) async throws {
        let instructionSet = try InstructionSet.selected(
            environment: ProcessInfo.processInfo.environment
        )
        let token = try tokenFile.map { try TokenFile.read(path: $0, for: .worker) }
        let tls = TLSFiles(authorities: caFile, certificate: clientCertificate, key: clientKey)
        let client = CoordinatorClient(try .init(url: coordinator, token: token, tls: tls))
        var generator = SystemRandomNumberGenerator()
        let name = WorkerID.random(using: &generator)
        let worker = Worker(
            configuration: .init(
                worker: name,
                slots: slots ?? ProcessInfo.processInfo.activeProcessorCount,
                host: ProcessInfo.processInfo.hostName,
                version: flowpackVersion,
                dataPlane: dataPlane
            ),
            models: ModelStore(instructionSet: instructionSet),
            api: client,
            blobs: client,
            logger: logger
        )
        logger.info(
            "Worker \(name) starts.",
            metadata: ["coordinator": "\(coordinator)", "isa": "\(instructionSet.rawValue)"]
        )
        try await withStopSignals {
            try await worker.run()
        } onFirst: {
            worker.drain()
        }
        logger.info("Worker \(name) ends.")
    }
}

extension DataPlaneChoice: ExpressibleByArgument {}
