import HTTPTransport
import JobProtocol

/// Transfers to and from URLs that are signed for anyone; tried again while their failures may pass.
enum SignedTransfer {
    typealias Result = Swift.Result<HTTPResponse, TransportError>

    /// Tries without a byte of progress.
    private static let tries = 5
    /// Longest answer, in bytes: one sample may be as long as it likes.
    private static let replyLimitBytes = 16 << 30
    /// A transfer that moves less than a kilobyte a second for this long is begun anew, in seconds.
    private static let stallSeconds = 30

    /// Fetches what is under a URL.
    ///
    /// A transfer that breaks goes on where it was, of the same version of the object only.
    ///
    /// - Parameters:
    ///   - url: The URL.
    ///   - http: Keeps the connections.
    /// - Returns: An answer with the status 200 and all bytes; one with 412 when the object was changed
    ///   meanwhile; any other that is not likely to pass.
    static func fetch(_ url: String, _ http: HTTPClient) async -> Result {
        var download = PartialDownload()
        return await retrying {
            var request = request("GET", url)
            request.headers = download.headers
            do throws(TransportError) {
                return (.success(download.taking(try await http.send(request))), false)
            } catch {
                let before = download.count
                if let partial = error.partial { _ = download.taking(partial) }
                return (.failure(error), download.count > before)
            }
        }
    }

    /// Sends a signed request with a body.
    static func send(_ signed: SignedRequest, body: [UInt8], _ http: HTTPClient) async -> Result {
        var request = request(signed.method, signed.url)
        request.headers = signed.headers.map { ($0.key, $0.value) }
        request.body = body
        return await retrying { [request] in
            do throws(TransportError) {
                return (.success(try await http.send(request)), false)
            } catch {
                return (.failure(error), false)
            }
        }
    }

    private static func request(_ method: String, _ url: String) -> HTTPRequest {
        var request = HTTPRequest(method: method, url: url, limit: .stall(seconds: stallSeconds))
        request.replyLimitBytes = replyLimitBytes
        return request
    }

    /// Tries until the result will stay, or as often as makes sense.
    ///
    /// - Parameter attempt: Returns its result, and whether it came further than those before.
    /// - Returns: The last result.
    private static func retrying(
        _ attempt: () async -> (result: Result, hasAdvanced: Bool)
    ) async -> Result {
        var backoff = Backoff()
        var generator = SystemRandomNumberGenerator()
        while true {
            let (result, hasAdvanced) = await attempt()
            if hasAdvanced { backoff.reset() }
            let delay = backoff.nextDelaySeconds(using: &generator)
            guard result.mayPass, backoff.failures < tries,
                (try? await Task.sleep(for: .seconds(delay))) != nil
            else { return result }
        }
    }
}

extension SignedTransfer.Result {
    /// Whether the same request may have another result later.
    fileprivate var mayPass: Bool {
        switch self {
        // 409: S3 is busy with another request for the same object.
        case .success(let response): [409, 429].contains(response.status) || response.status >= 500
        case .failure(let error): error.isRetryable
        }
    }
}

/// What has come of an object, and how to ask for the rest.
private struct PartialDownload {
    private var bytes: [UInt8] = []
    /// Version of the object that the bytes are of; nil where the server tells none.
    private var etag: String?

    var count: Int { bytes.count }

    /// Fields of the next request.
    var headers: [(name: String, value: String)] {
        guard let etag, !bytes.isEmpty else { return [] }
        return [("Range", "bytes=\(bytes.count)-"), ("If-Match", etag)]
    }

    /// Takes an answer's bytes, also of one that broke off.
    ///
    /// - Returns: The answer with all bytes that have come; one that has none of the object as it is.
    mutating func taking(_ response: HTTPResponse) -> HTTPResponse {
        let range = response.headers["content-range"].flatMap(ContentRange.init)
        switch response.status {
        case 206 where range?.bytes.lowerBound == Int64(bytes.count):
            bytes += response.body
        case 200:
            bytes = response.body
            etag = response.headers["etag"]
        default:
            return response
        }
        return HTTPResponse(status: 200, headers: response.headers, body: bytes)
    }
}
