/// The bytes that a coordinator hands to a worker that shares no folder with it, and takes from it
/// or has it put elsewhere.
///
/// Every call is for a lease that the worker holds. It goes on through a coordinator that is away
/// until the task is cancelled.
package protocol BlobAPI: Sendable {
    /// Returns samples of the lease in order, beginning with the one of a number: as many as the
    /// coordinator likes, at least one.
    func samples(of lease: LeaseID, from index: Int) async throws(APIError) -> [SampleFrame]
    /// Returns a file that the lease needs, its job's model, by its SHA-256.
    func blob(_ sha256: String, for lease: LeaseID) async throws(APIError) -> [UInt8]
    /// Puts the lease's output in its place.
    func put(_ bytes: [UInt8], sha256: String, for lease: LeaseID) async throws(APIError)
    /// Returns the requests that put the lease's output in its place in S3.
    func urls(for upload: UploadRequest) async throws(APIError) -> UploadReply
}

/// A sample as it goes over the wire.
///
/// 8 bytes of a little-endian number, and as many bytes as it says: the file, or, where bit 63 is
/// set, a ``Failure`` as JSON.
package enum SampleFrame: Equatable, Sendable {
    case file([UInt8])
    case failure(Failure)

    /// Why the coordinator cannot read a sample.
    package struct Failure: Error, Equatable, Codable, Sendable {
        /// Of the file or folder, on the coordinator's machine.
        package var path: String
        /// Linux's number of the error.
        package var code: Int32

        package init(path: String, code: Int32) {
            self.path = path
            self.code = code
        }
    }

    package static let headerBytes = 8
    private static let failureBit: UInt64 = 1 << 63

    /// Returns the header of a file of some bytes.
    package static func header(fileBytes: Int) -> [UInt8] {
        bytes(UInt64(fileBytes))
    }

    /// Returns a whole frame without a file.
    package static func frame(of failure: Failure) -> [UInt8] {
        let text = Wire.encode(failure)
        return bytes(UInt64(text.count) | failureBit) + text
    }

    private static func bytes(_ number: UInt64) -> [UInt8] {
        withUnsafeBytes(of: number.littleEndian, Array.init)
    }

    /// Reads frames that follow one another.
    ///
    /// - Throws: `WireError` where they end in the middle of one or hold something else.
    package static func decode(_ bytes: [UInt8]) throws(WireError) -> [SampleFrame] {
        var frames: [SampleFrame] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            let number = rest.prefix(headerBytes).reversed()
                .reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            let length = number & ~failureBit
            guard rest.count >= headerBytes, length <= rest.count - headerBytes else {
                throw WireError(path: "", reason: "A sample ends early.")
            }
            let content = Array(rest.dropFirst(headerBytes).prefix(Int(length)))
            rest = rest.dropFirst(headerBytes + content.count)
            frames.append(
                number & failureBit == 0
                    ? .file(content) : .failure(try Wire.decode(Failure.self, from: content))
            )
        }
        return frames
    }
}

/// The header fields of uploads; those of the IETF's resumable uploads (draft-ietf-httpbis-
/// resumable-upload) where it has one.
package enum BlobHeader {
    /// Bytes of an upload that are there, in answers.
    package static let offset = "Upload-Offset"
    /// Whether the whole blob is in its place: `?1` or `?0`.
    package static let isComplete = "Upload-Complete"
}

/// The part of a blob that a body has: `Content-Range: bytes first-last/total`.
package struct ContentRange: Equatable, Sendable, LosslessStringConvertible {
    package let bytes: Range<Int64>
    package let total: Int64

    package init(_ bytes: Range<Int64>, of total: Int64) {
        self.bytes = bytes
        self.total = total
    }

    /// Reads the header's value; nil for anything that is no part of a whole.
    package init?(_ description: String) {
        let unit = "bytes "
        let parts = description.dropFirst(unit.count)
            .split(omittingEmptySubsequences: false) { $0 == "-" || $0 == "/" }
        guard description.hasPrefix(unit), parts.count == 3,
            let first = Int64(parts[0]), let last = Int64(parts[1]), let total = Int64(parts[2]),
            0 <= first, first <= last, last < total
        else { return nil }
        self.init(first..<last + 1, of: total)
    }

    package var description: String { "bytes \(bytes.lowerBound)-\(bytes.upperBound - 1)/\(total)" }
}

/// The part of a blob that a request asks for: `Range: bytes=first-last`, `first-` or `-count`.
package enum RequestedRange {
    /// Returns the bytes that a header's value names in a blob of `total` bytes; all of them for a
    /// value of another form, as RFC 9110 asks; nil when none of them exist.
    package static func bytes(_ value: String?, of total: Int64) -> Range<Int64>? {
        let unit = "bytes="
        guard let value, value.hasPrefix(unit) else { return 0..<total }
        let parts = value.dropFirst(unit.count)
            .split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { return 0..<total }
        switch (Int64(parts[0]), Int64(parts[1])) {
        case (let first?, let last?) where first <= last:
            return first < total ? first..<min(last, total - 1) + 1 : nil
        case (let first?, nil) where parts[1].isEmpty:
            return first < total ? first..<total : nil
        case (nil, let count?) where parts[0].isEmpty:
            return count > 0 && total > 0 ? max(0, total - count)..<total : nil
        default:
            return 0..<total
        }
    }
}
