import Glibc

/// Something found in a source folder.
package enum SourceEntry: Equatable, Sendable {
    /// A file; its name relative to the folder, with "/", and its length in bytes.
    case sample(name: String, bytes: Int)
    /// Something that is no sample, and why.
    case skipped(name: String, reason: SkipReason)
}

package enum SkipReason: String, Equatable, Sendable {
    case linkToFolder = "a link to a folder is not followed"
    case brokenLink = "the link leads nowhere"
    case special = "not a regular file"
    case name = "the name is not UTF-8"
    case vanished = "gone while the folder was listed"
}

/// A folder of samples: every regular file in it at any depth, side files included.
///
/// Links to files are followed, links to folders are not, so that no file is listed twice by way of
/// a cycle.
package struct SourceFolder: Sendable {
    package let path: String

    package init(path: String) {
        self.path = path
    }

    /// Lists the folder: depth first, the entries of each folder sorted by the bytes of their names,
    /// files and folders in one order.
    package func entries() -> SourceScan {
        SourceScan(root: path)
    }

    /// Reads the file of a sample.
    ///
    /// - Parameter name: As ``entries()`` gives it; a name that leads out of the folder is refused.
    /// - Returns: The whole file.
    /// - Throws: Why it cannot be read, or that it changes its length meanwhile.
    package func read(_ name: String) throws(SourceError) -> [UInt8] {
        let file = "\(path)/\(name)"
        let components = name.split(separator: "/", omittingEmptySubsequences: false)
        guard
            !name.utf8.contains(0),
            !components.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." })
        else { throw SourceError(path: file, code: EINVAL) }
        // Not blocking, so that a pipe in place of the file cannot stop us.
        let descriptor = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw SourceError(path: file, code: errno) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw SourceError(path: file, code: errno) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw SourceError(path: file, code: EINVAL)
        }
        var code: Int32 = 0
        let size = Int(status.st_size)
        // A byte more than expected tells a file that grows.
        let bytes = [UInt8](unsafeUninitializedCapacity: size + 1) { buffer, count in
            while count <= size, let start = buffer.baseAddress {
                let got = Glibc.read(descriptor, start + count, size + 1 - count)
                if got < 0, errno == EINTR { continue }
                if got < 0 { code = errno }
                if got <= 0 { break }
                count += got
            }
        }
        guard code == 0 else { throw SourceError(path: file, code: code) }
        guard bytes.count == size else { throw SourceError(path: file, code: EAGAIN) }
        return bytes
    }
}

/// Lists a ``SourceFolder`` entry by entry; memory holds the names of one path of folders only.
package struct SourceScan {
    /// A folder that is being listed.
    private struct Level {
        /// Of the folder's entries: empty, or ending in "/".
        let prefix: [UInt8]
        /// Names yet to come, the last one first.
        var names: [[UInt8]]
    }

    private let root: String
    private var levels: [Level] = []
    private var isStarted = false

    fileprivate init(root: String) {
        self.root = root
    }

    /// The next entry; nil at the end.
    ///
    /// - Throws: When a folder cannot be listed or an entry not be looked at; it is named.
    package mutating func next() throws(SourceError) -> SourceEntry? {
        if !isStarted {
            isStarted = true
            levels = [Level(prefix: [], names: try Self.names(inFolder: root))]
        }
        while var level = levels.popLast() {
            guard let last = level.names.popLast() else { continue }
            levels.append(level)
            if let entry = try visit(level.prefix + last) { return entry }
        }
        return nil
    }

    /// Looks at an entry.
    ///
    /// - Returns: Nil for a folder, which is listed next.
    private mutating func visit(_ bytes: [UInt8]) throws(SourceError) -> SourceEntry? {
        guard let name = String(validating: bytes, as: UTF8.self) else {
            return .skipped(name: String(decoding: bytes, as: UTF8.self), reason: .name)
        }
        let path = "\(root)/\(name)"
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT { return .skipped(name: name, reason: .vanished) }
            throw SourceError(path: path, code: errno)
        }
        let isLink = status.st_mode & S_IFMT == S_IFLNK
        if isLink, stat(path, &status) != 0 {
            if [ENOENT, ENOTDIR, ELOOP].contains(errno) {
                return .skipped(name: name, reason: .brokenLink)
            }
            throw SourceError(path: path, code: errno)
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG:
            return .sample(name: name, bytes: Int(status.st_size))
        case S_IFDIR where isLink:
            return .skipped(name: name, reason: .linkToFolder)
        case S_IFDIR:
            levels.append(
                Level(prefix: bytes + [UInt8(ascii: "/")], names: try Self.names(inFolder: path))
            )
            return nil
        default:
            return .skipped(name: name, reason: .special)
        }
    }

    /// The names in a folder, sorted by their bytes, the last one first.
    private static func names(inFolder path: String) throws(SourceError) -> [[UInt8]] {
        guard let folder = opendir(path) else { throw SourceError(path: path, code: errno) }
        defer { closedir(folder) }
        var names: [[UInt8]] = []
        while true {
            errno = 0
            guard let entry = readdir(folder) else {
                guard errno == 0 else { throw SourceError(path: path, code: errno) }
                break
            }
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            if name != Array(".".utf8), name != Array("..".utf8) { names.append(name) }
        }
        return names.sorted { $1.lexicographicallyPrecedes($0) }
    }
}
