internal import Glibc
import Synchronization

/// A step of a job at which the loss of the process would matter, so that tests can have it lost
/// there.
///
/// `FLOWPACK_CRASH_AT=afterOutputRename` ends the process as `kill -9` would when it reaches that
/// step, `FLOWPACK_CRASH_AT=afterCommit:7` when it reaches it for the seventh time. Where the variable
/// is not set, a step costs one comparison.
package enum CrashPoint: String, CaseIterable, Sendable {
    // A worker with a shard.
    case afterEncoding
    case afterVerifying
    /// The file is on the device, under a temporary name.
    case afterTemporarySync
    /// The file has its name, but the folder is not synchronised.
    case afterOutputRename
    case beforeComplete
    case afterComplete

    // The coordinator. The two around a commit are reached by every transaction.
    case beforeCommit
    /// What is committed was not answered yet.
    case afterCommit
    /// A shard of a source that has more is planned.
    case duringPlanning
    /// The new manifest is on the device, under a temporary name.
    case beforeReplacing
    /// The new manifest has its name, but the job does not know.
    case afterReplacing

    // `flowpack compress`, when its job is complete.
    case beforeStateRemoval
    case duringStateRemoval

    // A worker whose output goes to S3.
    /// A part of it is there, or all of it.
    case duringUpload

    /// Ends the process if this is the step to end it at.
    package static func reached(_ point: CrashPoint) {
        guard point == chosen?.point else { return }
        if visits.add(1, ordering: .relaxed).newValue == chosen?.visit {
            kill(getpid(), SIGKILL)
        }
    }

    /// How often the chosen step was reached.
    private static let visits = Atomic(0)

    /// The step that the environment names, and at which visit to end.
    private static let chosen: (point: CrashPoint, visit: Int)? = {
        guard let value = getenv("FLOWPACK_CRASH_AT") else { return nil }
        let parts = String(cString: value).split(separator: ":", maxSplits: 1)
        guard let point = parts.first.flatMap({ CrashPoint(rawValue: String($0)) }),
            let visit = Int(parts.count == 2 ? parts[1] : "1"), visit > 0
        else { fatalError("FLOWPACK_CRASH_AT=\(String(cString: value)) names no step.") }
        return (point, visit)
    }()
}
