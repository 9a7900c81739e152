/// A worker's wish to place the output of a lease where only signed requests may.
package struct UploadRequest: Equatable, Codable, Sendable {
    package var lease: LeaseID
    /// SHA-256 of the shard file, 64 lower-case hexadecimal digits.
    package var sha256: String
    /// Size of the shard file.
    package var bytes: Int64

    package init(lease: LeaseID, sha256: String, bytes: Int64) {
        self.lease = lease
        self.sha256 = sha256
        self.bytes = bytes
    }
}

/// The requests that place an output; anyone who has them may send them, for `Limits.urlSeconds`.
package struct UploadReply: Equatable, Codable, Sendable {
    /// One for each part of the file, in order; none when the file is in its place already.
    package var parts: [SignedRequest]
    /// Bytes of each part but the last.
    package var partBytes: Int64
    /// Makes a file of the parts, as S3's `CompleteMultipartUpload`; nil where the first request puts
    /// all of it.
    package var completion: SignedRequest?

    package init(parts: [SignedRequest], partBytes: Int64, completion: SignedRequest? = nil) {
        self.parts = parts
        self.partBytes = partBytes
        self.completion = completion
    }
}

/// A request that needs a body and nothing else to be sent.
package struct SignedRequest: Equatable, Codable, Sendable {
    package var method: String
    package var url: String
    /// Header fields that have to be sent with these values.
    package var headers: [String: String]

    package init(method: String, url: String, headers: [String: String]) {
        self.method = method
        self.url = url
        self.headers = headers
    }
}
