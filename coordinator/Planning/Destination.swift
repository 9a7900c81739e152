import CrashPoints
import Foundation
import JobProtocol
import S3

/// A destination that cannot be read or written.
struct DestinationError: Error, Equatable {
    let path: String
    let reason: String
}

/// Where a dataset is made: in a folder, or in S3.
///
/// Names in it are those of `DatasetLayout`.
enum Destination: Sendable {
    case folder(path: String)
    case bucket(S3Location, S3Client)

    /// Returns what people call the file of a name.
    func path(of name: String) -> String {
        switch self {
        case .folder(let path): "\(path)/\(name)"
        case .bucket(let location, _): location.appending(name).description
        }
    }

    /// Tells whether there is a file of a name.
    func contains(_ name: String) throws(DestinationError) -> Bool {
        switch self {
        case .folder:
            try naming(name) { () throws(SystemError) in
                if case .file = try Files.kind(of: path(of: name)) { true } else { false }
            }
        case .bucket(let location, let client):
            try naming(name) { () throws(S3Error) in
                try client.contains(location.appending(name))
            }
        }
    }

    /// Returns the size and the SHA-256 (64 lower-case hexadecimal digits) of the file of a name; nil
    /// if there is none.
    func digest(of name: String) throws(DestinationError) -> (bytes: Int64, sha256: String)? {
        switch self {
        case .folder:
            guard try contains(name) else { return nil }
            return try naming(name) { () throws(SystemError) in
                try Files.digest(of: path(of: name))
            }
        case .bucket(let location, let client):
            return try naming(name) { () throws(S3Error) in
                try client.digest(of: location.appending(name))
            }
        }
    }

    /// Writes a file so that it has either its old or its new content, also after a crash.
    func replace(_ name: String, with content: [UInt8]) throws(DestinationError) {
        switch self {
        case .folder:
            try naming(name) { () throws(SystemError) in
                try Files.replace(path(of: name), with: content)
            }
        case .bucket(let location, let client):
            try naming(name) { () throws(S3Error) in
                CrashPoint.reached(.beforeReplacing)
                try client.put(content, at: location.appending(name))
                CrashPoint.reached(.afterReplacing)
            }
        }
    }

    /// Removes the unfinished outputs that interrupted workers left behind.
    func removeLeftovers() throws(DestinationError) {
        let folder = DatasetLayout.shardFolder
        switch self {
        case .folder:
            try naming(folder) { () throws(SystemError) in
                try Files.removePartials(in: path(of: folder))
            }
        case .bucket(let location, let client):
            try naming(folder) { () throws(S3Error) in
                try client.abortUploads(below: location.appending(folder))
            }
        }
    }

    /// Does work on a file; its errors get the file's name.
    private func naming<Value, Failure: CustomStringConvertible>(
        _ name: String,
        _ work: () throws(Failure) -> Value
    ) throws(DestinationError) -> Value {
        do {
            return try work()
        } catch {
            throw DestinationError(path: path(of: name), reason: error.description)
        }
    }
}

// MARK: - Bytes that go past the coordinator

extension Destination {
    /// Returns a URL under which workers read a file; nil where they have other ways.
    func url(of name: String) -> String? {
        guard case .bucket(let location, let client) = self else { return nil }
        return client.url(of: location.appending(name), seconds: Limits.urlSeconds)
    }

    /// Signs the requests that put a file in its place, unless there is one of its name.
    ///
    /// - Parameters:
    ///   - name: Contains the digest.
    ///   - sha256: What the service is to check, where one request puts all.
    ///   - bytes: Size of the file.
    /// - Returns: The requests; nil where workers have other ways.
    /// - Throws: `DestinationError`, when S3 does not answer as it should.
    func upload(
        of name: String,
        sha256: String,
        bytes: Int64
    ) throws(DestinationError) -> UploadReply? {
        guard case .bucket(let location, let client) = self else { return nil }
        let partBytes = Limits.uploadPartBytes
        guard try !contains(name) else { return UploadReply(parts: [], partBytes: partBytes) }
        let object = location.appending(name)
        func request(
            _ method: String,
            query: [(name: String, value: String)] = [],
            headers: [(name: String, value: String)]
        ) -> SignedRequest {
            SignedRequest(
                method: method,
                url: client.url(
                    method,
                    of: object,
                    query: query,
                    headers: headers,
                    seconds: Limits.urlSeconds
                ),
                headers: Dictionary(headers) { first, _ in first }
            )
        }
        let unlessThere = (name: "if-none-match", value: "*")
        guard bytes > partBytes else {
            let headers = [
                (name: "content-length", value: String(bytes)), unlessThere,
                (name: S3Checksum.field, value: S3Checksum.base64(sha256)),
                (name: "x-amz-sdk-checksum-algorithm", value: "SHA256"),
            ]
            return UploadReply(parts: [request("PUT", headers: headers)], partBytes: partBytes)
        }
        let id = try naming(name) { () throws(S3Error) in try client.beginUpload(of: object) }
        let starts = stride(from: 0, to: bytes, by: Int(partBytes))
        let parts = starts.enumerated().map { index, start in
            request(
                "PUT",
                query: [("partNumber", String(index + 1)), ("uploadId", id)],
                headers: [("content-length", String(min(partBytes, bytes - start)))]
            )
        }
        let completion = request("POST", query: [("uploadId", id)], headers: [unlessThere])
        return UploadReply(parts: parts, partBytes: partBytes, completion: completion)
    }
}
