import HTTPTransport
package import JobProtocol

// Bytes of jobs whose folders are not visible here.
extension CoordinatorClient: BlobAPI {
    /// A transfer that moves less than a kilobyte a second for this long is begun anew, in seconds.
    static let stallSeconds = 30
    /// Longest answer, in bytes: one sample may be as long as it likes.
    static let replyLimitBytes = 16 << 30
    /// Longest pause between two tries while the coordinator is away, in seconds.
    static let longestPauseSeconds = 15.0

    package func samples(
        of lease: LeaseID,
        from index: Int
    ) async throws(APIError) -> [SampleFrame] {
        var message = request(.samples, lease)
        message.url += "?\(Route.fromParameter)=\(index)"
        let response = try await transfer(message)
        let frames: [SampleFrame]
        do {
            frames = try SampleFrame.decode(response.body)
        } catch {
            throw .unintelligible(error.reason)
        }
        guard !frames.isEmpty else { throw .unintelligible("no sample came") }
        return frames
    }

    package func blob(
        _ sha256: String,
        for lease: LeaseID
    ) async throws(APIError) -> [UInt8] {
        try await transfer(request(.blob, sha256, of: lease)).body
    }

    package func put(
        _ bytes: [UInt8],
        sha256: String,
        for lease: LeaseID
    ) async throws(APIError) {
        var start = 0
        var isFirst = true
        try await retrying(.infinity, Self.longestPauseSeconds) { () async throws(APIError) in
            // After a break, whatever has come need not be sent again.
            if !isFirst, let there = try? await uploaded(sha256, lease), there < bytes.count {
                start = there
            }
            isFirst = false
            let part = ContentRange(Int64(start)..<Int64(bytes.count), of: Int64(bytes.count))
            var message = request(.upload, sha256, of: lease, body: Array(bytes[start...]))
            message.headers.append((name: "Content-Range", value: part.description))
            do throws(APIError) {
                _ = try Self.checked(try await send(message))
            } catch  where error.code == .outputMismatch {
                start = 0
                throw error
            }
        }
    }

    package func urls(for upload: UploadRequest) async throws(APIError) -> UploadReply {
        let message = request(.uploadURLs, upload.lease, body: Wire.encode(upload))
        return try await retrying(.infinity, Self.longestPauseSeconds) {
            () async throws(APIError) in try Self.read(try await send(message))
        }
    }

    /// Asks how many bytes of an upload have come.
    private func uploaded(_ sha256: String, _ lease: LeaseID) async throws(APIError) -> Int {
        let response = try Self.checked(try await send(request(.blobState, sha256, of: lease)))
        return response.headers[BlobHeader.offset.lowercased()].flatMap { Int($0) } ?? 0
    }

    private func request(
        _ route: Route,
        _ sha256: String,
        of lease: LeaseID,
        body: [UInt8]? = nil
    ) -> HTTPRequest {
        var message = request(route, sha256, body: body)
        message.url += "?\(Route.leaseParameter)=\(lease)"
        message.headers.removeAll { $0.name == "Content-Type" }
        message.limit = .stall(seconds: Self.stallSeconds)
        return message
    }

    /// Returns a successful answer, however long the coordinator is away.
    private func transfer(_ request: HTTPRequest) async throws(APIError) -> HTTPResponse {
        var request = request
        request.limit = .stall(seconds: Self.stallSeconds)
        request.replyLimitBytes = Self.replyLimitBytes
        return try await retrying(.infinity, Self.longestPauseSeconds) {
            [request] () async throws(APIError) in
            try Self.checked(try await send(request))
        }
    }
}
