import HummingbirdTLS
import NIOSSL

/// The files of a server of `https`, in PEM.
///
/// They are read once, at the start.
package struct ServerTLS: Sendable {
    /// The server's certificate, and those between it and its authority.
    private let certificate: String
    private let key: String
    /// Certificates of the authorities that vouch for clients; nil for clients without certificates.
    private let clientAuthorities: String?

    package init(certificate: String, key: String, clientAuthorities: String?) {
        self.certificate = certificate
        self.key = key
        self.clientAuthorities = clientAuthorities
    }

    /// Returns what the files say: TLS 1.2 or 1.3, and only clients that an authority vouches for.
    ///
    /// - Throws: `StartError.unusable`, naming the file.
    func configuration() throws(StartError) -> TLSConfiguration {
        let key = self.key
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: try certificates(in: certificate).map { .certificate($0) },
            privateKey: .privateKey(
                try reading(key) { try NIOSSLPrivateKey(file: key, format: .pem) }
            )
        )
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = ["http/1.1"]
        if let clientAuthorities {
            configuration.trustRoots = .certificates(try certificates(in: clientAuthorities))
            // Clients have no host name to be compared.
            configuration.certificateVerification = .noHostnameVerification
        }
        // Compares the key with the certificate.
        _ = try reading(key) { [configuration] in try NIOSSLContext(configuration: configuration) }
        return configuration
    }

    private func certificates(in path: String) throws(StartError) -> [NIOSSLCertificate] {
        let certificates = try reading(path) { try NIOSSLCertificate.fromPEMFile(path) }
        guard !certificates.isEmpty else {
            throw .unusable(path: path, reason: "it holds no certificate in PEM")
        }
        return certificates
    }

    private func reading<Value>(
        _ path: String,
        _ body: () throws -> Value
    ) throws(StartError) -> Value {
        do {
            return try body()
        } catch {
            throw .unusable(path: path, reason: "\(error)")
        }
    }
}
