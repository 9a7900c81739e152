/// Where a worker reads the samples of a shard, and where it puts what it made of them.
///
/// One for each lease. The bytes of a shard do not depend on which it is.
package protocol DataPlane: Sendable {
    /// What its messages call the model file.
    var modelPath: String { get }
    /// Returns the model file.
    func model() async throws(ModelStoreError) -> [UInt8]
    /// Checks that the source is there: it must not turn into a dataset of missing files.
    func checkSource() async throws(DataPlaneError)
    /// Returns the file of a sample, the one of this number in the lease; asked for once each, about
    /// in order.
    func read(_ index: Int) async throws(DataPlaneError) -> [UInt8]
    /// Places the shard under a name that contains its SHA-256: when this returns, it stays.
    func place(_ shard: [UInt8], sha256: String) async throws(DataPlaneError)
}

/// Why bytes did not come or go.
package struct DataPlaneError: Error, Equatable, Sendable {
    package enum Reason: Equatable, Sendable {
        /// This sample cannot be read; trying again is in vain where it is permanent.
        case sample(isPermanent: Bool)
        /// The way to the bytes is broken, now or here.
        case way
        /// The destination's device or quota is full.
        case noSpace
        /// The lease is no longer held.
        case lost
    }

    package let reason: Reason
    package let message: String

    package init(_ reason: Reason, _ message: String) {
        self.reason = reason
        self.message = message
    }
}

/// How a worker reaches the bytes of its shards.
package enum DataPlaneChoice: String, CaseIterable, Sendable {
    /// By the job's folders where they are visible, else through the coordinator.
    case auto
    /// By the job's folders, which have the same path everywhere.
    case folder
    /// Through the coordinator.
    case http
}
