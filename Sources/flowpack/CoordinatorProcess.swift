import Foundation

/// A `flowpack-coordinator` that runs as a child of this process, on a loopback port.
final class CoordinatorProcess {
    /// How much of the machine a process has taken so far.
    struct Usage {
        /// Processor time in seconds, of all threads.
        private(set) var processorSeconds: Double
        /// Largest resident memory in bytes.
        let peakBytes: Int

        /// Reads `/proc`, which has processor time in ticks of 10 ms.
        ///
        /// - Throws: When there is no such process.
        init(process: Int32) throws {
            // The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
            let stat = try String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)
            let fields = stat.split(separator: ")").last?.split(separator: " ") ?? []
            let ticks = fields.dropFirst(11).prefix(2).compactMap { Double($0) }.reduce(0, +)
            processorSeconds = ticks / Double(sysconf(Int32(_SC_CLK_TCK)))
            peakBytes = try peakMemoryBytes(process: process)
        }

        /// What came on top of an earlier usage; the peak stays the peak.
        static func - (a: Usage, b: Usage) -> Usage {
            var usage = a
            usage.processorSeconds -= b.processorSeconds
            return usage
        }
    }

    /// Longest wait until the coordinator listens, in seconds.
    private static let startLimitSeconds = 60.0
    private static let pollInterval = Duration.milliseconds(1)

    /// Where it listens.
    let port: Int
    private let process: Process

    var url: String { "http://127.0.0.1:\(port)" }
    var usage: Usage { get throws { try Usage(process: process.processIdentifier) } }

    /// Starts the coordinator beside this program and waits until it listens.
    ///
    /// - Parameter data: Folder of its queue; its log is written there, too.
    /// - Throws: `CommandFailure` when it is not there or ends at once, with its log.
    init(data: String) async throws {
        let program = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
            .deletingLastPathComponent().appending(path: "flowpack-coordinator")
        guard FileManager.default.isExecutableFile(atPath: program.path) else {
            throw CommandFailure(.notFound, "\(program.path) is missing.", next: "./ops/run")
        }
        let log = "\(data)/log"
        guard FileManager.default.createFile(atPath: log, contents: nil),
            let errors = FileHandle(forWritingAtPath: log)
        else { throw CommandFailure(.error, "\(log) cannot be written.") }
        let process = Process()
        process.executableURL = program
        process.arguments = ["--data", data, "--listen", "127.0.0.1:0", "--log-level", "notice"]
        process.environment = ProcessInfo.processInfo.environment
            .filter { !$0.key.hasPrefix("FLOWPACK_") }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        process.standardError = errors
        try process.run()
        self.process = process
        var isListening = false
        defer { if !isListening { process.terminate() } }
        guard let port = try await Self.port(of: process, log: log) else {
            let text = try String(contentsOfFile: log, encoding: .utf8)
            throw CommandFailure(.error, "The coordinator does not listen: \(text)")
        }
        self.port = port
        isListening = true
    }

    /// Waits for the line that names the port; nil when none comes.
    private static func port(of process: Process, log: String) async throws -> Int? {
        let address = "listening on http://127.0.0.1:"
        let deadline = ContinuousClock.now + .seconds(startLimitSeconds)
        while process.isRunning, ContinuousClock.now < deadline {
            let text = try String(contentsOfFile: log, encoding: .utf8)
            if let range = text.range(of: address), text[range.upperBound...].contains(",") {
                return Int(text[range.upperBound...].prefix { $0.isNumber })
            }
            try await Task.sleep(for: pollInterval)
        }
        return nil
    }

    /// Ends the process as a power cut would: with SIGKILL.
    func kill() {
        guard process.isRunning else { return }
        Foundation.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    deinit {
        kill()
    }
}
