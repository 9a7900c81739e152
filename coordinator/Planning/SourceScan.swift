import Foundation
package import JobProtocol

/// A source folder cannot be read.
package struct SourceError: Error, Equatable {
    package let path: String
    package let reason: String
}

/// The files of a folder, one after the other, in the order of the dataset.
///
/// Depth first; the entries of each folder, files and folders alike, sorted by the bytes of their
/// names. Regular files and symbolic links to regular files are samples. Links to folders are not
/// followed (they may form rings); they, sockets, pipes and devices, and names that are not UTF-8
/// are reported as skipped, so that nothing is left out in silence.
///
/// Only one folder per level of depth is held in memory.
package struct SourceScan: Sendable {
    /// What the scan meets.
    package enum Entry: Equatable, Sendable {
        case sample(ShardSample)
        case skipped(SampleProblem)
    }

    private struct Folder: Sendable {
        /// Path relative to the root, with "/" at the end; empty for the root.
        let prefix: String
        /// Names in order.
        let names: [[UInt8]]
        /// The next name.
        var index = 0
    }

    private let root: String
    private var folders: [Folder] = []

    /// - Parameters:
    ///   - root: Path of the source folder.
    ///   - last: Name of the sample after which the scan goes on; nil for the start. It need not
    ///     exist any more.
    /// - Throws: `SourceError` when the folder, or a folder on the way to `last`, cannot be read.
    package init(root: String, after last: String? = nil) throws(SourceError) {
        self.root = root
        try enter("")
        guard let last else { return }
        let components = last.utf8.split(separator: UInt8(ascii: "/")).map(Array.init)
        for (depth, component) in components.enumerated() {
            let names = folders[depth].names
            let next = names.firstIndex { !$0.lexicographicallyPrecedes(component) }
            folders[depth].index = next ?? names.count
            guard let next, names[next] == component else { return }
            folders[depth].index += 1
            guard depth + 1 < components.count else { return }
            let name = folders[depth].prefix + String(decoding: component, as: UTF8.self)
            guard try Self.status(of: root + "/" + name) == .folder else { return }
            try enter(name + "/")
        }
    }

    /// Returns the next entry; nil at the end.
    ///
    /// - Throws: `SourceError` when a folder cannot be read or an entry not be looked at: what it
    ///   holds would be missing.
    package mutating func next() throws(SourceError) -> Entry? {
        while let folder = folders.last {
            guard folder.index < folder.names.count else {
                folders.removeLast()
                continue
            }
            folders[folders.count - 1].index += 1
            let bytes = folder.names[folder.index]
            guard let text = String(validating: bytes, as: UTF8.self) else {
                let readable = String(decoding: bytes, as: UTF8.self)
                return skipped(folder.prefix + readable, "Its name is not UTF-8.")
            }
            let name = folder.prefix + text
            switch try Self.status(of: root + "/" + name) {
            case .file(let bytes):
                return .sample(ShardSample(name: name, bytes: bytes))
            case .folder:
                try enter(name + "/")
            case .linkToFolder:
                return skipped(name, "It is a symbolic link to a folder.")
            case .special:
                return skipped(name, "It is neither a file nor a folder.")
            case .missing:
                return skipped(name, "It vanished, or is a symbolic link that leads nowhere.")
            }
        }
        return nil
    }

    private func skipped(_ name: String, _ reason: String) -> Entry {
        .skipped(SampleProblem(name: name, reason: reason))
    }

    private mutating func enter(_ prefix: String) throws(SourceError) {
        let names = try Self.names(in: root + "/" + prefix)
        folders.append(Folder(prefix: prefix, names: names))
    }

    /// Returns the names in a folder, sorted by their bytes.
    private static func names(in path: String) throws(SourceError) -> [[UInt8]] {
        guard let stream = opendir(path) else {
            throw SourceError(path: path, reason: SystemError.current.description)
        }
        defer { closedir(stream) }
        var names: [[UInt8]] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                guard errno == 0 else {
                    throw SourceError(path: path, reason: SystemError.current.description)
                }
                break
            }
            let name = withUnsafePointer(to: &entry.pointee.d_name) { field in
                field.withMemoryRebound(to: UInt8.self, capacity: 256) { bytes in
                    Array(UnsafeBufferPointer(start: bytes, count: strlen(bytes)))
                }
            }
            if name != Array(".".utf8) && name != Array("..".utf8) {
                names.append(name)
            }
        }
        return names.sorted { $0.lexicographicallyPrecedes($1) }
    }

    private enum Status: Equatable {
        case file(bytes: Int64)
        case folder
        case linkToFolder
        case special
        case missing
    }

    private static func status(of path: String) throws(SourceError) -> Status {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            return try missing(path)
        }
        let isLink = status.st_mode & S_IFMT == S_IFLNK
        if isLink, stat(path, &status) != 0 {
            return try missing(path)
        }
        return switch status.st_mode & S_IFMT {
        case S_IFREG: .file(bytes: Int64(status.st_size))
        case S_IFDIR: isLink ? .linkToFolder : .folder
        default: .special
        }
    }

    /// Tells an entry that is not there from one that cannot be looked at.
    private static func missing(_ path: String) throws(SourceError) -> Status {
        let error = SystemError.current
        guard [ENOENT, ENOTDIR, ELOOP].contains(error.code) else {
            throw SourceError(path: path, reason: error.description)
        }
        return .missing
    }
}
