import Foundation
import Synchronization

/// A file that takes disk space only to give it back.
///
/// It lies beside the database. When a write finds the disk full, the file goes: then there is room
/// to record what workers still report, while new work is refused. It comes back when there is
/// room for it and for some more.
package final class Ballast: Sendable {
    /// Bytes of the file, unless the disk is small.
    static let largestBytes: Int64 = 64 << 20
    /// Most of a small disk: one part in so many.
    private static let diskParts: Int64 = 8
    /// Free bytes below which a coordinator could not even open its database.
    private static let leastFreeBytes: Int64 = 1 << 20

    package let path: String
    private let folder: String
    /// Bytes of the file; 0 without one.
    private let bytes: Int64
    /// Whether the file is there.
    private let isHeld = Mutex(false)

    /// Takes the space, if there is as much.
    ///
    /// - Parameters:
    ///   - folder: Of the database.
    ///   - isWanted: False to do without: then the disk is never said to be short.
    init(folder: String, isWanted: Bool) {
        self.folder = folder
        path = folder + "/ballast"
        let diskBytes = (try? Files.diskBytes(at: folder)) ?? 0
        bytes = isWanted ? min(Self.largestBytes, diskBytes / Self.diskParts) : 0
        let free = (try? Files.freeBytes(at: folder)) ?? .max
        if bytes > 0, Files.allocatedBytes(of: path) >= bytes, free >= Self.leastFreeBytes {
            isHeld.withLock { $0 = true }
        } else {
            unlink(path)
            refill()
        }
    }

    /// Whether the space is gone, so that what is left is for the work that was begun.
    package var isSpent: Bool { bytes > 0 && isHeld.withLock { !$0 } }

    /// Gives the space back.
    ///
    /// - Returns: Whether a write that found the disk full should be tried again.
    func release() -> Bool {
        guard bytes > 0 else { return false }
        isHeld.withLock { isHeld in
            if isHeld { unlink(path) }
            isHeld = false
        }
        return true
    }

    /// Takes the space again, if the disk has a quarter more than that.
    ///
    /// - Returns: Whether it is there now.
    @discardableResult
    package func refill() -> Bool {
        isHeld.withLock { isHeld in
            guard !isHeld, bytes > 0 else { return isHeld }
            guard let free = try? Files.freeBytes(at: folder), free >= bytes + bytes / 4 else {
                return false
            }
            isHeld = Files.allocate(path, bytes: bytes)
            return isHeld
        }
    }
}
