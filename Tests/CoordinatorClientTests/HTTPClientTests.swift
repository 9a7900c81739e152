import HTTPTransport
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(5)))
struct HTTPClientTests {
    @Test func aRequestArrivesWithMethodHeadersAndBody() async throws {
        let server = SocketServer { _, _ in .response(status: 200, body: "fine") }
        let request = HTTPRequest(
            method: "PUT",
            url: server.url + "/v1/thing?x=1",
            headers: [("Authorization", "Bearer secret"), ("Content-Type", "application/json")],
            body: Array("{\"a\":1}".utf8)
        )

        let response = try await HTTPClient().send(request)

        #expect(response.status == 200)
        #expect(response.body == Array("fine".utf8))
        let seen = try #require(server.requests.first)
        #expect(seen.method == "PUT")
        #expect(seen.path == "/v1/thing?x=1")
        #expect(seen.headers["authorization"] == "Bearer secret")
        #expect(seen.headers["content-type"] == "application/json")
        #expect(seen.headers["expect"] == nil)
        #expect(seen.body == Array("{\"a\":1}".utf8))
    }

    @Test func anErrorStatusIsAnAnswerWithItsHeaders() async throws {
        let server = SocketServer { _, _ in
            .response(status: 503, headers: ["Retry-After": " 7 "], body: "later")
        }

        let response = try await HTTPClient().send(HTTPRequest(url: server.url))

        #expect(response.status == 503)
        #expect(response.headers["retry-after"] == "7")
    }

    @Test func connectionsAreUsedAgain() async throws {
        let server = SocketServer { request, _ in .response(status: 200, body: request.path) }
        let client = HTTPClient()

        for index in 0..<3 {
            let response = try await client.send(HTTPRequest(url: "\(server.url)/\(index)"))
            #expect(response.body == Array("/\(index)".utf8))
        }

        #expect(server.connectionCount == 1)
    }

    @Test func nobodyListeningIsARetryableTransportError() async throws {
        let port = SocketServer { _, _ in .silence }.port

        let error = await #expect(throws: TransportError.self) {
            _ = try await HTTPClient().send(HTTPRequest(url: "http://127.0.0.1:\(port)/"))
        }

        #expect(error?.code == .couldNotConnect)
        #expect(error?.isRetryable == true)
    }

    @Test func aServerThatSaysNothingTimesOut() async throws {
        let server = SocketServer { _, _ in .silence }

        let error = await #expect(throws: TransportError.self) {
            let request = HTTPRequest(url: server.url, limit: .total(seconds: 0.05))
            _ = try await HTTPClient().send(request)
        }

        #expect(error?.code == .timedOut)
        #expect(error?.isRetryable == true)
    }

    @Test func aCutResponseIsRetryable() async throws {
        let server = SocketServer { _, _ in
            .raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        }

        let error = await #expect(throws: TransportError.self) {
            _ = try await HTTPClient().send(HTTPRequest(url: server.url))
        }

        #expect(error?.isRetryable == true)
    }

    @Test(arguments: ["file:///etc/passwd", "nonsense://x/", "http://"])
    func aURLThatIsNotHTTPIsRefusedForGood(url: String) async throws {
        let error = await #expect(throws: TransportError.self) {
            _ = try await HTTPClient().send(HTTPRequest(url: url))
        }

        #expect(error?.isRetryable == false)
    }

    @Test func aCancelledTaskEndsItsTransfer() async throws {
        let server = SocketServer { _, _ in .silence }
        let url = server.url

        let request = HTTPRequest(url: url, limit: .total(seconds: 600))
        let task = Task { try await HTTPClient().send(request) }
        task.cancel()
        let result = await task.result

        let error = #expect(throws: TransportError.self) { _ = try result.get() }
        #expect(error?.code == .abortedByCallback)
    }

    @Test func codesKeepLibcurlsNamesAndWords() {
        #expect(CurlCode.couldNotConnect.rawValue == 7)
        #expect(CurlCode.timedOut.description == "Timeout was reached")
    }
}
