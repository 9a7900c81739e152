import Foundation

/// How many files and connections this process may have open at a time.
package enum OpenFiles {
    /// Files that are no connections: database, log, samples, shards.
    private static let otherFiles = 256

    /// Raises the limit as far as the system lets this process, and returns it.
    ///
    /// Systems start processes with a low one for programs that cannot handle more (select(2)).
    @discardableResult
    package static func raiseLimit() -> Int {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        return Int(clamping: limit.rlim_cur)
    }

    /// Returns how many connections a limit of open files leaves room for.
    package static func connections(within limit: Int) -> Int {
        max(1, limit - otherFiles)
    }
}
