import CrashPoints
package import HTTPTransport
package import JobProtocol

/// A dataset in S3: the model by a URL that came with the lease, the output by requests that the
/// coordinator signs; samples by another way.
package struct DatasetURLPlane: DataPlane {
    private let lease: Lease
    private let url: String
    private let rest: any DataPlane
    private let api: any BlobAPI
    private let http: HTTPClient

    /// - Parameters:
    ///   - lease: The lease.
    ///   - modelURL: That of its model.
    ///   - rest: The way to the samples.
    ///   - api: Signs.
    ///   - http: Keeps the connections.
    package init(
        _ lease: Lease,
        modelURL: String,
        rest: any DataPlane,
        api: any BlobAPI,
        http: HTTPClient
    ) {
        self.lease = lease
        url = modelURL
        self.rest = rest
        self.api = api
        self.http = http
    }

    package var modelPath: String {
        "\(lease.destination)/\(DatasetLayout.modelFile(id: lease.modelID))"
    }

    package func model() async throws(ModelStoreError) -> [UInt8] {
        switch await SignedTransfer.fetch(url, http) {
        case .success(let response) where response.status == 200:
            return response.body
        case .success(let response):
            throw ModelStoreError(
                reason: response.status == 404 ? .notFound : .unreadable,
                message: "cannot read \(modelPath): HTTP status \(response.status)"
            )
        case .failure(let error):
            throw ModelStoreError(
                reason: .unreadable,
                message: "cannot read \(modelPath): \(error.detail)"
            )
        }
    }

    package func checkSource() async throws(DataPlaneError) {
        try await rest.checkSource()
    }

    package func read(_ index: Int) async throws(DataPlaneError) -> [UInt8] {
        try await rest.read(index)
    }

    package func place(_ shard: [UInt8], sha256: String) async throws(DataPlaneError) {
        let wish = UploadRequest(lease: lease.lease, sha256: sha256, bytes: Int64(shard.count))
        let upload: UploadReply
        do {
            upload = try await api.urls(for: wish)
        } catch {
            throw DataPlaneError(error)
        }
        guard upload.partBytes > 0 else { throw DataPlaneError(.way, "the upload has empty parts") }
        var tags: [String] = []
        for (index, part) in upload.parts.enumerated() {
            let rest = shard.dropFirst(index * Int(upload.partBytes))
            let body = Array(rest.prefix(Int(upload.partBytes)))
            // 412: there is something under its name; the coordinator looks what it is.
            let answer = try await send(part, body, accepting: [200, 412])
            tags.append(answer.headers["etag"] ?? "")
            CrashPoint.reached(.duringUpload)
        }
        if let completion = upload.completion {
            let list = Array(Self.list(ofParts: tags).utf8)
            // 404: the upload is over, as after an answer that was lost.
            _ = try await send(completion, list, accepting: [200, 404, 412])
        }
    }

    /// Sends one of the requests that place a shard.
    private func send(
        _ request: SignedRequest,
        _ body: [UInt8],
        accepting statuses: [Int]
    ) async throws(DataPlaneError) -> HTTPResponse {
        let place = "shard \(lease.ordinal) in \(lease.destination)"
        let response: HTTPResponse
        do {
            response = try await SignedTransfer.send(request, body: body, http).get()
        } catch {
            throw DataPlaneError(.way, "cannot place \(place): \(error.detail)")
        }
        guard statuses.contains(response.status) else {
            throw DataPlaneError(.way, "cannot place \(place): HTTP status \(response.status)")
        }
        return response
    }

    /// The body of S3's `CompleteMultipartUpload`.
    private static func list(ofParts tags: [String]) -> String {
        let parts = tags.enumerated().map { index, tag in
            "<Part><PartNumber>\(index + 1)</PartNumber><ETag>\(tag)</ETag></Part>"
        }
        return "<CompleteMultipartUpload>\(parts.joined())</CompleteMultipartUpload>"
    }
}
