import Foundation
import HTTPTransport

/// A request to an S3 service that has no result.
package struct S3Error: Error, Equatable, Sendable {
    /// Status of HTTP; 0 when no answer came.
    package let status: Int
    /// S3's name of the error, such as `NoSuchKey`; empty when the answer has none.
    package let code: String
    /// What failed, where and why, for people.
    package let message: String

    /// Whether the same request may succeed later.
    package var isRetryable: Bool { status == 0 || status == 429 || status >= 500 }
}

extension S3Error: CustomStringConvertible {
    package var description: String { message }
}

/// An object as a service tells it.
package struct S3Object: Equatable, Sendable {
    package let key: String
    package let bytes: Int64

    package init(key: String, bytes: Int64) {
        self.key = key
        self.bytes = bytes
    }
}

/// Some keys below a prefix.
package struct S3Listing: Equatable, Sendable {
    package var objects: [S3Object] = []
    /// Prefixes that end in the delimiter, each for the keys that begin with it.
    package var prefixes: [String] = []
    /// Where the next part begins; nil at the end.
    package var continuation: String?

    package init() {}
}

/// Objects of an S3 service: listing, reading and putting them, and URLs that let others do so.
///
/// Requests are signed here (``S3Signer``) and sent by libcurl; they block their thread. What may
/// pass is tried again.
package struct S3Client: Sendable {
    /// Tries of a request.
    static let tries = 6
    /// A transfer that moves less than a kilobyte a second for this long is begun anew, in seconds.
    static let stallSeconds = 30

    let configuration: S3Configuration
    private let signer: S3Signer
    private let http = HTTPClient()

    package init(_ configuration: S3Configuration) {
        self.configuration = configuration
        signer = S3Signer(configuration.credentials, region: configuration.region)
    }

    /// Lists one page of what lies directly below a prefix, in the order of the keys.
    package func list(
        _ folder: S3Location,
        continuation: String? = nil
    ) throws(S3Error) -> S3Listing {
        var query = [
            (name: "list-type", value: "2"), (name: "delimiter", value: "/"),
            (name: "encoding-type", value: "url"),
            (name: "prefix", value: folder.key.isEmpty ? "" : folder.key + "/"),
        ]
        if let continuation { query.append(("continuation-token", continuation)) }
        let bucket = S3Location(bucket: folder.bucket, key: "")
        let response = try send(configuration.request("GET", bucket, query: query))
        guard let listing = S3Listing(xml: response.body) else {
            throw S3Error(
                status: response.status,
                code: "",
                message: "\(folder): the listing is not S3's."
            )
        }
        return listing
    }

    /// Returns a URL with which anyone may send one kind of request for some seconds.
    ///
    /// - Parameters:
    ///   - method: Of HTTP.
    ///   - object: What the request is about.
    ///   - query: Its parameters.
    ///   - headers: Fields that have to be sent with these values.
    ///   - seconds: How long, at most a week.
    /// - Returns: The URL.
    package func url(
        _ method: String = "GET",
        of object: S3Location,
        query: [(name: String, value: String)] = [],
        headers: [(name: String, value: String)] = [],
        seconds: Int
    ) -> String {
        let request = configuration.request(method, object, query: query, headers: headers)
        return url(of: signer.presigned(request, seconds: seconds, date: Date()))
    }

    private func url(of request: S3Request) -> String {
        "\(configuration.scheme)://\(request.host)\(request.target)"
    }

    /// Sends a request until it succeeds or its failure will stay.
    func send(_ request: S3Request, body: [UInt8]? = nil) throws(S3Error) -> HTTPResponse {
        var backoff = Backoff()
        var generator = SystemRandomNumberGenerator()
        while true {
            do throws(S3Error) {
                return try sendOnce(request, body)
            } catch {
                let delay = backoff.nextDelaySeconds(using: &generator)
                guard error.isRetryable, backoff.failures < Self.tries else { throw error }
                Thread.sleep(forTimeInterval: delay)
            }
        }
    }

    private func sendOnce(
        _ request: S3Request,
        _ body: [UInt8]?
    ) throws(S3Error) -> HTTPResponse {
        let signed = signer.signed(request, payload: S3Signer.sha256(body ?? []), date: Date())
        let message = HTTPRequest(
            method: request.method,
            url: url(of: signed),
            headers: signed.headers,
            body: body,
            limit: .stall(seconds: Self.stallSeconds)
        )
        let response: HTTPResponse
        do {
            response = try http.sendBlocking(message)
        } catch {
            throw S3Error(
                status: error.isRetryable ? 0 : 400,
                code: "",
                message: "\(request.method) \(request.path): \(error.detail)"
            )
        }
        guard (200...299).contains(response.status) else {
            let code = ListingParser.text("Code", in: response.body) ?? ""
            let text = ListingParser.text("Message", in: response.body) ?? ""
            throw S3Error(
                status: response.status,
                code: code,
                message: "\(request.method) \(request.path): HTTP status \(response.status) "
                    + "\(code) \(text)"
            )
        }
        return response
    }
}
