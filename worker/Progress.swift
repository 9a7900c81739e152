/// How far a job is, at one moment.
package struct ProgressSnapshot: Equatable, Sendable {
    package var images: Int
    package var imagesTotal: Int
    package var sourceBytes: Int
    package var sourceBytesTotal: Int
    /// Source bytes of what is written; `outputBytes` of it.
    package var committedBytes: Int
    package var outputBytes: Int
    package var workers: Int
    /// Whether the totals are final: the source has been scanned to its end.
    package var isPlanComplete: Bool

    package init(
        images: Int = 0,
        imagesTotal: Int = 0,
        sourceBytes: Int = 0,
        sourceBytesTotal: Int = 0,
        committedBytes: Int = 0,
        outputBytes: Int = 0,
        workers: Int = 0,
        isPlanComplete: Bool = false
    ) {
        self.images = images
        self.imagesTotal = imagesTotal
        self.sourceBytes = sourceBytes
        self.sourceBytesTotal = sourceBytesTotal
        self.committedBytes = committedBytes
        self.outputBytes = outputBytes
        self.workers = workers
        self.isPlanComplete = isPlanComplete
    }

    /// Share of the source bytes that is done, 0…1; nil until the totals are final.
    package var fraction: Double? {
        guard isPlanComplete else { return nil }
        return sourceBytesTotal == 0 ? 1 : Double(sourceBytes) / Double(sourceBytesTotal)
    }
}

/// How progress is shown.
package enum ProgressStyle: String, CaseIterable, Sendable {
    /// One line that is drawn again, for a terminal.
    case bar
    /// A line every 30 s or 5 %, for a log.
    case plain
    /// A JSON object for each line, once a second.
    case json
    case none
}

/// Turns snapshots into text: snapshot and time in, what to write out.
///
/// Rates count from the first snapshot, so that a resumed job does not show what an earlier run did.
package struct ProgressReporter: Sendable {
    /// A plain line comes at the latest after this time, in seconds.
    package static let plainIntervalSeconds = 30.0
    /// A plain line comes at the latest after this share of the job.
    package static let plainIntervalFraction = 0.05
    package static let jsonIntervalSeconds = 1.0
    private static let barWidth = 20

    private let style: ProgressStyle
    private var first: (snapshot: ProgressSnapshot, seconds: Double)?
    private var last: (fraction: Double, seconds: Double)?

    package init(style: ProgressStyle) {
        self.style = style
    }

    /// What to write for this snapshot now, if anything; `seconds` are monotonic, of any origin.
    package mutating func update(_ snapshot: ProgressSnapshot, atSeconds seconds: Double) -> String?
    {
        if first == nil { first = (snapshot, seconds) }
        let fraction = snapshot.fraction ?? 0
        switch style {
        case .none:
            return nil
        case .bar:
            return "\r\(barLine(snapshot, seconds))\u{1b}[K"
        case .plain:
            let previous = last ?? (fraction: 0, seconds: first?.seconds ?? seconds)
            guard
                seconds - previous.seconds >= Self.plainIntervalSeconds
                    || fraction - previous.fraction >= Self.plainIntervalFraction
            else { return nil }
            last = (fraction, seconds)
            return line(snapshot, seconds) + "\n"
        case .json:
            if let last, seconds - last.seconds < Self.jsonIntervalSeconds { return nil }
            last = (fraction, seconds)
            return jsonLine(snapshot, seconds) + "\n"
        }
    }

    /// What ends the display: a bar's line is left standing.
    package mutating func finish(
        _ snapshot: ProgressSnapshot,
        atSeconds seconds: Double
    ) -> String? {
        style == .bar ? "\r\(barLine(snapshot, seconds))\u{1b}[K\n" : nil
    }

    private func barLine(_ snapshot: ProgressSnapshot, _ seconds: Double) -> String {
        guard let fraction = snapshot.fraction else { return line(snapshot, seconds) }
        let full = min(Self.barWidth, Int(fraction * Double(Self.barWidth)))
        let bar =
            String(repeating: "#", count: full)
            + String(repeating: "-", count: Self.barWidth - full)
        return "[\(bar)] \(line(snapshot, seconds))"
    }

    private func line(_ snapshot: ProgressSnapshot, _ seconds: Double) -> String {
        var parts: [String] = []
        if let fraction = snapshot.fraction {
            parts.append("\(Int(fraction * 100)) %")
            parts.append("\(snapshot.images)/\(snapshot.imagesTotal) images")
        } else {
            parts.append("scanning")
            parts.append("\(snapshot.images)/\(snapshot.imagesTotal)+ images")
        }
        if let rate = bytesPerSecond(snapshot, seconds) {
            parts.append("\(decimals(rate / 1e6, 1)) MB/s in")
        }
        if snapshot.outputBytes > 0 {
            parts.append(
                "ratio \(decimals(Double(snapshot.committedBytes) / Double(snapshot.outputBytes), 2))"
            )
        }
        parts.append("\(snapshot.workers) \(snapshot.workers == 1 ? "worker" : "workers")")
        if let left = secondsLeft(snapshot, seconds) { parts.append("ETA \(duration(left))") }
        return parts.joined(separator: " · ")
    }

    private func jsonLine(_ snapshot: ProgressSnapshot, _ seconds: Double) -> String {
        let rate = bytesPerSecond(snapshot, seconds).map { decimals($0 / 1e6, 3) } ?? "null"
        let left = secondsLeft(snapshot, seconds).map { decimals($0, 1) } ?? "null"
        return """
            {"images":\(snapshot.images),"images_total":\(snapshot.imagesTotal),\
            "source_bytes":\(snapshot.sourceBytes),\
            "source_bytes_total":\(snapshot.sourceBytesTotal),\
            "output_bytes":\(snapshot.outputBytes),"workers":\(snapshot.workers),\
            "plan_complete":\(snapshot.isPlanComplete),\
            "megabytes_per_second":\(rate),"seconds_left":\(left)}
            """
    }

    /// Source bytes per second since the first snapshot; nil before anything can be said.
    private func bytesPerSecond(_ snapshot: ProgressSnapshot, _ seconds: Double) -> Double? {
        guard let first, seconds > first.seconds,
            snapshot.sourceBytes > first.snapshot.sourceBytes
        else { return nil }
        return Double(snapshot.sourceBytes - first.snapshot.sourceBytes) / (seconds - first.seconds)
    }

    private func secondsLeft(_ snapshot: ProgressSnapshot, _ seconds: Double) -> Double? {
        guard snapshot.isPlanComplete, snapshot.sourceBytes < snapshot.sourceBytesTotal,
            let rate = bytesPerSecond(snapshot, seconds)
        else { return nil }
        return Double(snapshot.sourceBytesTotal - snapshot.sourceBytes) / rate
    }
}

