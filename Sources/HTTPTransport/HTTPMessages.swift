/// One request; the body is sent whole.
package struct HTTPRequest: Sendable {
    package var method: String
    /// An absolute `http` or `https` URL.
    package var url: String
    package var headers: [(name: String, value: String)]
    package var body: [UInt8]?
    /// When a transfer is given up.
    package enum Limit: Equatable, Sendable {
        /// So long after the first byte was sent.
        case total(seconds: Double)
        /// When it moves less than a kilobyte a second for so long.
        case stall(seconds: Int)
    }

    package var limit: Limit
    /// Longest body of an answer, in bytes.
    package var replyLimitBytes = 16 << 20

    package init(
        method: String = "GET",
        url: String,
        headers: [(name: String, value: String)] = [],
        body: [UInt8]? = nil,
        limit: Limit = .total(seconds: 30)
    ) {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.limit = limit
    }
}

/// One answer, whatever its status.
package struct HTTPResponse: Equatable, Sendable {
    package let status: Int
    /// Header fields by lower-case name; of a repeated field the last one.
    package let headers: [String: String]
    package let body: [UInt8]

    package init(status: Int, headers: [String: String], body: [UInt8]) {
        self.status = status
        self.headers = headers
        self.body = body
    }
}

/// No answer came back: the transfer failed before a complete response was there.
package struct TransportError: Error, Equatable, Sendable {
    package let code: CurlCode
    package let url: String
    /// libcurl's text for this transfer, for example "Failed to connect to localhost port 7878".
    package let detail: String
    /// What had come of an answer when the transfer broke; nil when nothing had.
    package let partial: HTTPResponse?

    /// Whether the same request may succeed later without anyone changing anything.
    package var isRetryable: Bool { code.isTransient }
}

extension TransportError: CustomStringConvertible {
    package var description: String { "\(url): \(detail)" }
}
