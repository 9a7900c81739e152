import CrashPoints
import Crypto
import Dispatch
import Foundation
import Glibc
import JobProtocol

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

    /// Writes bytes at a place of a file, which is made if it does not exist.
    static func write(
        _ content: some Collection<UInt8>,
        to path: String,
        at offset: Int64
    ) throws(SystemError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .current }
        defer { close(descriptor) }
        guard lseek(descriptor, off_t(offset), SEEK_SET) >= 0 else { throw .current }
        try write(content, to: descriptor)
    }

    private static func write(
        _ content: some Collection<UInt8>,
        to descriptor: Int32
    ) throws(SystemError) {
        var rest = Array(content)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            guard count >= 0 else {
                if errno == EINTR { continue }
                throw .current
            }
            rest = rest.dropFirst(count)
        }
    }

    /// Returns the bytes that may still be written to the disk of a folder.
    static func freeBytes(at folder: String) throws(SystemError) -> Int64 {
        var status = statvfs()
        guard statvfs(folder, &status) == 0 else { throw .current }
        return Int64(status.f_bavail) * Int64(status.f_frsize)
    }

    /// Returns the size of the file system that a folder lies on.
    static func diskBytes(at folder: String) throws(SystemError) -> Int64 {
        var status = statvfs()
        guard statvfs(folder, &status) == 0 else { throw .current }
        return Int64(status.f_blocks) * Int64(status.f_frsize)
    }

    /// Returns the space that a file takes on its disk; 0 for one that is not there.
    static func allocatedBytes(of path: String) -> Int64 {
        var status = stat()
        // POSIX counts in units of 512 bytes, whatever the blocks of the disk.
        return stat(path, &status) == 0 ? Int64(status.st_blocks) * 512 : 0
    }

    /// Makes a file that has its space on the disk already.
    ///
    /// - Returns: False without the space; then there is no file.
    static func allocate(_ path: String, bytes: Int64) -> Bool {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        guard posix_fallocate(descriptor, 0, off_t(bytes)) == 0 else {
            unlink(path)
            return false
        }
        return true
    }

    /// Writes a file so that it has either its old or its new content, also after a power cut.
    static func replace(_ path: String, with content: [UInt8]) throws(SystemError) {
        let folder = parent(of: path)
        let temporary = partial(path)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .current }
        do {
            defer { close(descriptor) }
            try write(content, to: descriptor)
            guard fsync(descriptor) == 0 else { throw SystemError.current }
        }
        CrashPoint.reached(.beforeReplacing)
        guard rename(temporary, path) == 0 else { throw .current }
        CrashPoint.reached(.afterReplacing)
        try synchronise(folder: folder)
    }

    /// Path of the queue's database in a coordinator's folder.
    static func database(in folder: String) -> String { folder + "/state.db" }

    /// Path of the temporary file that becomes the file at `path`, in the same folder.
    static func partial(_ path: String) -> String {
        let folder = parent(of: path)
        let name = path.hasPrefix(folder + "/") ? path.dropFirst(folder.count + 1) : path[...]
        return folder + "/" + DatasetLayout.partialPrefix + name
    }

    /// Removes a database with the files beside it; no error if there is none.
    static func removeDatabase(_ path: String) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            unlink(path + suffix)
        }
    }

    /// Removes the unfinished files of a folder; no error if there is no folder.
    static func removePartials(in folder: String) throws(SystemError) {
        guard let stream = opendir(folder) else {
            // A dataset without a single shard has no folder for them.
            if errno == ENOENT { return }
            throw .current
        }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { field in
                field.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name.hasPrefix(DatasetLayout.partialPrefix) {
                unlink(folder + "/" + name)
            }
        }
    }

    /// Renames a file; one that is there is replaced.
    static func move(_ path: String, to target: String) throws(SystemError) {
        guard rename(path, target) == 0 else { throw .current }
    }

    /// What `place` found.
    enum Placement {
        case placed
        /// A file of that name was there already; it was not touched.
        case alreadyThere
    }

    /// Gives a temporary file its name without replacing anything, durably.
    ///
    /// The temporary name goes in any case.
    static func place(_ temporary: String, at path: String) throws(SystemError) -> Placement {
        defer { unlink(temporary) }
        try synchronise(temporary, O_RDONLY)
        guard link(temporary, path) == 0 else {
            guard errno == EEXIST else { throw .current }
            return .alreadyThere
        }
        try synchronise(folder: parent(of: path))
        return .placed
    }

    /// Makes a folder's entries durable.
    static func synchronise(folder: String) throws(SystemError) {
        try synchronise(folder, O_RDONLY | O_DIRECTORY)
    }

    private static func synchronise(_ path: String, _ flags: Int32) throws(SystemError) {
        let descriptor = open(path, flags | O_CLOEXEC)
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
    static func parent(of path: String) -> String {
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
