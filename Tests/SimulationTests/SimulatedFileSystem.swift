import GRDBSQLite
import Synchronization

/// Lets SQLite find simulated disks in folders; every other path leads to the machine's own files.
///
/// A file system of SQLite, a "VFS" (https://sqlite.org/vfs.html), the default one as soon as a
/// disk was mounted. A file has one connection at a time, so that there are no locks, and the
/// shared memory of a WAL belongs to the connection.
enum SimulatedFileSystem {
    private static let disks = Mutex<[String: SimulatedDisk]>([:])

    /// Puts a disk in the place of a folder.
    static func mount(_ disk: SimulatedDisk, at folder: String) {
        _ = registration
        disks.withLock { $0[folder] = disk }
    }

    static func unmount(_ folder: String) {
        disks.withLock { $0[folder] = nil }
    }

    /// Returns the disk on which a path leads, and the file's name there.
    fileprivate static func find(
        _ path: UnsafePointer<CChar>?
    ) -> (disk: SimulatedDisk, name: String)? {
        guard let path = path.map({ String(cString: $0) }), let slash = path.lastIndex(of: "/")
        else { return nil }
        let disk = disks.withLock { $0[String(path[..<slash])] }
        return disk.map { ($0, String(path[path.index(after: slash)...])) }
    }

    /// The one that was the default.
    nonisolated(unsafe) private static let machine: UnsafeMutablePointer<sqlite3_vfs> = {
        guard let machine = sqlite3_vfs_find(nil) else { preconditionFailure("SQLite has a VFS") }
        return machine
    }()

    private static let name: StaticString = "simulated"

    private static let registration: Void = {
        let own = UnsafeMutablePointer<sqlite3_vfs>.allocate(capacity: 1)
        own.initialize(to: machine.pointee)
        own.pointee.pNext = nil
        own.pointee.zName = UnsafeRawPointer(name.utf8Start)
            .assumingMemoryBound(to: CChar.self)
        own.pointee.szOsFile = max(
            machine.pointee.szOsFile,
            CInt(MemoryLayout<FileHandle>.size)
        )
        own.pointee.xOpen = { _, path, file, flags, outFlags in
            guard let (disk, name) = SimulatedFileSystem.find(path), let file else {
                return SimulatedFileSystem.machine.pointee.xOpen(
                    SimulatedFileSystem.machine,
                    path,
                    file,
                    flags,
                    outFlags
                )
            }
            outFlags?.pointee = flags
            guard flags & SQLITE_OPEN_CREATE != 0 || disk.exists(name) else {
                file.pointee.pMethods = nil
                return SQLITE_CANTOPEN
            }
            disk.create(name)
            let handle = FileHandle(
                base: sqlite3_file(pMethods: FileHandle.methods),
                file: .passRetained(OpenFile(disk: disk, name: name))
            )
            UnsafeMutableRawPointer(file).initializeMemory(as: FileHandle.self, to: handle)
            return SQLITE_OK
        }
        own.pointee.xDelete = { _, path, isSynchronised in
            guard let (disk, name) = SimulatedFileSystem.find(path) else {
                return SimulatedFileSystem.machine.pointee.xDelete(
                    SimulatedFileSystem.machine,
                    path,
                    isSynchronised
                )
            }
            return SimulatedFileSystem.code { () throws(SimulatedDisk.Refusal) in
                try disk.delete(name)
            }
        }
        own.pointee.xAccess = { _, path, flags, answer in
            guard let (disk, name) = SimulatedFileSystem.find(path) else {
                return SimulatedFileSystem.machine.pointee.xAccess(
                    SimulatedFileSystem.machine,
                    path,
                    flags,
                    answer
                )
            }
            answer?.pointee = disk.exists(name) ? 1 : 0
            return SQLITE_OK
        }
        sqlite3_vfs_register(own, 1)
    }()

    /// Makes a change and returns SQLite's code for what came of it.
    fileprivate static func code(
        _ change: () throws(SimulatedDisk.Refusal) -> Void
    ) -> CInt {
        do throws(SimulatedDisk.Refusal) {
            try change()
            return SQLITE_OK
        } catch {
            return error == .full ? SQLITE_FULL : SQLITE_IOERR
        }
    }
}

