import Foundation
package import JobProtocol

/// Reads a bearer token from a file, never from an argument, which every user could see in `ps`.
package enum TokenFile {
    /// Returns the first token whose scope allows what the caller will do.
    ///
    /// A coordinator's file may be read, too: its lines are `TokenLine`s.
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
        for text in text.split(whereSeparator: \.isNewline) {
            let line: TokenLine?
            do throws(TokenLineError) {
                line = try TokenLine(text)
            } catch {
                throw .badTokenFile(path: path, reason: error.reason)
            }
            // Digests open nothing.
            if let line, line.scope.allows(scope), !line.token.hasPrefix("sha256:") {
                return line.token
            }
        }
        throw .badTokenFile(path: path, reason: "no token in it allows \"\(scope.rawValue)\"")
    }
}
