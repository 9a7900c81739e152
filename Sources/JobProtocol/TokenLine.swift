/// What may be done with a token at most.
package struct TokenLimits: Equatable, Sendable {
    /// Jobs that were submitted with it and have not ended; nil for any number.
    package var openJobs: Int?
    /// Requests in a second, in the long run; nil for any number.
    package var requestsPerSecond: Int?

    package init(openJobs: Int? = nil, requestsPerSecond: Int? = nil) {
        self.openJobs = openJobs
        self.requestsPerSecond = requestsPerSecond
    }
}

/// A line of a token file: `scope [jobs=N] [requests=N] token`, or a bare token, which is an
/// administrator's.
///
/// Coordinators and clients read the same files. What follows a `#` is left out.
package struct TokenLine: Equatable, Sendable {
    package let scope: TokenScope
    package let limits: TokenLimits
    /// The token; or `sha256:` and its digest, which opens nothing.
    package let token: String

    /// Reads a line; nil for one without a token.
    ///
    /// - Throws: What is wrong with it.
    package init?(_ line: Substring) throws(TokenLineError) {
        let words = line.prefix { $0 != "#" }.split(whereSeparator: \.isWhitespace).map(String.init)
        guard let token = words.last else { return nil }
        self.token = token
        guard words.count > 1 else {
            (scope, limits) = (.admin, TokenLimits())
            return
        }
        guard let scope = TokenScope(rawValue: words[0]) else {
            throw TokenLineError(
                reason: "\"\(words[0])\" is no scope; write read, submit, worker or admin, then "
                    + "jobs=N and requests=N if there are limits, then the token"
            )
        }
        self.scope = scope
        var limits = TokenLimits()
        for word in words.dropFirst().dropLast() {
            try limits.read(word, scope)
        }
        self.limits = limits
    }
}

/// Why a line of a token file is none.
package struct TokenLineError: Error, Equatable, Sendable {
    package let reason: String
}

extension TokenLimits {
    /// Reads a word such as `jobs=20`.
    fileprivate mutating func read(_ word: String, _ scope: TokenScope) throws(TokenLineError) {
        let sides = word.split(separator: "=", omittingEmptySubsequences: false)
        guard sides.count == 2, let number = Int(sides[1]), number > 0 else {
            throw TokenLineError(reason: "\"\(word)\" is no limit; write jobs=N or requests=N")
        }
        switch sides[0] {
        case "jobs" where scope.allows(.submit): openJobs = number
        case "jobs":
            throw TokenLineError(reason: "\(word) is for tokens that submit, which \(scope) is not")
        case "requests": requestsPerSecond = number
        default:
            throw TokenLineError(reason: "\"\(word)\" is no limit; write jobs=N or requests=N")
        }
    }
}
