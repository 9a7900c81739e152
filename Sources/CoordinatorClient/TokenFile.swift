import Foundation
package import JobProtocol

/// Reads a bearer token from a file, never from an argument, which every user could see in `ps`.
package enum TokenFile {
    /// Returns the first token whose scope allows what the caller will do.
    ///
    /// Lines are `scope token`, or one bare token, which is an administrator's; "#" starts a
    /// comment line.
    ///
    /// - Parameters:
    ///   - path: The file.
    ///   - scope: What the token will be used for.
    /// - Returns: The token.
    /// - Throws: `ClientConfigurationError.badTokenFile`, when there is none.
    package static func read(
        path: String,
        for scope: TokenScope
    ) throws(ClientConfigurationError) -> String {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw .badTokenFile(path: path, reason: "it cannot be read")
        }
        guard let text = String(data: data, encoding: .utf8) else {
            throw .badTokenFile(path: path, reason: "it is not text")
        }
        return try token(in: text, path: path, for: scope)
    }

    private static func token(
        in text: String,
        path: String,
        for scope: TokenScope
    ) throws(ClientConfigurationError) -> String {
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
            guard let first = words.first, let last = words.last else { continue }
            // A coordinator's file may hold digests, which open nothing.
            if first.hasPrefix("#") || last.hasPrefix("sha256:") { continue }
            switch words.count {
            case 1:
                return words[0]
            case 2:
                guard let given = TokenScope(rawValue: words[0]) else {
                    throw .badTokenFile(path: path, reason: "\"\(words[0])\" is no scope")
                }
                if given.allows(scope) { return words[1] }
            default:
                throw .badTokenFile(path: path, reason: "a line has more than two words")
            }
        }
        throw .badTokenFile(path: path, reason: "no token in it allows \"\(scope.rawValue)\"")
    }
}
