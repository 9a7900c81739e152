import Foundation
import Synchronization

/// A TCP connection to a port of this machine, for clients that HTTP libraries are too polite for.
///
/// Each call runs on a thread of its own, which it may block.
final class RawConnection: Sendable {
    private let descriptor: Int32

    init(port: Int) async throws {
        descriptor = try await onThread { try Self.connect(port: port) }
    }

    deinit {
        close(descriptor)
    }

    /// Sends all of a text; false when the other end is closed.
    func send(_ text: String) async throws -> Bool {
        try await onThread { [descriptor] in Self.send(text, descriptor) }
    }

    /// Sends a text again and again, with pauses, until the other end is closed.
    ///
    /// - Returns: False when it is still open after 60 s.
    func dribble(_ text: String, everyMilliseconds: UInt32) async throws -> Bool {
        try await onThread { [descriptor] in
            let end = ContinuousClock.now + .seconds(60)
            while ContinuousClock.now < end {
                guard Self.send(text, descriptor), !Self.isAtEnd(descriptor) else { return true }
                usleep(everyMilliseconds * 1000)
            }
            return false
        }
    }

    /// Reads until a text is there, or to the end; returns what came.
    func read(until text: String? = nil) async throws -> String {
        try await onThread { [descriptor] in
            var bytes: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 1 << 16)
            while text.map({ !String(decoding: bytes, as: UTF8.self).contains($0) }) ?? true {
                let count = recv(descriptor, &chunk, chunk.count, 0)
                guard count > 0 else { break }
                bytes += chunk.prefix(count)
            }
            return String(decoding: bytes, as: UTF8.self)
        }
    }

    private static func connect(port: Int) throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let isConnected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Foundation.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
        guard isConnected else { throw CocoaError(.fileReadUnknown) }
        return descriptor
    }

    private static func send(_ text: String, _ descriptor: Int32) -> Bool {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                Foundation.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }

    /// Whether the other end is closed and nothing is left to be read.
    private static func isAtEnd(_ descriptor: Int32) -> Bool {
        var byte: UInt8 = 0
        let count = recv(descriptor, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT))
        return count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)
    }
}

/// Runs work that blocks on a thread of its own.
func onThread<Value: Sendable>(
    _ work: @escaping @Sendable () throws -> Value
) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Result(catching: work)) }
    }
}
