import Crypto
import Foundation
import HTTPTransport

// Single objects, whole or in parts.
extension S3Client {
    /// Bytes of an object that are read at a time.
    static let rangeBytes: Int64 = 8 << 20

    /// What a service tells of an object without its bytes.
    private struct Head {
        let bytes: Int64
        let etag: String
        /// Of all its bytes, in hexadecimal digits, where the service keeps that.
        let sha256: String?
    }

    private func head(_ object: S3Location) throws(S3Error) -> Head? {
        let headers = [(name: "x-amz-checksum-mode", value: "ENABLED")]
        do throws(S3Error) {
            let found = try send(configuration.request("HEAD", object, headers: headers)).headers
            guard let bytes = found["content-length"].flatMap({ Int64($0) }) else {
                let message = "\(object): the answer tells no length."
                throw S3Error(status: 200, code: "", message: message)
            }
            return Head(
                bytes: bytes,
                etag: found["etag"] ?? "",
                sha256: found[S3Checksum.field].flatMap(S3Checksum.hexadecimal)
            )
        } catch  where error.status == 404 {
            return nil
        }
    }

    /// Tells whether there is an object at a place.
    package func contains(_ object: S3Location) throws(S3Error) -> Bool {
        try head(object) != nil
    }

    /// Returns the size and the SHA-256 (64 lower-case hexadecimal digits) of an object; nil if there
    /// is none.
    ///
    /// The digest is the one that the service checked when the object was put; an object without one,
    /// such as one that was put in parts, is read.
    package func digest(
        of object: S3Location
    ) throws(S3Error) -> (bytes: Int64, sha256: String)? {
        guard let head = try head(object) else { return nil }
        if let sha256 = head.sha256 { return (head.bytes, sha256) }
        var hash = SHA256()
        for start in stride(from: 0, to: head.bytes, by: Int(Self.rangeBytes)) {
            let end = min(start + Self.rangeBytes, head.bytes)
            let request = configuration.request(
                "GET",
                object,
                headers: [("range", "bytes=\(start)-\(end - 1)"), ("if-match", head.etag)]
            )
            let part = try send(request)
            guard part.status == 206, part.body.count == end - start else {
                throw S3Error(
                    status: part.status,
                    code: "",
                    message: "\(object): other bytes came than were asked for."
                )
            }
            hash.update(data: part.body)
        }
        return (head.bytes, S3Checksum.hexadecimal(hash.finalize()))
    }

    /// Puts an object in its place; one that is there is replaced.
    package func put(_ bytes: [UInt8], at object: S3Location) throws(S3Error) {
        _ = try send(configuration.request("PUT", object), body: bytes)
    }

    /// Begins an upload in parts.
    ///
    /// - Returns: Its id, which the URLs of the parts and of the completion contain as `uploadId`.
    package func beginUpload(of object: S3Location) throws(S3Error) -> String {
        let request = configuration.request("POST", object, query: [("uploads", "")])
        let response = try send(request, body: [])
        guard let id = ListingParser.text("UploadId", in: response.body) else {
            throw S3Error(
                status: response.status,
                code: "",
                message: "\(object): the answer names no upload."
            )
        }
        return id
    }

    /// Drops uploads in parts that were begun below a prefix and not completed, a thousand at most.
    package func abortUploads(below prefix: S3Location) throws(S3Error) {
        let bucket = S3Location(bucket: prefix.bucket, key: "")
        let query = [
            (name: "uploads", value: ""), (name: "encoding-type", value: "url"),
            (name: "prefix", value: prefix.key + "/"),
        ]
        let response = try send(configuration.request("GET", bucket, query: query))
        for (key, id) in ListingParser.uploads(in: response.body) {
            let object = S3Location(bucket: prefix.bucket, key: key)
            do throws(S3Error) {
                _ = try send(configuration.request("DELETE", object, query: [("uploadId", id)]))
            } catch  where error.status == 404 {
                // Completed or dropped meanwhile.
            }
        }
    }
}

/// SHA-256 as services keep it with their objects.
package enum S3Checksum {
    /// The header field that has it, in Base64: of a request, to be checked; of an answer, as it was.
    package static let field = "x-amz-checksum-sha256"

    /// Returns the field's value from hexadecimal digits.
    package static func base64(_ hexadecimal: String) -> String {
        let digits = hexadecimal.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
        let bytes = stride(from: 0, to: digits.count - 1, by: 2)
            .map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
        return Data(bytes).base64EncodedString()
    }

    /// Returns hexadecimal digits from the field's value; nil for that of an object in parts, which is
    /// a digest of digests.
    static func hexadecimal(_ base64: String) -> String? {
        guard let bytes = Data(base64Encoded: base64), bytes.count == SHA256.byteCount else {
            return nil
        }
        return hexadecimal(bytes)
    }

    static func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }
}
