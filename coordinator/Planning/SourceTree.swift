import Foundation
package import S3

/// A source that can be listed folder by folder: on a file system, or in S3.
package enum SourceTree: Sendable {
    case folder(path: String)
    case bucket(S3Location, S3Client)

    /// What is under a name.
    enum Status: Equatable, Sendable {
        case file(bytes: Int64)
        case folder
        case linkToFolder
        case special
        case missing
        /// An object whose key is that of a folder, too, or no path.
        case unnamable
    }

    /// The names in a folder, sorted by their bytes.
    struct Listing: Sendable {
        var names: [[UInt8]]
        /// What is under each of them; nil where each has to be looked at.
        var statuses: [Status]?
    }

    /// Lists a folder.
    ///
    /// - Parameter prefix: Path relative to the source, with "/" at the end; empty for the source.
    /// - Returns: Its names in the order of the dataset.
    /// - Throws: `SourceError`, naming what cannot be listed.
    func list(_ prefix: String) throws(SourceError) -> Listing {
        switch self {
        case .folder(let path):
            return Listing(names: try Self.names(in: path + "/" + prefix))
        case .bucket(let location, let client):
            let folder = prefix.isEmpty ? location : location.appending(String(prefix.dropLast()))
            return try Self.list(folder, client)
        }
    }

    /// Looks at what is under a name.
    func status(of name: String) throws(SourceError) -> Status {
        guard case .folder(let path) = self else {
            preconditionFailure("a bucket's listing says it")
        }
        return try Self.status(ofFile: path + "/" + name)
    }
}

// MARK: - File systems

extension SourceTree {
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

    private static func status(ofFile path: String) throws(SourceError) -> Status {
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

// MARK: - S3

extension SourceTree {
    /// Lists what lies directly below a prefix, in the order that the same files have in a folder.
    private static func list(
        _ folder: S3Location,
        _ client: S3Client
    ) throws(SourceError) -> Listing {
        var found: [(name: [UInt8], status: Status)] = []
        var continuation: String?
        repeat {
            let page: S3Listing
            do {
                page = try client.list(folder, continuation: continuation)
            } catch {
                throw SourceError(path: folder.description, reason: error.message)
            }
            let skipped = folder.key.isEmpty ? 0 : folder.key.utf8.count + 1
            for object in page.objects {
                let name = Array(object.key.utf8.dropFirst(skipped))
                // Programs that show folders keep an empty object for each.
                if !name.isEmpty { found.append((name, .file(bytes: object.bytes))) }
            }
            for prefix in page.prefixes {
                found.append((Array(prefix.utf8.dropFirst(skipped).dropLast()), .folder))
            }
            continuation = page.continuation
        } while continuation != nil
        found.sort { $0.name.lexicographicallyPrecedes($1.name) }
        let folders = Set(found.lazy.filter { $0.status == .folder }.map(\.name))
        let statuses = found.map { name, status in
            let isPath = !["", ".", ".."].contains { name.elementsEqual($0.utf8) }
            return isPath && (status == .folder || !folders.contains(name)) ? status : .unnamable
        }
        return Listing(names: found.map(\.name), statuses: statuses)
    }
}
