import Crypto
package import Foundation

/// A key that opens a bucket.
package struct S3Credentials: Equatable, Sendable {
    package let accessKey: String
    package let secretKey: String
    /// Of credentials that end by themselves.
    package let sessionToken: String?

    package init(accessKey: String, secretKey: String, sessionToken: String? = nil) {
        self.accessKey = accessKey
        self.secretKey = secretKey
        self.sessionToken = sessionToken
    }
}

/// A request before it is signed.
package struct S3Request: Equatable, Sendable {
    package var method: String
    /// Host, with the port where it is not the scheme's.
    package var host: String
    /// Path, not yet escaped, beginning with "/".
    package var path: String
    /// Parameters, not yet escaped, in any order.
    package var query: [(name: String, value: String)]
    /// Header fields that are signed; `host` is added.
    package var headers: [(name: String, value: String)]

    package init(
        method: String,
        host: String,
        path: String,
        query: [(name: String, value: String)] = [],
        headers: [(name: String, value: String)] = []
    ) {
        self.method = method
        self.host = host
        self.path = path
        self.query = query
        self.headers = headers
    }

    package static func == (a: Self, b: Self) -> Bool {
        a.method == b.method && a.host == b.host && a.path == b.path
            && a.query.elementsEqual(b.query, by: ==)
            && a.headers.elementsEqual(b.headers, by: ==)
    }

    /// The escaped path with the escaped parameters, as they go over the wire.
    package var target: String {
        let parameters = canonicalQuery
        return URIEscaping.path(path) + (parameters.isEmpty ? "" : "?\(parameters)")
    }

    var canonicalQuery: String {
        query.map { (URIEscaping.component($0.name), URIEscaping.component($0.value)) }
            .sorted { ($0.0, $0.1) < ($1.0, $1.1) }
            .map { "\($0)=\($1)" }.joined(separator: "&")
    }
}

/// The escaping that signatures are made over: every byte but the unreserved ones of RFC 3986.
enum URIEscaping {
    static func component(_ text: String) -> String {
        text.utf8.map(escaped).joined()
    }

    static func path(_ text: String) -> String {
        text.utf8.map { $0 == UInt8(ascii: "/") ? "/" : escaped($0) }.joined()
    }

    private static func escaped(_ byte: UInt8) -> String {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
            UInt8(ascii: "_"), UInt8(ascii: "~"):
            String(UnicodeScalar(byte))
        default:
            "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
        }
    }
}

