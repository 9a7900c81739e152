import CoordinatorClient
import Foundation
import JobProtocol
import Testing

struct TokenFileTests {
    private func withFile<Value>(_ text: String, _ body: (String) throws -> Value) throws -> Value {
        let path = FileManager.default.temporaryDirectory
            .appending(path: "flowpack-token-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data(text.utf8).write(to: URL(filePath: path))
        return try body(path)
    }

    @Test(arguments: [
        ("bare\n", TokenScope.worker, "bare"),
        ("# comment\n\nworker w1\nread r1\n", .read, "r1"),
        ("worker w1\nadmin a1\n", .submit, "a1"),
        ("submit s1", .read, "s1"),
        ("worker sha256:00\nworker w1\n", .worker, "w1"),
        ("submit jobs=3 requests=5 s1 # of the laboratory\n", .submit, "s1"),
    ])
    func theFirstTokenThatAllowsTheUseIsTaken(text: String, scope: TokenScope, token: String) throws
    {
        let read = try withFile(text) { try TokenFile.read(path: $0, for: scope) }
        #expect(read == token)
    }

    @Test(arguments: ["", "read r1\n", "boss b1\n", "worker a b\n"])
    func aFileWithoutAUsableTokenIsRefused(text: String) throws {
        _ = try withFile(text) { path in
            #expect(throws: ClientConfigurationError.self) {
                _ = try TokenFile.read(path: path, for: .worker)
            }
        }
    }

    @Test func aFileThatIsNotThereIsRefused() {
        #expect(throws: ClientConfigurationError.self) {
            _ = try TokenFile.read(path: "/nonexistent/token", for: .worker)
        }
    }
}
