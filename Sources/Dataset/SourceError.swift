import Glibc

/// Why a part of the source cannot be listed or read.
package struct SourceError: Error, Equatable, Sendable {
    /// Of the file or folder.
    package let path: String
    /// Of the system call that failed: `errno`.
    package let code: Int32

    package init(path: String, code: Int32) {
        self.path = path
        self.code = code
    }

    /// Whether trying again is in vain: there is no such file, or no right to read it.
    package var isPermanent: Bool {
        [ENOENT, ENOTDIR, EACCES, EPERM, ELOOP, EISDIR, EINVAL, ENAMETOOLONG].contains(code)
    }
}

extension SourceError: CustomStringConvertible {
    package var description: String { "\(path): \(String(cString: strerror(code)))" }
}
