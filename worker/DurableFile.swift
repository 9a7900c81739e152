import CrashPoints
internal import Glibc
import JobProtocol

/// What ``placeFile(_:name:in:)`` found.
package enum Placement: Equatable, Sendable {
    case placed
    /// A file of that name was there already; it was not touched.
    case alreadyThere
}

/// Places an immutable file: after this returns, a power cut cannot take it away or halve it.
///
/// Writes a temporary file (`DatasetLayout.partialPrefix`) in the same folder, fsync, renames it
/// without replacing, fsync of the folder. The name should contain the content's digest, so that ``Placement/alreadyThere`` means
/// the same content.
package func placeFile(
    _ bytes: [UInt8],
    name: String,
    in folder: String
) throws(FileSystemError) -> Placement {
    let path = "\(folder)/\(name)"
    let temporary = "\(folder)/\(DatasetLayout.partialPrefix)\(getpid())-\(name)"
    defer { unlink(temporary) }
    try writeSynced(bytes, temporary)
    CrashPoint.reached(.afterTemporarySync)
    let placement = try renameWithoutReplacing(temporary, path)
    CrashPoint.reached(.afterOutputRename)
    try syncFolder(folder)
    return placement
}

private func writeSynced(_ bytes: [UInt8], _ path: String) throws(FileSystemError) {
    // A leftover of an earlier process that had our number.
    unlink(path)
    let file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard file >= 0 else { throw .last("create", path) }
    defer { close(file) }
    try writeAll(bytes, to: file, path: path)
    guard fsync(file) == 0 else { throw .last("sync", path) }
}

/// Brings a folder's entries to the device.
package func syncFolder(_ folder: String) throws(FileSystemError) {
    let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .last("open folder", folder) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw .last("sync folder", folder) }
}

/// Reads a whole file of at most `limitBytes` bytes.
package func readFile(_ path: String, limitBytes: Int) throws(FileSystemError) -> [UInt8] {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw .last("open", path) }
    defer { close(file) }
    var status = stat()
    guard fstat(file, &status) == 0 else { throw .last("stat", path) }
    guard status.st_mode & S_IFMT == S_IFREG else {
        throw FileSystemError(
            operation: "read",
            path: path,
            number: status.st_mode & S_IFMT == S_IFDIR ? EISDIR : EINVAL
        )
    }
    guard status.st_size <= limitBytes else {
        throw FileSystemError(operation: "read", path: path, number: EFBIG)
    }
    // One more byte than expected shows whether the file grew meanwhile.
    let capacity = Int(status.st_size) + 1
    var number: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
        while count < capacity {
            let got = read(file, buffer.baseAddress.map { $0 + count }, capacity - count)
            if got < 0, errno == EINTR { continue }
            if got < 0 { number = errno }
            if got <= 0 { break }
            count += got
        }
    }
    guard number == 0 else { throw FileSystemError(operation: "read", path: path, number: number) }
    guard bytes.count < capacity else {
        throw FileSystemError(operation: "read (it is growing)", path: path, number: EAGAIN)
    }
    return bytes
}

/// Writes every byte to an open file.
func writeAll(_ bytes: [UInt8], to file: Int32, path: String) throws(FileSystemError) {
    var offset = 0
    while offset < bytes.count {
        let written = bytes.withUnsafeBytes { buffer in
            write(file, buffer.baseAddress.map { $0 + offset }, buffer.count - offset)
        }
        if written < 0, errno == EINTR { continue }
        guard written >= 0 else { throw .last("write", path) }
        offset += written
    }
}

/// A hard link is the renaming that replaces nothing on every file system that has hard links.
private func renameWithoutReplacing(
    _ source: String,
    _ target: String
) throws(FileSystemError) -> Placement {
    if link(source, target) == 0 { return .placed }
    switch errno {
    case EEXIST:
        return .alreadyThere
    case EPERM, EOPNOTSUPP, ENOSYS, EMLINK:
        // No hard links here. Whatever a plain rename could replace has the same digest in its name.
        guard rename(source, target) == 0 else { throw .last("rename to", target) }
        return .placed
    default:
        throw .last("link to", target)
    }
}
