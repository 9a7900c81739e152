internal import CCurl

/// A result of libcurl (`CURLcode`), under libcurl's own number and name.
package struct CurlCode: RawRepresentable, Equatable, Sendable {
    package let rawValue: UInt32

    package init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    init(_ code: CURLcode) {
        rawValue = code.rawValue
    }

    package static let ok = CurlCode(CURLE_OK)
    package static let unsupportedProtocol = CurlCode(CURLE_UNSUPPORTED_PROTOCOL)
    package static let malformedURL = CurlCode(CURLE_URL_MALFORMAT)
    package static let couldNotResolveHost = CurlCode(CURLE_COULDNT_RESOLVE_HOST)
    package static let couldNotConnect = CurlCode(CURLE_COULDNT_CONNECT)
    package static let writeError = CurlCode(CURLE_WRITE_ERROR)
    package static let outOfMemory = CurlCode(CURLE_OUT_OF_MEMORY)
    package static let timedOut = CurlCode(CURLE_OPERATION_TIMEDOUT)
    package static let gotNothing = CurlCode(CURLE_GOT_NOTHING)
    package static let abortedByCallback = CurlCode(CURLE_ABORTED_BY_CALLBACK)
    package static let certificateProblem = CurlCode(CURLE_SSL_CERTPROBLEM)
    package static let peerFailedVerification = CurlCode(CURLE_PEER_FAILED_VERIFICATION)
    package static let badAuthorityFile = CurlCode(CURLE_SSL_CACERT_BADFILE)

    /// Whether the same request may succeed later without anyone changing anything.
    package var isTransient: Bool {
        switch self {
        case .ok, .unsupportedProtocol, .malformedURL, .writeError, .abortedByCallback,
            .certificateProblem, .peerFailedVerification, .badAuthorityFile:
            false
        default:
            true
        }
    }
}

extension CurlCode: CustomStringConvertible {
    /// libcurl's own words, for example "Couldn't connect to server".
    package var description: String {
        String(cString: curl_easy_strerror(CURLcode(rawValue)))
    }
}
