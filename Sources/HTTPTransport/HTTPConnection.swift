internal import CCurl
import Synchronization

/// A flag that stops a running transfer within about a second; set from any thread.
package final class TransferCancellation: Sendable {
    private let flag = Atomic<Bool>(false)

    package init() {}

    package func cancel() {
        flag.store(true, ordering: .relaxed)
    }

    package var isCancelled: Bool { flag.load(ordering: .relaxed) }
}

/// One curl easy handle with its connection cache: sends one request at a time and blocks.
///
/// Keep-alive connections stay open between requests. HTTP and HTTPS only, no redirects, no
/// signals; a response body above ``HTTPRequest/replyLimitBytes`` fails the transfer.
///
/// `@unchecked Sendable`: not locked. Its owner hands it to one thread at a time, ``HTTPClient``
/// by taking it out of its idle list, the lease keeper by never sharing it.
package final class HTTPConnection: @unchecked Sendable {
    /// Longest wait for a connection (including name resolution and TLS), in seconds.
    package static let connectTimeoutSeconds = 10.0

    private let handle: UnsafeMutableRawPointer
    private let tls: TLSFiles

    /// libcurl's process-wide start, once.
    private static let isGlobalStateReady: Bool = {
        curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK
    }()

    /// libcurl's own version line, such as "libcurl/7.88.1 OpenSSL/3.0.17 zlib/1.2.13".
    package static var libraryVersion: String { String(cString: curl_version()) }

    package init(tls: TLSFiles = TLSFiles()) {
        precondition(Self.isGlobalStateReady, "libcurl starts")
        guard let handle = curl_easy_init() else {
            preconditionFailure("libcurl has memory for an easy handle")
        }
        self.handle = handle
        self.tls = tls
    }

    deinit {
        curl_easy_cleanup(handle)
    }

    /// What the callbacks of one transfer fill.
    private final class Transfer {
        let cancellation: TransferCancellation
        let limitBytes: Int
        var body: [UInt8] = []
        var headers: [String: String] = [:]

        init(_ cancellation: TransferCancellation, limitBytes: Int) {
            self.cancellation = cancellation
            self.limitBytes = limitBytes
        }

        static func from(_ context: UnsafeMutableRawPointer?) -> Transfer? {
            context.map { Unmanaged<Transfer>.fromOpaque($0).takeUnretainedValue() }
        }

        func appendBody(_ bytes: UnsafeRawBufferPointer) -> Bool {
            guard body.count + bytes.count <= limitBytes else { return false }
            body.append(contentsOf: bytes)
            return true
        }

        func appendHeaderLine(_ bytes: UnsafeRawBufferPointer) {
            let line = String(decoding: bytes, as: UTF8.self)
            // A status line starts a new header block (after "100 Continue", for example).
            if line.hasPrefix("HTTP/") { headers.removeAll() }
            guard let colon = line.firstIndex(of: ":") else { return }
            let value = line[line.index(after: colon)...]
            headers[line[..<colon].lowercased()] = value.trimmingWhitespace()
        }
    }

    /// Sends the request and returns the whole response, whatever its status.
    ///
    /// Blocks the calling thread until then, or until `cancellation` is set (seen within a second).
    package func send(
        _ request: HTTPRequest,
        cancellation: TransferCancellation = TransferCancellation()
    ) throws(TransportError) -> HTTPResponse {
        curl_easy_reset(handle)
        let transfer = Transfer(cancellation, limitBytes: request.replyLimitBytes)
        var errorText = [CChar](repeating: 0, count: Int(CURL_ERROR_SIZE))
        var fields: UnsafeMutablePointer<curl_slist>?
        defer { curl_slist_free_all(fields) }
        for header in request.headers + Self.withheld(from: request) {
            let line = header.value.isEmpty ? "\(header.name):" : "\(header.name): \(header.value)"
            fields = curl_slist_append(fields, line) ?? fields
        }

        let code = withExtendedLifetime(transfer) {
            errorText.withUnsafeMutableBufferPointer { text in
                (request.body ?? []).withUnsafeBytes { body in
                    configure(request, body: body, fields: fields, transfer: transfer, text: text)
                    defer {
                        // The handle must not keep a pointer into memory that ends here.
                        _ = curl_easy_setopt_pointer(handle, CURLOPT_ERRORBUFFER, nil)
                    }
                    return CurlCode(curl_easy_perform(handle))
                }
            }
        }
        var status = 0
        _ = curl_easy_getinfo_long(handle, CURLINFO_RESPONSE_CODE, &status)
        let response = HTTPResponse(
            status: status,
            headers: transfer.headers,
            body: transfer.body
        )
        guard code == .ok else {
            let text = String(
                decoding: errorText.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) },
                as: UTF8.self
            )
            throw TransportError(
                code: code,
                url: request.url,
                detail: text.isEmpty ? code.description : text,
                partial: status == 0 ? nil : response
            )
        }
        return response
    }

    /// Header fields that libcurl would add by itself, without their values, so that it does not: it
    /// takes every body for a form.
    private static func withheld(from request: HTTPRequest) -> [(name: String, value: String)] {
        ["Expect", "Content-Type"].filter { name in
            !request.headers.contains { $0.name.lowercased() == name.lowercased() }
        }.map { ($0, "") }
    }

    private func configure(
        _ request: HTTPRequest,
        body: UnsafeRawBufferPointer,
        fields: UnsafeMutablePointer<curl_slist>?,
        transfer: Transfer,
        text: UnsafeMutableBufferPointer<CChar>
    ) {
        set(CURLOPT_URL, request.url)
        set(CURLOPT_PROTOCOLS_STR, "http,https")
        if let authorities = tls.authorities { set(CURLOPT_CAINFO, authorities) }
        if let certificate = tls.certificate { set(CURLOPT_SSLCERT, certificate) }
        if let key = tls.key { set(CURLOPT_SSLKEY, key) }
        set(CURLOPT_NOSIGNAL, 1)
        set(CURLOPT_TCP_KEEPALIVE, 1)
        set(CURLOPT_CONNECTTIMEOUT_MS, Int(Self.connectTimeoutSeconds * 1_000))
        switch request.limit {
        case .total(let seconds):
            set(CURLOPT_TIMEOUT_MS, Int((seconds * 1_000).rounded(.up)))
        case .stall(let seconds):
            set(CURLOPT_LOW_SPEED_LIMIT, 1_024)
            set(CURLOPT_LOW_SPEED_TIME, seconds)
        }
        set(CURLOPT_USERAGENT, "flowpack")
        set(CURLOPT_ERRORBUFFER, UnsafeMutableRawPointer(text.baseAddress))

        if request.method == "HEAD" {
            set(CURLOPT_NOBODY, 1)
        } else {
            if request.body != nil {
                set(CURLOPT_POST, 1)
                set(CURLOPT_POSTFIELDS, UnsafeMutableRawPointer(mutating: body.baseAddress))
                check(
                    curl_easy_setopt_offset(
                        handle,
                        CURLOPT_POSTFIELDSIZE_LARGE,
                        curl_off_t(body.count)
                    )
                )
            }
            set(CURLOPT_CUSTOMREQUEST, request.method)
        }
        check(curl_easy_setopt_list(handle, CURLOPT_HTTPHEADER, fields))

        let context = Unmanaged.passUnretained(transfer).toOpaque()
        set(CURLOPT_WRITEDATA, context)
        check(
            curl_easy_setopt_data_function(handle, CURLOPT_WRITEFUNCTION) {
                bytes,
                size,
                count,
                context in
                let chunk = UnsafeRawBufferPointer(start: bytes, count: size * count)
                return Transfer.from(context)?.appendBody(chunk) == true ? chunk.count : 0
            }
        )
        set(CURLOPT_HEADERDATA, context)
        check(
            curl_easy_setopt_data_function(handle, CURLOPT_HEADERFUNCTION) {
                bytes,
                size,
                count,
                context in
                let line = UnsafeRawBufferPointer(start: bytes, count: size * count)
                Transfer.from(context)?.appendHeaderLine(line)
                return line.count
            }
        )
        set(CURLOPT_NOPROGRESS, 0)
        set(CURLOPT_XFERINFODATA, context)
        check(
            curl_easy_setopt_progress_function(handle) { context, _, _, _, _ in
                Transfer.from(context)?.cancellation.isCancelled == true ? 1 : 0
            }
        )
    }

    private func set(_ option: CURLoption, _ value: Int) {
        check(curl_easy_setopt_long(handle, option, value))
    }

    private func set(_ option: CURLoption, _ value: String) {
        check(curl_easy_setopt_string(handle, option, value))
    }

    private func set(_ option: CURLoption, _ value: UnsafeMutableRawPointer?) {
        check(curl_easy_setopt_pointer(handle, option, value))
    }

    /// Options are constants of this file: a refusal is a libcurl without them (older than 7.85).
    private func check(_ code: CURLcode) {
        precondition(code == CURLE_OK, "libcurl ≥ 7.85 knows every option: \(CurlCode(code))")
    }
}

extension StringProtocol {
    /// The text without leading and trailing spaces, tabs and line ends.
    func trimmingWhitespace() -> String {
        let start = drop(while: \.isWhitespace)
        let end = start.reversed().drop(while: \.isWhitespace)
        return String(end.reversed())
    }
}
