package import JobProtocol
import S3

// What a request must look like before it may become a command. Requests come from outside.

extension SubmitRequest {
    /// - Throws: `malformedRequest`, naming the field.
    package func validate() throws(APIError) {
        for (name, place) in [("source", source), ("destination", destination)] {
            try require(
                place.isNormalAbsolutePath || place.isNormalLocation,
                "\(name) must be an absolute path without . or .., or s3://bucket/prefix"
            )
        }
        try require(
            !(source + "/").hasPrefix(destination + "/")
                && !(destination + "/").hasPrefix(source + "/"),
            "source and destination must not lie in each other"
        )
        try require(modelID.isDigest, "modelID must be 64 lower-case hexadecimal digits")
        try require(shardBytes > 0, "shardBytes must be positive")
        try require(
            Limits.priorities.contains(priority),
            "priority must be \(Limits.priorities.lowerBound) to \(Limits.priorities.upperBound)"
        )
        try require((maxWorkers ?? 1) > 0, "maxWorkers must be positive")
        if let idempotencyKey {
            try require(
                !idempotencyKey.isEmpty && idempotencyKey.isText(),
                "the idempotency key must have 1 to \(Limits.textBytes) bytes other than 0"
            )
        }
    }
}

extension WorkerRegistration {
    func validate() throws(APIError) {
        for (name, text) in [
            ("version", version), ("host", host), ("device", device),
            ("instructionSet", instructionSet),
        ] {
            try require(text.isText(), "\(name) \(String.textRule)")
        }
        try require((1...4096).contains(slots), "slots must be 1 to 4096")
    }
}

extension SelftestReport {
    func validate() throws(APIError) {
        try require(
            (1...Limits.checksPerSelftest).contains(checks.count),
            "checks must be 1 to \(Limits.checksPerSelftest)"
        )
        try require(
            checks.allSatisfy { $0.name.isText() && $0.detail.isText() },
            "a check's name and detail \(String.textRule)"
        )
    }
}

extension LeaseRequest {
    func validate() throws(APIError) {
        try require(
            (1...Limits.shardsPerLease).contains(shards),
            "shards must be 1 to \(Limits.shardsPerLease)"
        )
        try require(
            (0...Limits.longPollSeconds).contains(waitSeconds),
            "waitSeconds must be 0 to \(Limits.longPollSeconds)"
        )
    }
}

extension Heartbeat {
    func validate() throws(APIError) {
        try require(
            leases.count <= Limits.leasesPerHeartbeat,
            "leases must be at most \(Limits.leasesPerHeartbeat)"
        )
        try require(
            (0..<Double(Limits.countCeiling)).contains(sourceBytesPerSecond),
            "sourceBytesPerSecond must be 0 to less than \(Limits.countCeiling)"
        )
    }
}

extension Completion {
    func validate() throws(APIError) {
        try require(sha256.isDigest, "sha256 must be 64 lower-case hexadecimal digits")
        try require(bytes >= 0, "bytes must not be negative")
        try require(seconds.isFinite && seconds >= 0, "seconds must not be negative")
        let counts =
            [
                Int64(totals.samples), Int64(totals.flowSamples), Int64(totals.storedSamples),
                totals.sourceBytes, totals.flowDimensions, totals.flowBytes,
            ] + totals.storedReasons.values.map { Int64($0) }
        try require(
            counts.allSatisfy { (0...Limits.countCeiling).contains($0) },
            "totals must be 0 to \(Limits.countCeiling)"
        )
        try require(
            totals.storedReasons.count <= Limits.storedReasons
                && totals.storedReasons.keys.allSatisfy { $0.isText() },
            "there must be at most \(Limits.storedReasons) reasons, which \(String.textRule)"
        )
        try require(
            problems.count <= totals.samples,
            "there must be at most one problem for each sample"
        )
        try require(
            problems.allSatisfy { $0.name.isText(bytes: Limits.pathBytes) && $0.reason.isText() },
            "a problem's name and reason \(String.textRule), the name up to \(Limits.pathBytes)"
        )
    }
}

extension UploadRequest {
    func validate() throws(APIError) {
        try require(sha256.isDigest, "sha256 must be 64 lower-case hexadecimal digits")
        try require(bytes > 0, "bytes must be positive")
    }
}

extension FailureReport {
    func validate() throws(APIError) {
        try require(message.isText(), "message \(String.textRule)")
    }
}

private func require(_ condition: Bool, _ rule: String) throws(APIError) {
    guard !condition else { return }
    throw .refused(.malformed("In the request, \(rule)."))
}

extension Problem {
    static func malformed(_ detail: String) -> Problem {
        Problem(.malformedRequest, detail, next: "Correct the request; HTTPAPI.md describes it.")
    }

    /// S3 is asked for, and there is no key.
    static func noKey(_ code: Code, _ place: String) -> Problem {
        Problem(
            code,
            "The coordinator has no key for \(place).",
            next: "Start it with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY set.",
            retryAfterSeconds: code.isRetryable ? Limits.heartbeatSeconds : nil
        )
    }
}

extension String {
    /// What `isText` asks for, behind the name of a field.
    fileprivate static let textRule = "must have at most \(Limits.textBytes) bytes, none of them 0"

    /// Whether this is short enough to be kept, and SQLite keeps all of it.
    fileprivate func isText(bytes: Int = Limits.textBytes) -> Bool {
        utf8.count <= bytes && !utf8.contains(0)
    }

    /// Whether this is a SHA-256 in lower-case hexadecimal digits.
    var isDigest: Bool {
        utf8.count == 64
            && utf8.allSatisfy {
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                    || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
            }
    }

    /// Whether this is a place in S3, without "/" at the end.
    fileprivate var isNormalLocation: Bool {
        S3Location(self)?.description == self && utf8.count <= Limits.pathBytes
    }

    /// Whether this is an absolute path without empty, "." or ".." components, and not the root.
    fileprivate var isNormalAbsolutePath: Bool {
        guard utf8.first == UInt8(ascii: "/"), utf8.count <= Limits.pathBytes, !utf8.contains(0)
        else { return false }
        return utf8.dropFirst().split(
            separator: UInt8(ascii: "/"),
            omittingEmptySubsequences: false
        )
        .allSatisfy { !$0.isEmpty && !$0.elementsEqual(".".utf8) && !$0.elementsEqual("..".utf8) }
    }
}
