import CrashPoints
import Crypto
import Dispatch
import Foundation

/// An error of the operating system, by its number.
package struct SystemError: Error, Equatable, CustomStringConvertible {
    package let code: Int32

    /// The error of the last call that failed in this thread.
    static var current: SystemError { SystemError(code: errno) }

    package var description: String { String(cString: strerror(code)) }
}

/// File calls that block; call them from `blocking`.
enum Files {
    /// What lies at a path, symbolic links followed.
    enum Kind: Equatable {
        case file(bytes: Int64)
        case folder
        case other
    }

    /// Returns what lies at a path; nil when nothing does.
    static func kind(of path: String) throws(SystemError) -> Kind? {
        var status = stat()
        guard stat(path, &status) == 0 else {
            let error = SystemError.current
            if error.code == ENOENT || error.code == ENOTDIR { return nil }
            throw error
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: return .file(bytes: Int64(status.st_size))
        case S_IFDIR: return .folder
        default: return .other
        }
    }

    /// Returns a file's size and SHA-256 (64 lower-case hexadecimal digits).
    static func digest(of path: String) throws(SystemError) -> (bytes: Int64, sha256: String) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .current }
        defer { close(descriptor) }
        var hash = SHA256()
        var bytes: Int64 = 0
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
        defer { buffer.deallocate() }
        while true {
            let count = read(descriptor, buffer.baseAddress, buffer.count)
            guard count >= 0 else {
                if errno == EINTR { continue }
                throw .current
            }
            guard count > 0 else { break }
            hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            bytes += Int64(count)
        }
        return (bytes, hexadecimal(hash.finalize()))
    }

    /// Writes a file so that it has either its old or its new content, also after a power cut.
    static func replace(_ path: String, with content: [UInt8]) throws(SystemError) {
        let folder = parent(of: path)
        let temporary = folder + "/.partial-" + path.dropFirst(folder.count + 1)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .current }
        do {
            defer { close(descriptor) }
            var written = 0
            while written < content.count {
                let count = content.withUnsafeBytes { bytes in
                    write(
                        descriptor,
                        bytes.baseAddress?.advanced(by: written),
                        bytes.count - written
                    )
                }
                guard count >= 0 else {
                    if errno == EINTR { continue }
                    throw SystemError.current
                }
                written += count
            }
            guard fsync(descriptor) == 0 else { throw SystemError.current }
        }
        CrashPoint.reached(.beforeReplacing)
        guard rename(temporary, path) == 0 else { throw .current }
        CrashPoint.reached(.afterReplacing)
        try synchronise(folder: folder)
    }

    /// Makes a folder's entries durable.
    static func synchronise(folder: String) throws(SystemError) {
        let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .current }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw .current }
    }

    /// Makes a folder and the folders above it; no error if it exists.
    static func makeFolder(_ path: String) throws(SystemError) {
        guard mkdir(path, 0o755) != 0, errno != EEXIST else { return }
        guard errno == ENOENT, parent(of: path) != path else { throw .current }
        try makeFolder(parent(of: path))
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw .current }
    }

    /// Returns the folder that a path lies in.
    private static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}

/// Returns bytes as lower-case hexadecimal digits.
func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    for byte in bytes {
        text.append(digits[Int(byte >> 4)])
        text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
}

/// Returns the bytes that hexadecimal digits stand for.
func bytes(hexadecimal text: String) -> [UInt8] {
    let digits = text.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
    return stride(from: 0, to: digits.count - 1, by: 2)
        .map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

/// Runs work that blocks on a thread that may block, not on one of the few that run tasks.
func blocking<Value: Sendable, Failure: Error>(
    _ work: @escaping @Sendable () throws(Failure) -> Value
) async throws(Failure) -> Value {
    let result: Result<Value, Failure> = await withCheckedContinuation { continuation in
        DispatchQueue.global().async {
            do throws(Failure) {
                continuation.resume(returning: .success(try work()))
            } catch {
                continuation.resume(returning: .failure(error))
            }
        }
    }
    return try result.get()
}
