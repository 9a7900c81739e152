import Foundation

/// A place in an S3 service: `s3://bucket/key`.
package struct S3Location: Equatable, Sendable, LosslessStringConvertible {
    package static let scheme = "s3://"

    package let bucket: String
    /// The key, or the part that all keys begin with; without "/" at either end.
    package let key: String

    package init(bucket: String, key: String) {
        self.bucket = bucket
        self.key = key
    }

    /// Reads the URL; nil for anything else.
    ///
    /// A bucket has 3 to 63 characters out of `a–z 0–9 . -`; no part of the key is empty, "." or "..".
    package init?(_ description: String) {
        guard description.hasPrefix(Self.scheme) else { return nil }
        var parts = description.dropFirst(Self.scheme.count)
            .split(separator: "/", omittingEmptySubsequences: false)
        if parts.count > 1, parts.last?.isEmpty == true { parts.removeLast() }
        guard let bucket = parts.first, (3...63).contains(bucket.utf8.count),
            bucket.utf8.allSatisfy(Self.isAllowed),
            !parts.dropFirst().contains(where: { $0.isEmpty || $0 == "." || $0 == ".." })
        else { return nil }
        self.init(bucket: String(bucket), key: parts.dropFirst().joined(separator: "/"))
    }

    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "."), UInt8(ascii: "-"):
            true
        default:
            false
        }
    }

    package var description: String { "\(Self.scheme)\(bucket)\(key.isEmpty ? "" : "/\(key)")" }

    /// The place of a relative path below this one.
    package func appending(_ path: String) -> S3Location {
        S3Location(bucket: bucket, key: key.isEmpty ? path : "\(key)/\(path)")
    }
}

/// Which S3 service, and who asks.
package struct S3Configuration: Sendable {
    /// `http` or `https`.
    package let scheme: String
    /// Host of the service, with its port; nil for AWS, where each bucket has a host.
    package let host: String?
    package let region: String
    package let credentials: S3Credentials

    package init(
        endpoint: String? = nil,
        region: String = "us-east-1",
        credentials: S3Credentials
    ) throws(S3ConfigurationError) {
        self.region = region
        self.credentials = credentials
        guard let endpoint else {
            (scheme, host) = ("https", nil)
            return
        }
        guard let url = URLComponents(string: endpoint), let scheme = url.scheme,
            ["http", "https"].contains(scheme), let name = url.host, !name.isEmpty,
            ["", "/"].contains(url.path), url.query == nil
        else { throw S3ConfigurationError(message: "\"\(endpoint)\" is no URL of an S3 service.") }
        self.scheme = scheme
        host = url.port.map { "\(name):\($0)" } ?? name
    }

    /// Finds service, region and key as AWS's own programs do.
    ///
    /// The environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`,
    /// `AWS_REGION`, `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`), then the profile `AWS_PROFILE` in
    /// `~/.aws/credentials` and `~/.aws/config`. Keys are never arguments of a program.
    ///
    /// - Parameters:
    ///   - endpoint: The user's own choice of a service.
    ///   - environment: Of the process.
    /// - Throws: `S3ConfigurationError`, when there is no key or the endpoint is no URL.
    package init(
        endpoint: String?,
        environment: [String: String] = ProcessInfo.processInfo.environment
    ) throws(S3ConfigurationError) {
        let profile = environment["AWS_PROFILE"] ?? "default"
        let home = environment["HOME"] ?? "/"
        let secrets = Self.section(
            profile,
            of: environment["AWS_SHARED_CREDENTIALS_FILE"] ?? "\(home)/.aws/credentials"
        )
        let settings = Self.section(
            profile == "default" ? profile : "profile \(profile)",
            of: environment["AWS_CONFIG_FILE"] ?? "\(home)/.aws/config"
        )
        func value(_ variable: String, _ key: String) -> String? {
            environment[variable] ?? secrets[key] ?? settings[key]
        }
        guard let accessKey = value("AWS_ACCESS_KEY_ID", "aws_access_key_id"),
            let secretKey = value("AWS_SECRET_ACCESS_KEY", "aws_secret_access_key")
        else {
            throw S3ConfigurationError(
                message: "There is no key for S3. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                    + "or write them into ~/.aws/credentials."
            )
        }
        try self.init(
            endpoint: endpoint ?? environment["AWS_ENDPOINT_URL_S3"]
                ?? value("AWS_ENDPOINT_URL", "endpoint_url"),
            region: environment["AWS_REGION"] ?? value("AWS_DEFAULT_REGION", "region")
                ?? "us-east-1",
            credentials: S3Credentials(
                accessKey: accessKey,
                secretKey: secretKey,
                sessionToken: value("AWS_SESSION_TOKEN", "aws_session_token")
            )
        )
    }

    /// Reads a section of a file of settings; empty when there is none.
    private static func section(_ name: String, of path: String) -> [String: String] {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return [:] }
        let lines = text.split(whereSeparator: \.isNewline).map {
            $0.trimmingCharacters(in: .whitespaces)
        }
        let section = lines.drop { $0 != "[\(name)]" }.dropFirst().prefix { !$0.hasPrefix("[") }
        return section.reduce(into: [:]) { settings, line in
            let sides = line.split(separator: "=", maxSplits: 1)
                .map { $0.trimmingCharacters(in: .whitespaces) }
            if sides.count == 2, !line.hasPrefix("#") { settings[sides[0]] = sides[1] }
        }
    }

    /// Returns a request for a place: by the path on a service of one's own, by the host on AWS.
    func request(
        _ method: String,
        _ location: S3Location,
        query: [(name: String, value: String)] = [],
        headers: [(name: String, value: String)] = []
    ) -> S3Request {
        let key = location.key.isEmpty ? "" : "/\(location.key)"
        let (name, path) =
            if let host { (host, "/\(location.bucket)\(key)") } else {
                ("\(location.bucket).s3.\(region).amazonaws.com", key.isEmpty ? "/" : key)
            }
        return S3Request(method: method, host: name, path: path, query: query, headers: headers)
    }
}

/// A service or key that is none.
package struct S3ConfigurationError: Error, Equatable, Sendable {
    /// What is wrong and what to do, for people.
    package let message: String
}
