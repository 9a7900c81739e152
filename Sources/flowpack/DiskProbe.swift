import Foundation
import Synchronization
import Worker

/// Makes a small write last, again and again, beside what is measured.
///
/// A commit waits for at least this; on a disk that has other users, too, it says whose the slow
/// ones are.
final class DiskProbe: Sendable {
    private static let content = Data(count: 4096)
    /// Seconds from one write to the next.
    private static let pause = 0.05

    private let milliseconds = Mutex<[Double]>([])
    private let isOver = Atomic(false)

    /// Begins with the writes.
    ///
    /// - Parameter path: A file on the disk, which this makes.
    /// - Throws: When the file cannot be written.
    init(path: String) throws {
        try Self.content.write(to: URL(filePath: path))
        let file = try FileHandle(forWritingTo: URL(filePath: path))
        Thread.detachNewThread { [self] in
            while !isOver.load(ordering: .relaxed), (try? write(file)) != nil {
                Thread.sleep(forTimeInterval: Self.pause)
            }
        }
    }

    /// Returns how long each write took since the last call, ascending.
    func take() -> [Double] {
        milliseconds.withLock { milliseconds in
            defer { milliseconds = [] }
            return milliseconds.sorted()
        }
    }

    func end() {
        isOver.store(true, ordering: .relaxed)
    }

    private func write(_ file: FileHandle) throws {
        let begin = monotonicSeconds()
        try file.seek(toOffset: 0)
        try file.write(contentsOf: Self.content)
        guard fdatasync(file.fileDescriptor) == 0 else { throw CocoaError(.fileWriteUnknown) }
        let seconds = monotonicSeconds() - begin
        milliseconds.withLock { $0.append(seconds * 1000) }
    }
}