/// The number with a fixed count of decimals, rounded, with a point in every locale.
package func decimals(_ value: Double, _ count: Int) -> String {
    guard value.isFinite else { return "-" }
    var scale = 1.0
    for _ in 0..<count { scale *= 10 }
    let scaled = (value.magnitude * scale).rounded()
    let whole = Int((scaled / scale).rounded(.down))
    let sign = value < 0 && scaled > 0 ? "-" : ""
    guard count > 0 else { return "\(sign)\(whole)" }
    let fraction = String(Int(scaled - Double(whole) * scale))
    return "\(sign)\(whole)." + String(repeating: "0", count: count - fraction.count) + fraction
}

/// A time span in its two largest units: "45s", "3m05s", "2h40m", "3d04h".
package func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds < 1e9 else { return "-" }
    let whole = max(0, Int(seconds.rounded(.up)))
    func pair(_ large: Int, _ largeUnit: String, _ small: Int, _ smallUnit: String) -> String {
        "\(large)\(largeUnit)\(small < 10 ? "0" : "")\(small)\(smallUnit)"
    }
    return switch whole {
    case ..<60: "\(whole)s"
    case ..<3_600: pair(whole / 60, "m", whole % 60, "s")
    case ..<86_400: pair(whole / 3_600, "h", whole % 3_600 / 60, "m")
    default: pair(whole / 86_400, "d", whole % 86_400 / 3_600, "h")
    }
}

/// A number of bytes with a decimal unit: "17 B", "1.5 kB", "23.4 MB".
package func byteCount(_ bytes: Int) -> String {
    var value = Double(bytes)
    for unit in ["B", "kB", "MB", "GB"] {
        if value.magnitude < 999.95 {
            return unit == "B" ? "\(bytes) B" : "\(decimals(value, 1)) \(unit)"
        }
        value /= 1_000
    }
    return "\(decimals(value, 1)) TB"
}
