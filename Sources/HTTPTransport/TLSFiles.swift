/// The files of a client of `https`, in PEM: whom it trusts, and by what it is known.
package struct TLSFiles: Equatable, Sendable {
    /// Certificates of the authorities that vouch for servers; nil for those of the system.
    package var authorities: String?
    /// The client's certificate, and those between it and its authority; nil for a client without.
    package var certificate: String?
    /// The certificate's key; nil when it is in the certificate's file.
    package var key: String?

    package init(authorities: String? = nil, certificate: String? = nil, key: String? = nil) {
        self.authorities = authorities
        self.certificate = certificate
        self.key = key
    }
}
