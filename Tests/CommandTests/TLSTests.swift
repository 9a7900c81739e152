import Foundation
import HTTPTransport
import JobProtocol
import Testing

/// Real programs over TLS, with certificates that openssl(1) makes.
@Suite(.timeLimit(.minutes(5)))
struct TLSTests {
    /// A coordinator with a folder of its own, which ends with the test.
    private final class Coordinator {
        let url: String
        private let process: Process

        init(_ folder: Folder, _ options: [String]) throws {
            let log = folder.url("coordinator.log")
            process = try Program("flowpack-coordinator").start(
                ["serve", "--data", folder.url("state").path, "--listen", "127.0.0.1:0"] + options,
                output: folder.url("coordinator.out"),
                errors: log
            )
            let address = /listening on (https:\/\/127.0.0.1:[0-9]+)/
            while process.isRunning {
                let text = try String(contentsOf: log, encoding: .utf8)
                if let match = text.firstMatch(of: address) {
                    url = String(match.output.1)
                    return
                }
                usleep(10_000)
            }
            throw CocoaError(.executableNotLoadable)
        }

        deinit {
            process.terminate()
            process.waitUntilExit()
        }
    }

    private let folder: Folder
    /// What a client needs that the coordinator knows.
    private let client: TLSFiles

    init() throws {
        folder = try Folder()
        for authority in ["ca", "stranger"] {
            try Self.makeCertificate(authority, in: folder)
        }
        try Self.makeCertificate("server", by: "ca", in: folder)
        try Self.makeCertificate("client", by: "ca", in: folder)
        try Self.makeCertificate("other", by: "stranger", in: folder)
        client = TLSFiles(
            authorities: folder.url("ca.pem").path,
            certificate: folder.url("client.pem").path,
            key: folder.url("client.key").path
        )
    }

    /// Makes NAME.pem and NAME.key: an authority's own, or for 127.0.0.1 by an authority.
    private static func makeCertificate(
        _ name: String,
        by authority: String? = nil,
        in folder: Folder
    ) throws {
        var arguments = [
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=\(name)", "-keyout", folder.url("\(name).key").path, "-out",
            folder.url("\(name).pem").path,
        ]
        if let authority {
            arguments += [
                "-CA", folder.url("\(authority).pem").path, "-CAkey",
                folder.url("\(authority).key").path, "-addext", "subjectAltName=IP:127.0.0.1",
                "-addext", "basicConstraints=critical,CA:FALSE",
            ]
        }
        let openssl = Process()
        openssl.executableURL = URL(filePath: "/usr/bin/openssl")
        openssl.arguments = arguments
        openssl.standardError = FileHandle.nullDevice
        try openssl.run()
        openssl.waitUntilExit()
        try #require(openssl.terminationStatus == 0)
    }

    private var serverOptions: [String] {
        [
            "--tls-certificate", folder.url("server.pem").path, "--tls-key",
            folder.url("server.key").path,
        ]
    }

    private func startWithClientAuthority() throws -> Coordinator {
        try Coordinator(
            folder,
            serverOptions + ["--tls-client-ca", folder.url("ca.pem").path]
        )
    }

    private func get(_ url: String, _ tls: TLSFiles) async throws(TransportError) -> HTTPResponse {
        try await HTTPClient(tls: tls).send(HTTPRequest(url: "\(url)/healthz"))
    }

    @Test func aClientWithoutACertificateGetsNothing() async throws {
        let coordinator = try startWithClientAuthority()

        #expect(try await get(coordinator.url, client).status == 200)
        var anonymous = client
        (anonymous.certificate, anonymous.key) = (nil, nil)
        await #expect(throws: TransportError.self) {
            try await get(coordinator.url, anonymous)
        }
        var stranger = client
        stranger.certificate = folder.url("other.pem").path
        stranger.key = folder.url("other.key").path
        await #expect(throws: TransportError.self) {
            try await get(coordinator.url, stranger)
        }
        let plain = coordinator.url.replacing("https", with: "http")
        await #expect(throws: TransportError.self) { try await get(plain, client) }
    }

    @Test func withoutAClientAuthorityCertificatesAreNotAskedFor() async throws {
        let coordinator = try Coordinator(folder, serverOptions)
        let tls = TLSFiles(authorities: client.authorities)
        #expect(try await get(coordinator.url, tls).status == 200)
    }

    @Test func aServerThatNobodyVouchesForIsNotTrusted() throws {
        let coordinator = try Coordinator(folder, serverOptions)
        let ending = try Program("flowpack").run("jobs", "--coordinator", coordinator.url)
        #expect(ending.status != 0)
        #expect(ending.errors.contains("--ca-file"), "\(ending.errors)")
    }

    @Test func aJobIsDoneOverTLS() throws {
        for index in 0..<3 as Range<UInt64> {
            try folder.write(picture(24, 16, seed: index), "source/\(index).ppm")
        }
        let coordinator = try startWithClientAuthority()
        let options = [
            "--coordinator", coordinator.url, "--ca-file", folder.url("ca.pem").path,
            "--client-certificate", folder.url("client.pem").path, "--client-key",
            folder.url("client.key").path,
        ]
        let worker = try Program("flowpack-worker").start(
            options + ["--data-plane", "http", "--slots", "1"],
            output: folder.url("worker.out"),
            errors: folder.url("worker.log")
        )
        defer {
            worker.terminate()
            worker.waitUntilExit()
        }

        let flowpack = try Program("flowpack")
        let output = folder.url("out").path
        let submitting = try flowpack.run(
            ["submit", folder.url("source").path, "-o", output] + options
        )
        #expect(submitting.status == 0, "\(submitting.errors)")
        while worker.isRunning, try !folder.files("out").contains(DatasetLayout.manifestFile) {
            usleep(20_000)
        }
        #expect(try flowpack.run("verify", output).status == 0)
    }

    @Test func aKeyOfAnotherCertificateIsRefusedAtTheStart() throws {
        let ending = try Program("flowpack-coordinator").run(
            "serve",
            "--data",
            folder.url("state").path,
            "--tls-certificate",
            folder.url("server.pem").path,
            "--tls-key",
            folder.url("client.key").path
        )
        #expect(ending.status == 1)
        #expect(ending.errors.contains("client.key"), "\(ending.errors)")
    }
}
