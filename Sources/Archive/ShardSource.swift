internal import Glibc

/// The bytes of a shard: in memory, or in an open file of which only the parts in use are read.
///
/// A file is read, not mapped: one that is cut short while it is open gives an error, where a mapping
/// would end the process.
final class ShardSource: Sendable {
    private enum Storage {
        case memory([UInt8])
        case file(descriptor: Int32)
    }

    /// Of the whole shard, in bytes.
    let count: Int
    private let storage: Storage

    init(_ bytes: [UInt8]) {
        count = bytes.count
        storage = .memory(bytes)
    }

    /// Opens a file.
    ///
    /// - Parameters:
    ///   - path: Of a regular file.
    ///   - name: What errors call it.
    /// - Throws: What the operating system says.
    init(path: String, name: String) throws(ArchiveError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .unreadable(.file(name), at: 0) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw ArchiveError(.unreadable("not a regular file"), in: .file(name), at: 0)
        }
        count = Int(status.st_size)
        storage = .file(descriptor: descriptor)
    }

    deinit {
        if case .file(let descriptor) = storage { close(descriptor) }
    }

    /// Reads a range of the shard.
    ///
    /// - Parameters:
    ///   - range: Inside `0..<count`.
    ///   - section: What errors are about.
    /// - Returns: Its bytes.
    /// - Throws: What the operating system says, and `truncated` for a file that has shrunk.
    func read(
        _ range: Range<Int>,
        in section: ArchiveError.Section
    ) throws(ArchiveError) -> [UInt8] {
        precondition(0 <= range.lowerBound && range.upperBound <= count, "a range of the shard")
        switch storage {
        case .memory(let bytes): return Array(bytes[range])
        case .file(let descriptor): return try Self.read(descriptor, range, in: section)
        }
    }

    private static func read(
        _ descriptor: Int32,
        _ range: Range<Int>,
        in section: ArchiveError.Section
    ) throws(ArchiveError) -> [UInt8] {
        var failure: ArchiveError?
        let bytes = [UInt8](unsafeUninitializedCapacity: range.count) { buffer, filled in
            while filled < range.count {
                let offset = range.lowerBound + filled
                let part = UnsafeMutableBufferPointer(rebasing: buffer[filled..<range.count])
                let size = pread(descriptor, part.baseAddress, part.count, offset)
                if size > 0 {
                    filled += size
                } else if size == 0 {
                    failure = ArchiveError(.truncated, in: section, at: offset)
                    return
                } else if errno != EINTR {
                    failure = .unreadable(section, at: offset)
                    return
                }
            }
        }
        if let failure { throw failure }
        return bytes
    }
}

extension ArchiveError {
    /// The error of the last system call.
    fileprivate static func unreadable(_ section: Section, at byteOffset: Int) -> ArchiveError {
        ArchiveError(.unreadable(String(cString: strerror(errno))), in: section, at: byteOffset)
    }
}
