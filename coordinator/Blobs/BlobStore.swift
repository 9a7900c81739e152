import Foundation
import JobProtocol
import NIOCore
import NIOPosix

/// The files of jobs, for workers that share no folder with the coordinator.
///
/// Files are read, written and hashed on threads of their own, a few: however many bytes move,
/// they do not keep the threads busy that answer heartbeats.
struct BlobStore: Sendable {
    /// Bytes at which an answer with samples ends, behind the sample that reaches them.
    static let batchBytes = 8 << 20
    /// Bytes that are read or written at a time.
    static let chunkBytes = 1 << 20
    /// Bytes that an upload leaves free on its disk.
    static let reserveBytes: Int64 = 64 << 20
    /// Bytes of a shard file beside twice those of its source, at most.
    static let overheadBytes: Int64 = 16 << 20

    private static let pool: NIOThreadPool = {
        let pool = NIOThreadPool(numberOfThreads: 4)
        pool.start()
        return pool
    }()

    /// Runs work that blocks on the threads for bytes.
    static func onItsThreads<Value: Sendable>(
        _ work: @escaping @Sendable () throws -> Value
    ) async throws -> Value {
        try await pool.runIfActive(work)
    }

    /// As `onItsThreads`, for work that tells its outcome itself.
    static func start(_ work: @escaping @Sendable () -> Void) {
        pool.submit { _ in work() }
    }
}

// MARK: - Reading

extension BlobStore {
    /// A file that is open for reading.
    final class File: Sendable {
        let bytes: Int64
        private let descriptor: Int32

        /// - Throws: `SystemError`, also for something that is not a regular file.
        init(_ path: String) throws(SystemError) {
            // Not blocking, so that a pipe in place of the file cannot stop us.
            let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
            guard descriptor >= 0 else { throw .current }
            var status = stat()
            let isFile = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
            self.descriptor = descriptor
            bytes = Int64(status.st_size)
            // From here on deinit closes it.
            guard isFile else { throw SystemError(code: EINVAL) }
        }

        deinit {
            close(descriptor)
        }

        /// Reads some bytes; fewer only at the end of the file.
        func read(at offset: Int64, count: Int) throws(SystemError) -> ByteBuffer {
            var code: Int32 = 0
            var buffer = ByteBufferAllocator().buffer(capacity: count)
            buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { memory in
                var filled = 0
                while filled < count {
                    let got = pread(
                        descriptor,
                        memory.baseAddress?.advanced(by: filled),
                        count - filled,
                        off_t(offset) + off_t(filled)
                    )
                    if got < 0, errno == EINTR { continue }
                    if got < 0 { code = errno }
                    if got <= 0 { break }
                    filled += got
                }
                return filled
            }
            guard code == 0 else { throw SystemError(code: code) }
            return buffer
        }
    }

    /// Passes a range of a file on, in chunks.
    ///
    /// - Throws: `EAGAIN` when the file ends early.
    static func stream(
        _ file: File,
        _ range: Range<Int64>,
        to write: (ByteBuffer) async throws -> Void
    ) async throws {
        var offset = range.lowerBound
        while offset < range.upperBound {
            let start = offset
            let count = Int(min(Int64(chunkBytes), range.upperBound - start))
            let chunk = try await onItsThreads { try file.read(at: start, count: count) }
            guard chunk.readableBytes == count else { throw SystemError(code: EAGAIN) }
            try await write(chunk)
            offset += Int64(count)
        }
    }

    /// Passes the samples of a lease on, from one on, as frames.
    ///
    /// - Throws: `EAGAIN` when a file changes its length meanwhile.
    static func stream(
        samplesOf lease: Lease,
        from first: Int,
        to write: (ByteBuffer) async throws -> Void
    ) async throws {
        var bytes: Int64 = 0
        for sample in lease.samples[first...] where bytes < batchBytes {
            let path = lease.source + "/" + sample.name
            let file: File
            do {
                file = try await onItsThreads { try File(path) }
            } catch let error as SystemError {
                let failure = SampleFrame.Failure(path: path, code: error.code)
                try await write(ByteBuffer(bytes: SampleFrame.frame(of: failure)))
                continue
            }
            try await write(ByteBuffer(bytes: SampleFrame.header(fileBytes: Int(file.bytes))))
            try await stream(file, 0..<file.bytes, to: write)
            let more = try await onItsThreads { try file.read(at: file.bytes, count: 1) }
            guard more.readableBytes == 0 else { throw SystemError(code: EAGAIN) }
            bytes += file.bytes
        }
    }

