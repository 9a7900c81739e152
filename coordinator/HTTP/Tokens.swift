import Crypto
import Foundation
package import JobProtocol

/// The bearer tokens that open the coordinator, as digests: the tokens themselves are not kept.
///
/// The file has one `TokenLine` a line. Instead of a token there may be `sha256:` and its digest in
/// hexadecimal digits, so that the file holds no secret.
package struct Tokens: Sendable {
    /// Fewest characters of a token: 16 random characters cannot be guessed over a network.
    package static let leastCharacters = 16

    private struct Entry {
        let line: TokenLine
        let digest: [UInt8]
    }

    private let entries: [Entry]

    /// - Throws: `StartError.refused`, naming the line.
    package init(text: String) throws(StartError) {
        var entries: [Entry] = []
        for (index, text) in text.split(separator: "\n", omittingEmptySubsequences: false)
            .enumerated()
        {
            let line: TokenLine?
            do throws(TokenLineError) {
                line = try TokenLine(text)
            } catch {
                throw .refused(reason: "Line \(index + 1) of the token file: \(error.reason).")
            }
            guard let line else { continue }
            guard let digest = Self.digest(of: line.token) else {
                throw .refused(
                    reason: "Line \(index + 1) of the token file: a token has at least "
                        + "\(Self.leastCharacters) characters, a digest 64 hexadecimal digits."
                )
            }
            entries.append(Entry(line: line, digest: digest))
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

    /// What somebody with a token may do.
    package struct Holder: Equatable, Sendable {
        /// Names the token without betraying it: the first digits of its digest.
        package let id: String
        package var scopes: Set<TokenScope> = []
        package var limits = TokenLimits()
    }

    /// Returns what a token is good for; nil for one that is unknown.
    ///
    /// Takes the same time for every token: digests are compared, each in constant time. Of a token
    /// that is on several lines, the first line with a limit says it.
    package func holder(of token: String) -> Holder? {
        let presented = Array(SHA256.hash(data: Array(token.utf8)))
        var holder = Holder(id: hexadecimal(presented.prefix(8)))
        for entry in entries {
            let difference = zip(entry.digest, presented).reduce(0) { $0 | ($1.0 ^ $1.1) }
            guard difference == 0 else { continue }
            let limits = entry.line.limits
            holder.scopes.insert(entry.line.scope)
            holder.limits.openJobs = holder.limits.openJobs ?? limits.openJobs
            holder.limits.requestsPerSecond =
                holder.limits.requestsPerSecond ?? limits.requestsPerSecond
        }
        return holder.scopes.isEmpty ? nil : holder
    }

    private static func digest(of token: String) -> [UInt8]? {
        let prefix = "sha256:"
        guard token.hasPrefix(prefix) else {
            guard token.count >= leastCharacters else { return nil }
            return Array(SHA256.hash(data: Array(token.utf8)))
        }
        let text = String(token.dropFirst(prefix.count))
        return text.isDigest ? bytes(hexadecimal: text) : nil
    }
}
