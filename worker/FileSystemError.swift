internal import Glibc

/// A failed system call on a file: what was tried, where, and why.
package struct FileSystemError: Error, Equatable, Sendable {
    /// What was tried, as a verb: "open", "write", "rename".
    package let operation: String
    package let path: String
    /// The `errno` of the call.
    package let number: Int32

    package init(operation: String, path: String, number: Int32) {
        self.operation = operation
        self.path = path
        self.number = number
    }

    /// Reads `errno`: make it directly behind the failed call.
    static func last(_ operation: String, _ path: String) -> FileSystemError {
        FileSystemError(operation: operation, path: path, number: errno)
    }

    /// The device or the quota is full.
    package var isNoSpace: Bool { number == ENOSPC || number == EDQUOT }

    package var isNotFound: Bool { number == ENOENT || number == ENOTDIR }
}

extension FileSystemError: CustomStringConvertible {
    package var description: String {
        "cannot \(operation) \(path): \(String(cString: strerror(number)))"
    }
}
