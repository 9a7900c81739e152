import JobProtocol
import Synchronization

/// The checks of outputs that are under way: each reads a whole file, on the threads for bytes.
///
/// A report that is sent again joins the check of the first: of a file that takes longer to read
/// than clients wait, the answer would never come otherwise.
final class OutputChecks: Sendable {
    /// What is checked: the shard of a lease names the file.
    private struct Check: Hashable {
        let lease: LeaseID
        let sha256: String
        let bytes: Int64
    }

    /// How the file differs from what the worker says, nil if not; or why it cannot be read.
    typealias Outcome = Result<String?, DestinationError>

    /// Those who wait, by what for.
    private let waiting = Mutex<[Check: [CheckedContinuation<Outcome, Never>]]>([:])

    /// The leases whose outputs are being read now.
    var leases: Set<LeaseID> { waiting.withLock { Set($0.keys.map(\.lease)) } }

    /// Compares a file with what a worker says of it, or waits for the same check that is under way.
    ///
    /// - Parameters:
    ///   - completion: What the worker says.
    ///   - file: The name of the shard's file.
    ///   - destination: That of the job.
    /// - Returns: How the file differs.
    func outcome(
        of completion: Completion,
        file: String,
        in destination: Destination
    ) async -> Outcome {
        let check = Check(
            lease: completion.lease,
            sha256: completion.sha256,
            bytes: completion.bytes
        )
        return await withCheckedContinuation { continuation in
            let isFirst = waiting.withLock { waiting in
                waiting[check, default: []].append(continuation)
                return waiting[check]?.count == 1
            }
            guard isFirst else { return }
            BlobStore.start {
                let outcome = Outcome { () throws(DestinationError) in
                    try Self.mismatch(of: file, in: destination, with: completion)
                }
                let waiting = self.waiting.withLock { $0.removeValue(forKey: check) ?? [] }
                for continuation in waiting { continuation.resume(returning: outcome) }
            }
        }
    }

    /// Returns how the file differs from what the worker says; nil if not.
    private static func mismatch(
        of file: String,
        in destination: Destination,
        with completion: Completion
    ) throws(DestinationError) -> String? {
        let path = destination.path(of: file)
        guard let found = try destination.digest(of: file) else { return "\(path) does not exist" }
        guard found.bytes == completion.bytes else {
            return "\(path) has \(found.bytes) bytes, not \(completion.bytes)"
        }
        guard found.sha256 == completion.sha256 else {
            return "\(path) has the digest \(found.sha256)"
        }
        return nil
    }
}
