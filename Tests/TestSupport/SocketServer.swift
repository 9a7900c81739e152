import Foundation
import Glibc
import Synchronization

/// A small HTTP/1.1 server on a loopback socket, for tests of clients.
///
/// One thread for each connection, keep-alive, bodies by Content-Length.
package final class SocketServer: Sendable {
    package struct Request: Sendable {
        package let method: String
        package let path: String
        /// By lower-case name.
        package let headers: [String: String]
        package let body: [UInt8]
    }

    package enum Reply: Sendable {
        /// An answer to HEAD has the length of the body, but not the body.
        case response(status: Int, headers: [String: String] = [:], body: String = "")
        /// These bytes and then the end of the connection.
        case raw(String)
        /// Never answers; the connection stays open until the server goes.
        case silence
    }

    /// What the threads share; each closes the descriptor that it reads from, and nobody else does,
    /// so that no number is used after it was given to another socket.
    private final class Shared: Sendable {
        struct State {
            var requests: [Request] = []
            var connectionCount = 0
            var open: Set<Int32> = []
            var isStopped = false
        }

        let state = Mutex(State())
        let handler: @Sendable (Request, _ index: Int) -> Reply

        init(_ handler: @escaping @Sendable (Request, _ index: Int) -> Reply) {
            self.handler = handler
        }

        /// Whether the server goes on and the connection is noted.
        func begin(_ connection: Int32) -> Bool {
            state.withLock { state in
                guard !state.isStopped else { return false }
                state.connectionCount += 1
                state.open.insert(connection)
                return true
            }
        }

        func end(_ connection: Int32) {
            state.withLock { state in
                _ = state.open.remove(connection)
                close(connection)
            }
        }

        func stop() {
            state.withLock { state in
                state.isStopped = true
                for connection in state.open { shutdown(connection, Int32(SHUT_RDWR)) }
            }
        }

        /// Answers the requests of a connection until its end.
        func serve(_ connection: Int32) {
            while let request = SocketServer.readRequest(connection) {
                let index = state.withLock { state in
                    state.requests.append(request)
                    return state.requests.count - 1
                }
                switch handler(request, index) {
                case .response(let status, let headers, let body):
                    var head = "HTTP/1.1 \(status) Reason\r\nContent-Length: \(body.utf8.count)\r\n"
                    for (name, value) in headers { head += "\(name): \(value)\r\n" }
                    let content = request.method == "HEAD" ? "" : body
                    guard SocketServer.send("\(head)\r\n\(content)", connection) else { return }
                case .raw(let text):
                    _ = SocketServer.send(text, connection)
                    return
                case .silence:
                    break
                }
            }
        }
    }

    package let port: Int
    private let listener: Int32
    private let shared: Shared

    package var url: String { "http://127.0.0.1:\(port)" }
    package var requests: [Request] { shared.state.withLock(\.requests) }
    /// How many connections were accepted.
    package var connectionCount: Int { shared.state.withLock(\.connectionCount) }

    /// Listens; `handler` gives the reply to a request, `index` counts requests from 0.
    package init(_ handler: @escaping @Sendable (Request, _ index: Int) -> Reply) {
        let shared = Shared(handler)
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                bind(listener, generic, length) == 0 && listen(listener, 16) == 0
                    && getsockname(listener, generic, &length) == 0
            }
        }
        precondition(isBound, "a loopback port is free")
        port = Int(UInt16(bigEndian: address.sin_port))
        self.listener = listener
        self.shared = shared
        Thread.detachNewThread {
            while true {
                let connection = accept(listener, nil, nil)
                guard connection >= 0, shared.begin(connection) else {
                    if connection >= 0 { close(connection) }
                    break
                }
                Thread.detachNewThread {
                    shared.serve(connection)
                    shared.end(connection)
                }
            }
            close(listener)
        }
    }

    deinit {
        shared.stop()
        // Ends the accept; its thread closes the descriptor, which is open until then.
        shutdown(listener, Int32(SHUT_RDWR))
    }

    fileprivate static func send(_ text: String, _ connection: Int32) -> Bool {
        let bytes = Array(text.utf8)
        return Glibc.send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            == bytes.count
    }

    /// The next request of a connection; nil at its end.
    fileprivate static func readRequest(_ connection: Int32) -> Request? {
        var head: [UInt8] = []
        while !head.suffix(4).elementsEqual("\r\n\r\n".utf8) {
            guard let byte = readExactly(1, connection)?.first else { return nil }
            head.append(byte)
        }
        let lines = String(decoding: head, as: UTF8.self).components(separatedBy: "\r\n")
        let start = (lines.first ?? "").split(separator: " ")
        guard start.count == 3 else { return nil }
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            headers[line[..<colon].lowercased()] = String(value)
        }
        let length = headers["content-length"].flatMap { Int($0) } ?? 0
        guard let body = readExactly(length, connection) else { return nil }
        return Request(
            method: String(start[0]),
            path: String(start[1]),
            headers: headers,
            body: body
        )
    }

    private static func readExactly(_ count: Int, _ connection: Int32) -> [UInt8]? {
        var bytes: [UInt8] = []
        while bytes.count < count {
            var chunk = [UInt8](repeating: 0, count: count - bytes.count)
            let got = recv(connection, &chunk, chunk.count, 0)
            guard got > 0 else { return nil }
            bytes += chunk.prefix(got)
        }
        return bytes
    }
}
