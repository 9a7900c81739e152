import Foundation
import GRDB
package import JobProtocol

/// Looks at what a coordinator stands on: its folder, its database, its machine.
///
/// It changes nothing, and may run beside a coordinator on the same folder.
package struct CoordinatorSelftest {
    private let folder: String
    private let tokenFile: String?

    /// - Parameters:
    ///   - folder: The coordinator's folder.
    ///   - tokenFile: Its token file; nil for none.
    package init(folder: String, tokenFile: String?) {
        self.folder = folder
        self.tokenFile = tokenFile
    }

    /// What is wrong with the database decides how a program ends; the rest is in the checks.
    package typealias Findings = (checks: [SelftestCheck], damage: StartError?)

    package func run() -> Findings {
        guard case .folder? = try? Files.kind(of: folder), access(folder, W_OK) == 0 else {
            let check = SelftestCheck(
                name: "folder",
                isOK: false,
                detail: "\(folder) is no folder that can be written",
                next: "name the coordinator's folder with --data, and run as its user"
            )
            return ([check], nil)
        }
        let (database, damage) = checkDatabase()
        let checks =
            [
                SelftestCheck(name: "folder", isOK: true, detail: folder), checkLock(),
                checkFileSystem(), checkFreeSpace(), checkSQLite(),
            ] + database + [checkTokenFile(), checkOpenFiles()]
        return (checks, damage)
    }

    private func checkLock() -> SelftestCheck {
        let path = Files.database(in: folder) + ".lock"
        let isThere = (try? Files.kind(of: path)) != nil
        var isHeld = false
        if isThere {
            do throws(StartError) {
                _ = try FileLock(path: path)
            } catch {
                isHeld = true
            }
        }
        return SelftestCheck(
            name: "lock",
            isOK: true,
            detail: "\(isHeld ? "a" : "no") coordinator runs on the folder"
        )
    }

    private func checkFileSystem() -> SelftestCheck {
        do throws(StartError) {
            try NetworkFileSystem.refuse(folder)
        } catch {
            return SelftestCheck(
                name: "file system",
                isOK: false,
                detail: error.message,
                next: "move the folder to a local disk while no coordinator runs"
            )
        }
        return SelftestCheck(
            name: "file system",
            isOK: true,
            detail: NetworkFileSystem.type(of: folder) ?? "unknown, but none that is known to fail"
        )
    }

    private func checkFreeSpace() -> SelftestCheck {
        let free = (try? Files.freeBytes(at: folder)) ?? 0
        return SelftestCheck(
            name: "free space",
            isOK: free >= Ballast.largestBytes,
            detail: "\(free >> 20) MiB",
            next: free >= Ballast.largestBytes ? nil : "free space on the disk of \(folder)"
        )
    }

    private func checkSQLite() -> SelftestCheck {
        let version = (try? DatabaseQueue().inDatabase(JobQueue.sqliteVersion))
        let isOK = version.map { $0 >= .oldest } ?? false
        let release = version.map(\.description) ?? "none"
        return SelftestCheck(
            name: "SQLite",
            isOK: isOK,
            detail: version?.warning ?? release,
            next: isOK ? nil : "install SQLite \(SQLiteVersion.oldest) or newer"
        )
    }

    /// Checks the whole database, and the clock against its newest event.
    private func checkDatabase() -> (checks: [SelftestCheck], damage: StartError?) {
        let path = Files.database(in: folder)
        guard case .file(let bytes)? = try? Files.kind(of: path) else {
            let check = SelftestCheck(
                name: "database",
                isOK: true,
                detail: "there is none yet; the first start makes it"
            )
            return ([check], nil)
        }
        do throws(StartError) {
            let newest = try Backup.reporting(path) {
                try Backup.openReadOnly(path).inDatabase { db in
                    if let damage = try Schema.damage(in: db) {
                        throw StartError.damaged(path: path, reason: damage)
                    }
                    guard try !Schema.migrator().hasBeenSuperseded(db) else {
                        throw StartError.newer(path: path)
                    }
                    return try JobQueue.lastEventTime(db)
                }
            }
            let database = SelftestCheck(
                name: "database",
                isOK: true,
                detail: "sound, \(bytes) bytes"
            )
            return ([database, checkClock(newest)], nil)
        } catch {
            let check = SelftestCheck(
                name: "database",
                isOK: false,
                detail: error.message,
                next: "flowpack-coordinator restore, from a backup"
            )
            return ([check], error)
        }
    }

    private func checkClock(_ newest: Timestamp?) -> SelftestCheck {
        let now = Timestamp(milliseconds: Int64(Date().timeIntervalSince1970 * 1000))
        let behind = newest.map { $0.seconds(since: now) } ?? 0
        return SelftestCheck(
            name: "clock",
            isOK: behind <= 0,
            detail: behind <= 0
                ? "ahead of the newest event" : "\(Int(behind)) s behind the newest event",
            next: behind <= 0 ? nil : "set the clock; until then times shown are those of the queue"
        )
    }

    private func checkTokenFile() -> SelftestCheck {
        guard let tokenFile else {
            return SelftestCheck(
                name: "token file",
                isOK: true,
                detail: "none is named: only this machine is served"
            )
        }
        do throws(StartError) {
            _ = try Tokens(path: tokenFile)
        } catch {
            return SelftestCheck(
                name: "token file",
                isOK: false,
                detail: error.message,
                next: "mend \(tokenFile)"
            )
        }
        var status = stat()
        let isPrivate = stat(tokenFile, &status) == 0 && status.st_mode & 0o077 == 0
        return SelftestCheck(
            name: "token file",
            isOK: isPrivate,
            detail: isPrivate ? tokenFile : "\(tokenFile) may be read by others",
            next: isPrivate ? nil : "chmod 600 \(tokenFile)"
        )
    }

    private func checkOpenFiles() -> SelftestCheck {
        let limit = OpenFiles.raiseLimit()
        let connections = OpenFiles.connections(within: limit)
        // A worker has two or three connections.
        let isOK = connections >= 1000
        return SelftestCheck(
            name: "open files",
            isOK: isOK,
            detail: "\(limit), which leaves room for \(connections) connections",
            next: isOK ? nil : "raise the limit: ulimit -Hn, or LimitNOFILE= of systemd"
        )
    }
}
