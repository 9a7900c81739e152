import Archive
internal import Glibc
import JobProtocol
import Synchronization

/// A folder to write into by name, below which nothing can lead outside.
///
/// Names are relative with "/"; every component is opened without following links, so neither a
/// name from a foreign dataset nor a link planted in the folder reaches beyond it.
package final class OutputFolder: Sendable {
    package let path: String
    private let descriptor: Int32
    /// Numbers temporary files, since several tasks may write into one folder.
    private let temporaries = Atomic<Int>(0)

    /// Opens the folder, made with its parents when it does not exist.
    package init(path: String) throws(FileSystemError) {
        try Self.makeFolders(path)
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .last("open folder", path) }
        self.path = path
        self.descriptor = descriptor
    }

    deinit {
        close(descriptor)
    }

    /// Writes a file under a name that stays inside (`SampleRecord.isValidName`); one that is there is replaced whole.
    ///
    /// For restored data: complete or absent under its name, but not synced to the device.
    package func write(_ bytes: [UInt8], name: String) throws(FileSystemError) {
        let full = "\(path)/\(name)"
        guard SampleRecord.isValidName(name) else {
            throw FileSystemError(operation: "write outside the folder", path: name, number: EPERM)
        }
        var components = name.split(separator: "/").map(String.init)
        let last = components.removeLast()
        var folder = dup(descriptor)
        guard folder >= 0 else { throw .last("open folder", path) }
        defer { close(folder) }
        for component in components {
            if mkdirat(folder, component, 0o777) != 0, errno != EEXIST {
                throw .last("make folder for", full)
            }
            let next = openat(folder, component, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            guard next >= 0 else { throw .last("enter folder of", full) }
            close(folder)
            folder = next
        }
        let number = temporaries.add(1, ordering: .relaxed).newValue
        let temporary = "\(DatasetLayout.partialPrefix)\(getpid())-\(number)"
        unlinkat(folder, temporary, 0)
        let file = openat(
            folder,
            temporary,
            O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
            0o666
        )
        guard file >= 0 else { throw .last("create", full) }
        do {
            try writeAll(bytes, to: file, path: full)
        } catch {
            close(file)
            unlinkat(folder, temporary, 0)
            throw error
        }
        close(file)
        guard renameat(folder, temporary, folder, last) == 0 else {
            let error = FileSystemError.last("rename to", full)
            unlinkat(folder, temporary, 0)
            throw error
        }
    }

    /// Makes a folder and its parents; one that exists is fine.
    package static func makeFolders(_ path: String) throws(FileSystemError) {
        if mkdir(path, 0o777) == 0 || errno == EEXIST { return }
        guard errno == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex else {
            throw .last("make folder", path)
        }
        try makeFolders(String(path[..<slash]))
        guard mkdir(path, 0o777) == 0 || errno == EEXIST else { throw .last("make folder", path) }
    }
}
