import Crypto
import Foundation
package import JobProtocol

/// The bearer tokens that open the coordinator, as digests: the tokens themselves are not kept.
///
/// The file has one token a line: `scope token`, or a bare token, which has the scope `admin`.
/// Instead of a token there may be `sha256:` and its digest in hexadecimal digits, so that the
/// file holds no secret. Empty lines and what follows a `#` are left out.
package struct Tokens: Sendable {
    /// Fewest characters of a token: 16 random characters cannot be guessed over a network.
    package static let leastCharacters = 16

    private let entries: [(scope: TokenScope, digest: [UInt8])]

    /// - Throws: `StartError.refused`, naming the line.
    package init(text: String) throws(StartError) {
        var entries: [(scope: TokenScope, digest: [UInt8])] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false)
            .enumerated()
        {
            let words = line.prefix { $0 != "#" }.split(whereSeparator: \.isWhitespace)
            guard let token = words.last else { continue }
            guard words.count <= 2,
                let scope = words.count == 1 ? .admin : TokenScope(rawValue: String(words[0]))
            else {
                throw .refused(
                    reason: "Line \(index + 1) of the token file is not \"scope token\" with a "
                        + "scope out of read, submit, worker, admin."
                )
            }
            guard let digest = Self.digest(of: token) else {
                throw .refused(
                    reason: "Line \(index + 1) of the token file: a token has at least "
                        + "\(Self.leastCharacters) characters, a digest 64 hexadecimal digits."
                )
            }
            entries.append((scope, digest))
        }
        guard !entries.isEmpty else { throw .refused(reason: "The token file holds no token.") }
        self.entries = entries
    }

    /// Reads a token file.
    package init(path: String) throws(StartError) {
        let text: String
        do {
            text = try String(contentsOfFile: path, encoding: .utf8)
        } catch {
            throw .unusable(path: path, reason: "\(error.localizedDescription)")
        }
        try self.init(text: text)
    }

    /// Returns the scopes of a token; empty for one that is unknown.
    ///
    /// Takes the same time for every token: digests are compared, each in constant time.
    package func scopes(of token: String) -> Set<TokenScope> {
        let presented = Array(SHA256.hash(data: Array(token.utf8)))
        var scopes: Set<TokenScope> = []
        for entry in entries {
            let difference = zip(entry.digest, presented).reduce(0) { $0 | ($1.0 ^ $1.1) }
            if difference == 0 {
                scopes.insert(entry.scope)
            }
        }
        return scopes
    }

    private static func digest(of token: Substring) -> [UInt8]? {
        let prefix = "sha256:"
        guard token.hasPrefix(prefix) else {
            guard token.count >= leastCharacters else { return nil }
            return Array(SHA256.hash(data: Array(token.utf8)))
        }
        let text = String(token.dropFirst(prefix.count))
        return text.isDigest ? bytes(hexadecimal: text) : nil
    }
}
