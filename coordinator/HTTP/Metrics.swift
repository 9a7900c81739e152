package import JobProtocol
import Synchronization

/// Counts the answers to HTTP requests.
package final class RequestCounter: Sendable {
    package struct Key: Hashable, Sendable {
        package let route: Route
        package let status: Int
    }

    private let counts = Mutex<[Key: Int]>([:])

    package init() {}

    func count(_ route: Route, status: Int) {
        counts.withLock { $0[Key(route: route, status: status), default: 0] += 1 }
    }

    package var snapshot: [Key: Int] { counts.withLock { $0 } }
}

/// Figures in the text format of Prometheus, version 0.0.4.
///
/// Every state of an enumeration is always there, also at 0, so that no series appears late.
struct MetricsText {
    static let mediaType = "text/plain; version=0.0.4; charset=utf-8"

    private(set) var text = ""

    init(census: JobQueue.Census, requests: [RequestCounter.Key: Int]) {
        family("flowpack_build_info", "gauge", "The release.") { line in
            line([("version", Release.version)], 1)
        }
        family("flowpack_jobs", "gauge", "Jobs by state.") { line in
            for state in JobState.allCases {
                line([("state", state.rawValue)], Double(census.jobs[state] ?? 0))
            }
        }
        let sums: [(String, String, KeyPath<Tally, Double>)] = [
            ("flowpack_shards", "Shards by state.", \.shardsValue),
            ("flowpack_samples", "Samples by the state of their shard.", \.samplesValue),
            ("flowpack_source_bytes", "Source bytes by the state of their shard.", \.sourceValue),
            ("flowpack_output_bytes", "Bytes of shard files by state.", \.outputValue),
        ]
        for (name, help, value) in sums {
            family(name, "gauge", help) { line in
                for state in ShardState.allCases {
                    let tally = census.shards[state] ?? .zero
                    line([("state", state.rawValue)], tally[keyPath: value])
                }
            }
        }
        family("flowpack_attempts", "gauge", "Attempts by state.") { line in
            for state in AttemptState.allCases {
                line([("state", state.rawValue)], Double(census.attempts[state] ?? 0))
            }
        }
        family("flowpack_workers", "gauge", "Workers by state.") { line in
            for state in WorkerState.allCases {
                line([("state", state.rawValue)], Double(census.workers[state] ?? 0))
            }
        }
        family("flowpack_problems", "gauge", "Samples with a problem.") { line in
            line([], Double(census.problems))
        }
        family(
            "flowpack_source_bytes_per_second",
            "gauge",
            "Throughput that the workers report."
        ) { line in
            line([], census.sourceBytesPerSecond)
        }
        family("flowpack_http_requests_total", "counter", "Answers by route and status.") { line in
            let sorted = requests.sorted {
                ($0.key.route.rawValue, $0.key.status) < ($1.key.route.rawValue, $1.key.status)
            }
            for (key, count) in sorted {
                line(
                    [("route", key.route.rawValue), ("status", String(key.status))],
                    Double(count)
                )
            }
        }
    }

    /// Adds a family of series: its head, and a line for each call of `line`.
    ///
    /// Label values are names out of this program and need no escaping.
    private mutating func family(
        _ name: String,
        _ type: String,
        _ help: String,
        _ series: (_ line: ([(String, String)], Double) -> Void) -> Void
    ) {
        var lines = "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
        series { labels, value in
            let list = labels.map { "\($0)=\"\($1)\"" }.joined(separator: ",")
            let number = Int64(exactly: value).map(String.init) ?? String(value)
            lines += "\(name)\(list.isEmpty ? "" : "{\(list)}") \(number)\n"
        }
        text += lines
    }
}

extension Tally {
    fileprivate var shardsValue: Double { Double(shards) }
    fileprivate var samplesValue: Double { Double(samples) }
    fileprivate var sourceValue: Double { Double(sourceBytes) }
    fileprivate var outputValue: Double { Double(outputBytes) }
}
