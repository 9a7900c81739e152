import Foundation

/// File systems that reach over a network, where SQLite's WAL and locks do not hold.
package enum NetworkFileSystem {
    private static let types: Set<String> = [
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "gpfs", "lustre", "ncpfs", "nfs",
        "nfs4", "ocfs2", "panfs", "smb3", "smbfs", "wekafs",
    ]

    /// Refuses a folder for the queue that does not lie on a local disk.
    ///
    /// - Parameter folder: It exists.
    /// - Throws: `StartError.unusable`, naming the file system.
    package static func refuse(_ folder: String) throws(StartError) {
        guard access(folder, F_OK) == 0 else {
            throw .unusable(path: folder, reason: SystemError.current.description)
        }
        if let type = type(of: folder), isNetwork(type) {
            throw .unusable(
                path: folder,
                reason: "it lies on \(type), where a database can be damaged; choose a local disk"
            )
        }
    }

    /// Returns the type of the file system that a folder lies on; nil where the system does not tell.
    static func type(of folder: String) -> String? {
        var status = stat()
        // Without /proc there is nothing to look at.
        guard stat(folder, &status) == 0,
            let mounts = try? String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8)
        else { return nil }
        return type(ofDevice: UInt64(status.st_dev), in: mounts)
    }

    /// Whether a type of file system, by the kernel's name, reaches over a network.
    ///
    /// Those that a program serves (FUSE) count as such, but for the one that containers lie on.
    package static func isNetwork(_ type: String) -> Bool {
        types.contains(type) || type.hasPrefix("fuse.") && type != "fuse.fuse-overlayfs"
    }

    /// The type of the file system that is mounted from a device, out of `mountinfo` (proc(5)).
    package static func type(ofDevice device: UInt64, in mounts: String) -> String? {
        let major = device >> 8 & 0xfff | device >> 32 & ~0xfff
        let minor = device & 0xff | device >> 12 & ~0xff
        let number = "\(major):\(minor)"
        for line in mounts.split(separator: "\n") {
            let fields = line.split(separator: " ")
            // Number, parent, device; the type is behind the lone hyphen.
            guard fields.count > 2, fields[2] == number,
                let hyphen = fields.firstIndex(of: "-"), hyphen + 1 < fields.count
            else { continue }
            return String(fields[hyphen + 1])
        }
        return nil
    }
}