/// Signs requests with AWS Signature Version 4.
///
/// libcurl has a signer of its own, which up to 7.88 signs unsorted parameters, keys with "=" and
/// streamed bodies wrongly. Specification: "Authenticating Requests (AWS Signature Version 4)",
/// Amazon S3 API Reference.
package struct S3Signer: Sendable {
    package static let unsignedPayload = "UNSIGNED-PAYLOAD"

    private let credentials: S3Credentials
    private let region: String
    private let service: String

    package init(_ credentials: S3Credentials, region: String, service: String = "s3") {
        self.credentials = credentials
        self.region = region
        self.service = service
    }

    /// Returns the request with the header fields that prove who sends it.
    ///
    /// - Parameters:
    ///   - request: What is asked for.
    ///   - payload: SHA-256 of the body in hexadecimal digits, or ``unsignedPayload``.
    ///   - date: Now; the server allows for 15 minutes.
    /// - Returns: The request to send.
    package func signed(_ request: S3Request, payload: String, date: Date) -> S3Request {
        var request = request
        let time = Self.time(date)
        request.headers.append((name: "x-amz-content-sha256", value: payload))
        request.headers.append((name: "x-amz-date", value: time))
        if let token = credentials.sessionToken {
            request.headers.append((name: "x-amz-security-token", value: token))
        }
        let signature = signature(of: request, payload: payload, time: time)
        let value =
            "AWS4-HMAC-SHA256 Credential=\(credentials.accessKey)/\(scope(time)),"
            + "SignedHeaders=\(Self.names(headers(of: request))),Signature=\(signature)"
        request.headers.append((name: "authorization", value: value))
        return request
    }

    /// Returns the request with the parameters that let anyone who has them send it for a while.
    ///
    /// Whoever sends it sends exactly the header fields that it had before.
    ///
    /// - Parameters:
    ///   - request: What is allowed.
    ///   - seconds: How long, at most a week.
    ///   - date: Now.
    /// - Returns: The request whose host and target make the URL.
    package func presigned(_ request: S3Request, seconds: Int, date: Date) -> S3Request {
        var request = request
        let time = Self.time(date)
        request.query += [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", "\(credentials.accessKey)/\(scope(time))"),
            ("X-Amz-Date", time),
            ("X-Amz-Expires", String(seconds)),
            ("X-Amz-SignedHeaders", Self.names(headers(of: request))),
        ]
        if let token = credentials.sessionToken {
            request.query.append((name: "X-Amz-Security-Token", value: token))
        }
        let signature = signature(of: request, payload: Self.unsignedPayload, time: time)
        request.query.append((name: "X-Amz-Signature", value: signature))
        return request
    }

    /// Signs exactly what a request has.
    ///
    /// - Parameters:
    ///   - request: With the header fields and parameters that name signer and time.
    ///   - payload: As for ``signed(_:payload:date:)``.
    ///   - time: Now, as `20130524T000000Z`.
    /// - Returns: The signature in hexadecimal digits.
    package func signature(of request: S3Request, payload: String, time: String) -> String {
        let headers = headers(of: request)
        let canonical = [
            request.method, URIEscaping.path(request.path), request.canonicalQuery,
            headers.map { "\($0.name):\($0.value)\n" }.joined(), Self.names(headers), payload,
        ].joined(separator: "\n")
        let text = [
            "AWS4-HMAC-SHA256", time, scope(time), Self.sha256(Array(canonical.utf8)),
        ].joined(separator: "\n")
        let key = [String(time.prefix(8)), region, service, "aws4_request"]
            .reduce(Array("AWS4\(credentials.secretKey)".utf8)) { Self.authentication($1, key: $0) }
        return S3Checksum.hexadecimal(Self.authentication(text, key: key))
    }

    /// The header fields to sign: names in lower case, in their order, values trimmed.
    private func headers(of request: S3Request) -> [(name: String, value: String)] {
        (request.headers + [(name: "host", value: request.host)])
            .map { ($0.name.lowercased(), Self.trimmed($0.value)) }
            .sorted { $0.0 < $1.0 }
    }

    private static func trimmed(_ value: String) -> String {
        value.split(separator: " ").joined(separator: " ")
    }

    private static func names(_ headers: [(name: String, value: String)]) -> String {
        headers.map(\.name).joined(separator: ";")
    }

    private func scope(_ time: String) -> String {
        "\(time.prefix(8))/\(region)/\(service)/aws4_request"
    }

    private static func authentication(_ text: String, key: [UInt8]) -> [UInt8] {
        let code = HMAC<SHA256>.authenticationCode(
            for: Array(text.utf8),
            using: SymmetricKey(data: key)
        )
        return Array(code)
    }

    /// Returns SHA-256 in lower-case hexadecimal digits.
    package static func sha256(_ bytes: [UInt8]) -> String {
        S3Checksum.hexadecimal(SHA256.hash(data: bytes))
    }

    /// Returns a moment as `20130524T000000Z`.
    private static func time(_ date: Date) -> String {
        var seconds = time_t(date.timeIntervalSince1970.rounded(.down))
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func digits(_ number: Int32, _ count: Int) -> String {
            let text = String(number)
            return String(repeating: "0", count: max(0, count - text.count)) + text
        }
        return digits(parts.tm_year + 1900, 4) + digits(parts.tm_mon + 1, 2)
            + digits(parts.tm_mday, 2) + "T" + digits(parts.tm_hour, 2)
            + digits(parts.tm_min, 2) + digits(parts.tm_sec, 2) + "Z"
    }
}