    /// A source that is not mounted here must not turn into a dataset of missing files.
    static func checkSource(_ lease: Lease) async throws {
        let isThere = try await onItsThreads {
            guard let stream = opendir(lease.source) else { return false }
            defer { closedir(stream) }
            while let entry = readdir(stream) {
                // Every folder has "." and "..".
                if entry.pointee.d_name.0 != Int8(bitPattern: UInt8(ascii: ".")) { return true }
            }
            return false
        }
        guard isThere else {
            throw Problem(
                .unavailable,
                "The source \(lease.source) is empty or not there on the coordinator's machine.",
                next: "Check that it is mounted there.",
                retryAfterSeconds: Limits.heartbeatSeconds
            )
        }
    }
}

// MARK: - Writing

extension BlobStore {
    /// The upload of a lease's output: a file that grows until it is whole.
    struct Upload: Sendable {
        private let folder: String
        private let partial: String
        private let path: String
        private let sha256: String
        private let lease: Lease

        init(_ sha256: String, for lease: Lease) {
            folder = lease.destination + "/" + DatasetLayout.shardFolder
            partial = folder + "/\(DatasetLayout.partialPrefix)upload-\(lease.lease)-\(sha256)"
            path =
                lease.destination + "/"
                + DatasetLayout.shardFile(ordinal: lease.ordinal, sha256: sha256)
            self.sha256 = sha256
            self.lease = lease
        }

        /// Returns how much of it is there, and whether it is in its place.
        func state() throws(SystemError) -> (bytes: Int64, isComplete: Bool) {
            if case .file(let bytes) = try Files.kind(of: path) { return (bytes, true) }
            guard case .file(let bytes) = try Files.kind(of: partial) else { return (0, false) }
            return (bytes, false)
        }

        /// Checks that a part may come.
        func admit(_ part: ContentRange) throws {
            try lease.admit(outputBytes: part.total)
            let there = try state().bytes
            guard part.bytes.lowerBound <= there else {
                throw Problem.malformed("The upload has \(there) bytes; go on from there.")
            }
            try Files.makeFolder(folder)
            guard try Files.freeBytes(at: folder) >= part.total - there + reserveBytes else {
                throw Problem.noSpace(folder)
            }
        }

        func write(_ bytes: ByteBuffer, at offset: Int64) throws {
            do {
                try Files.write(bytes.readableBytesView, to: partial, at: offset)
            } catch let error where [ENOSPC, EDQUOT].contains(error.code) {
                throw Problem.noSpace(folder)
            }
        }

        /// Checks the whole upload and puts it in its place.
        func finish() throws {
            guard try !state().isComplete else { return }
            guard try Files.digest(of: partial).sha256 == sha256 else {
                unlink(partial)
                throw Problem(
                    .outputMismatch,
                    "The bytes that came do not have the digest \(sha256).",
                    next: "Send them again from the start."
                )
            }
            // Whatever is there under this name has these bytes.
            _ = try Files.place(partial, at: path)
        }
    }
}

extension Lease {
    /// Refuses an output that is too long for its source.
    func admit(outputBytes: Int64) throws(Problem) {
        let limitBytes = BlobStore.overheadBytes + 2 * samples.reduce(0) { $0 + $1.bytes }
        guard outputBytes <= limitBytes else {
            throw Problem(
                .bodyTooLarge,
                "The output has \(outputBytes) bytes; \(limitBytes) are the most for its source.",
                next: "Look at the worker: a shard does not grow."
            )
        }
    }
}

extension Problem {
    fileprivate static func noSpace(_ folder: String) -> Problem {
        Problem(
            .unavailable,
            "The disk of \(folder) is full.",
            next: "Free space on it.",
            retryAfterSeconds: 30
        )
    }
}
