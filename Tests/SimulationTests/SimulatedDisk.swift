import Synchronization
import TestSupport

/// A disk in memory, which fills up, fails in the middle of a change, and forgets at a power cut
/// what was not synchronised.
///
/// Names of files appear and disappear at once and for good: SQLite itself synchronises folders.
final class SimulatedDisk: Sendable {
    /// Why a change was not made.
    enum Refusal: Error {
        /// The file would have become longer.
        case full
        /// The process was killed, or the power is off.
        case dead
    }

    /// What survives, whole or in part, when it was not synchronised.
    private enum Change {
        case write([UInt8], offset: Int)
        case truncate(Int)
    }

    private struct File {
        /// As the processes of the machine see it.
        var bytes: [UInt8] = []
        /// As the last synchronisation left it.
        var durable: [UInt8] = []
        /// Changes since then, oldest first.
        var changes: [Change] = []
    }

    private struct State {
        var files: [String: File] = [:]
        var isFull = false
        var isDead = false
        /// Changes until it is dead.
        var changesLeft: Int?
    }

    /// Of what a torn write keeps the first ones.
    private static let sectorBytes = 512

    private let state = Mutex(State())

    /// Whether it is dead; then it lies still until `restart` or `cutPower`.
    var isDead: Bool { state.withLock(\.isDead) }

    var isFull: Bool {
        get { state.withLock(\.isFull) }
        set { state.withLock { $0.isFull = newValue } }
    }

    /// All files as they are, or as they shall be.
    var image: [String: [UInt8]] {
        get { state.withLock { $0.files.mapValues(\.bytes) } }
        set {
            state.withLock {
                $0.files = newValue.mapValues { File(bytes: $0, durable: $0) }
            }
        }
    }

    // MARK: Faults

    /// Makes it die after so many more changes.
    func die(after changes: Int) {
        state.withLock { $0.changesLeft = changes }
    }

    /// Brings it back after the process was killed: the machine has kept every change.
    func restart() {
        state.withLock { state in
            state.isDead = false
            state.changesLeft = nil
        }
    }

    /// Brings it back after a power cut: of each change that was not synchronised all, nothing, or
    /// the first sectors are there.
    func cutPower(using generator: inout SeededGenerator) {
        restart()
        state.withLock { state in
            for name in state.files.keys.sorted() {
                guard let file = state.files[name] else { continue }
                var bytes = file.durable
                for change in file.changes {
                    switch Int.random(in: 0..<3, using: &generator) {
                    case 0: Self.apply(change, to: &bytes)
                    case 1: Self.apply(Self.torn(change, using: &generator), to: &bytes)
                    default: break
                    }
                }
                state.files[name] = File(bytes: bytes, durable: bytes)
            }
        }
    }

    private static func torn(
        _ change: Change,
        using generator: inout SeededGenerator
    ) -> Change {
        guard case .write(let bytes, let offset) = change else { return change }
        let sectors = Int.random(in: 0...bytes.count / sectorBytes, using: &generator)
        return .write(Array(bytes.prefix(sectors * sectorBytes)), offset: offset)
    }

    // MARK: Files

    func exists(_ name: String) -> Bool { state.withLock { $0.files[name] != nil } }

    func create(_ name: String) {
        state.withLock { $0.files[name] = $0.files[name] ?? File() }
    }

    func delete(_ name: String) throws(Refusal) {
        try change { state throws(Refusal) in state.files[name] = nil }
    }

    /// Returns the length of a file in bytes.
    func size(of name: String) -> Int { state.withLock { $0.files[name]?.bytes.count ?? 0 } }

    /// Reads from a file and returns how many bytes there were; the rest of `target` becomes zeros.
    func read(_ name: String, at offset: Int, into target: UnsafeMutableRawBufferPointer) -> Int {
        state.withLock { state in
            let bytes = state.files[name]?.bytes[...].dropFirst(offset).prefix(target.count) ?? []
            target.copyBytes(from: bytes)
            UnsafeMutableRawBufferPointer(rebasing: target[bytes.count...])
                .initializeMemory(as: UInt8.self, repeating: 0)
            return bytes.count
        }
    }

    func write(_ name: String, _ bytes: [UInt8], at offset: Int) throws(Refusal) {
        try change(.write(bytes, offset: offset), of: name)
    }

    func truncate(_ name: String, to size: Int) throws(Refusal) {
        try change(.truncate(size), of: name)
    }

    func synchronise(_ name: String) throws(Refusal) {
        try change { state throws(Refusal) in
            guard var file = state.files.removeValue(forKey: name) else { return }
            for change in file.changes { Self.apply(change, to: &file.durable) }
            file.changes = []
            state.files[name] = file
        }
    }

    private func change(_ change: Change, of name: String) throws(Refusal) {
        try self.change { state throws(Refusal) in
            if case .write(let bytes, let offset) = change, state.isFull,
                offset + bytes.count > state.files[name]?.bytes.count ?? 0
            {
                throw .full
            }
            Self.apply(change, to: &state.files[name, default: File()].bytes)
            state.files[name, default: File()].changes.append(change)
        }
    }

    /// Makes a change, unless the disk is dead.
    private func change(_ body: (inout State) throws(Refusal) -> Void) throws(Refusal) {
        try state.withLock { state throws(Refusal) in
            if let left = state.changesLeft {
                state.isDead = state.isDead || left == 0
                state.changesLeft = max(0, left - 1)
            }
            guard !state.isDead else { throw .dead }
            try body(&state)
        }
    }

    private static func apply(_ change: Change, to bytes: inout [UInt8]) {
        switch change {
        case .truncate(let size):
            bytes.removeLast(max(0, bytes.count - size))
        case .write(let new, let offset):
            let missing = offset + new.count - bytes.count
            if missing > 0 { bytes.append(contentsOf: repeatElement(0, count: missing)) }
            bytes.withUnsafeMutableBytes { target in
                UnsafeMutableRawBufferPointer(rebasing: target[offset..<offset + new.count])
                    .copyBytes(from: new)
            }
        }
    }
}