/// A file on a simulated disk that a connection has open.
private final class OpenFile {
    let disk: SimulatedDisk
    let name: String
    /// The shared memory of a WAL.
    private var regions: [UnsafeMutableRawPointer] = []

    init(disk: SimulatedDisk, name: String) {
        self.disk = disk
        self.name = name
    }

    deinit {
        for region in regions { region.deallocate() }
    }

    /// Returns a region of the shared memory, of zeros when it is new.
    func region(_ index: Int, bytes: Int) -> UnsafeMutableRawPointer {
        while regions.count <= index {
            let region = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 8)
            region.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
            regions.append(region)
        }
        return regions[index]
    }
}

/// How SQLite holds an open file: a `sqlite3_file` with something behind it.
private struct FileHandle {
    static let shortRead = SQLITE_IOERR | 2 << 8
    static let powersafeOverwrite: CInt = 0x1000
    static let sectorBytes: CInt = 4096

    var base: sqlite3_file
    var file: Unmanaged<OpenFile>

    static func open(_ file: UnsafeMutablePointer<sqlite3_file>?) -> OpenFile {
        handle(file).pointee.file.takeUnretainedValue()
    }

    private static func handle(
        _ file: UnsafeMutablePointer<sqlite3_file>?
    ) -> UnsafeMutablePointer<FileHandle> {
        guard let file else { preconditionFailure("SQLite names a file") }
        return UnsafeMutableRawPointer(file).assumingMemoryBound(to: FileHandle.self)
    }

    nonisolated(unsafe) static let methods: UnsafePointer<sqlite3_io_methods> = {
        let methods = UnsafeMutablePointer<sqlite3_io_methods>.allocate(capacity: 1)
        methods.initialize(to: sqlite3_io_methods())
        methods.pointee.iVersion = 2
        methods.pointee.xClose = { file in
            FileHandle.handle(file).pointee.file.release()
            return SQLITE_OK
        }
        methods.pointee.xRead = { file, target, count, offset in
            let file = FileHandle.open(file)
            guard !file.disk.isDead else { return SQLITE_IOERR }
            let target = UnsafeMutableRawBufferPointer(start: target, count: Int(count))
            let found = file.disk.read(file.name, at: Int(offset), into: target)
            return found == target.count ? SQLITE_OK : FileHandle.shortRead
        }
        methods.pointee.xWrite = { file, bytes, count, offset in
            let file = FileHandle.open(file)
            let bytes = Array(UnsafeRawBufferPointer(start: bytes, count: Int(count)))
            return SimulatedFileSystem.code { () throws(SimulatedDisk.Refusal) in
                try file.disk.write(file.name, bytes, at: Int(offset))
            }
        }
        methods.pointee.xTruncate = { file, size in
            let file = FileHandle.open(file)
            return SimulatedFileSystem.code { () throws(SimulatedDisk.Refusal) in
                try file.disk.truncate(file.name, to: Int(size))
            }
        }
        methods.pointee.xSync = { file, _ in
            let file = FileHandle.open(file)
            return SimulatedFileSystem.code { () throws(SimulatedDisk.Refusal) in
                try file.disk.synchronise(file.name)
            }
        }
        methods.pointee.xFileSize = { file, size in
            let file = FileHandle.open(file)
            size?.pointee = Int64(file.disk.size(of: file.name))
            return SQLITE_OK
        }
        methods.pointee.xLock = { _, _ in SQLITE_OK }
        methods.pointee.xUnlock = { _, _ in SQLITE_OK }
        methods.pointee.xCheckReservedLock = { _, answer in
            answer?.pointee = 0
            return SQLITE_OK
        }
        methods.pointee.xFileControl = { _, _, _ in SQLITE_NOTFOUND }
        methods.pointee.xSectorSize = { _ in FileHandle.sectorBytes }
        methods.pointee.xDeviceCharacteristics = { _ in FileHandle.powersafeOverwrite }
        methods.pointee.xShmMap = { file, index, bytes, _, region in
            region?.pointee = FileHandle.open(file).region(Int(index), bytes: Int(bytes))
            return SQLITE_OK
        }
        methods.pointee.xShmLock = { _, _, _, _ in SQLITE_OK }
        methods.pointee.xShmBarrier = { _ in }
        methods.pointee.xShmUnmap = { _, _ in SQLITE_OK }
        return UnsafePointer(methods)
    }()
}
