import ArgumentParser
import Dispatch
import Foundation
import JobProtocol
import S3
import Synchronization
import Worker

/// Where text goes: data to stdout, everything else to stderr.
enum Console {
    static func print(_ line: String) {
        FileHandle.standardOutput.write(Data("\(line)\n".utf8))
    }

    /// A value as one JSON document.
    static func print(json value: some Encodable) {
        FileHandle.standardOutput.write(Data(Wire.encode(value, isPretty: true)))
        print("")
    }

    static func error(_ line: String) {
        write(error: "\(line)\n")
    }

    static func write(error text: String) {
        FileHandle.standardError.write(Data(text.utf8))
    }

    /// Rows in columns, two spaces apart; numbers stay left, as everything.
    static func table(_ rows: [[String]]) {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in
            rows.map { $0.count > column ? $0[column].count : 0 }.max() ?? 0
        }
        for row in rows {
            let cells = row.enumerated().map { column, cell in
                column == row.count - 1
                    ? cell : cell + String(repeating: " ", count: widths[column] - cell.count)
            }
            print(cells.joined(separator: "  "))
        }
    }
}

/// The progress display of a command, on stderr.
final class ProgressDisplay: Sendable {
    private let reporter: Mutex<ProgressReporter>

    init(_ style: ProgressStyle) {
        reporter = Mutex(ProgressReporter(style: style))
    }

    func update(_ snapshot: ProgressSnapshot) {
        write { $0.update(snapshot, atSeconds: monotonicSeconds()) }
    }

    func finish(_ snapshot: ProgressSnapshot) {
        write { $0.finish(snapshot, atSeconds: monotonicSeconds()) }
    }

    private func write(_ text: (inout ProgressReporter) -> String?) {
        reporter.withLock { reporter in
            if let text = text(&reporter) { Console.write(error: text) }
        }
    }
}

/// `--progress` and `--json`, which every long command has.
struct OutputOptions: ParsableArguments {
    enum Progress: String, ExpressibleByArgument, CaseIterable {
        case auto, bar, plain, json, none
    }

    @Option(help: "Progress on stderr: auto, bar, plain, json or none.")
    var progress = Progress.auto

    @Flag(help: "Print the result as JSON.")
    var json = false

    var style: ProgressStyle {
        switch progress {
        case .auto: isatty(STDERR_FILENO) == 1 ? .bar : .plain
        case .bar: .bar
        case .plain: .plain
        case .json: .json
        case .none: .none
        }
    }
}

/// `--threads`.
struct ThreadOptions: ParsableArguments {
    @Option(help: "Threads to compute with (default: one for each core).")
    var threads: Int?

    var count: Int { threads ?? ProcessInfo.processInfo.activeProcessorCount }

    func validate() throws {
        if let threads, !(1...4096).contains(threads) {
            throw ValidationError("--threads takes 1 to 4096.")
        }
    }
}

/// A size such as `64MiB`, `1.5GB` or `4096`.
struct ByteSize: ExpressibleByArgument {
    let bytes: Int64

    init(bytes: Int64) {
        self.bytes = bytes
    }

    init?(argument: String) {
        let units: [(String, Double)] = [
            ("KiB", 1_024), ("MiB", 1_048_576), ("GiB", 1_073_741_824),
            ("kB", 1e3), ("KB", 1e3), ("MB", 1e6), ("GB", 1e9), ("B", 1), ("", 1),
        ]
        for (unit, factor) in units where argument.hasSuffix(unit) {
            guard let value = Double(argument.dropLast(unit.count)), value.isFinite,
                value > 0, value * factor <= 1e15, value * factor >= 1
            else { return nil }
            bytes = Int64(value * factor)
            return
        }
        return nil
    }

    var defaultValueDescription: String {
        bytes % (1 << 20) == 0 ? "\(bytes >> 20)MiB" : "\(bytes)"
    }
}

/// The absolute, normalised form of a path that exists, or of one whose parent exists.
func absolutePath(_ path: String) -> String {
    let url = URL(filePath: path).standardizedFileURL
    let resolved = url.resolvingSymlinksInPath().path
    return resolved.count > 1 && resolved.hasSuffix("/") ? String(resolved.dropLast()) : resolved
}

/// What a user names as source or destination: a place in S3, or the absolute path of a folder.
func absolutePlace(_ path: String) -> String {
    S3Location(path)?.description ?? absolutePath(path)
}
