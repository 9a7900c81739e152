/// Times, sizes and counts that both ends of the protocol keep to.
package enum Limits {
    /// Version of the protocol; a worker of another version is refused.
    package static let protocolVersion = 4

    /// Life of a lease in seconds without a heartbeat, unless the coordinator is told otherwise.
    package static let leaseSeconds = 60
    /// What the coordinator may be told: heartbeats go out once a second at most.
    package static let leaseSecondsRange = 4...3600
    /// Pause between two heartbeats of a worker in seconds.
    package static let heartbeatSeconds = heartbeatSeconds(ofLease: leaseSeconds)
    /// Pause between two heartbeats in seconds: four chances in every lease.
    package static func heartbeatSeconds(ofLease leaseSeconds: Int) -> Int { leaseSeconds / 4 }
    /// Time in seconds without a step of work after which a lease is taken from its worker, though
    /// this sends heartbeats: longer than the slowest kernels take for one block.
    package static let stuckSeconds = 1800
    /// A lease is late after this many times the time that its class of device takes in the median.
    package static let lateFactor = 2.0
    /// Time in seconds before which no lease is late.
    package static let lateSeconds = 60
    /// Share of the lease in percent after which a worker without an answer stops by itself.
    package static let selfFencePercent = 80
    /// Longest wait of a lease request in seconds; below the idle limits of common proxies (30 s).
    package static let longPollSeconds = 25

    /// Most shards in one lease answer.
    package static let shardsPerLease = 64
    /// Most leases in one heartbeat.
    package static let leasesPerHeartbeat = 1024

    /// What a job's priority may be.
    package static let priorities = -100...100

    /// Failed attempts after which a shard is given up; or workers lost on it, on whatever hosts,
    /// after which its samples are suspected.
    package static let triesPerShard = 8
    /// Workers lost on a shard after which its samples are suspected, if they were on several hosts.
    package static let suspectLosses = 3
    /// That many hosts, or all that there are.
    package static let suspectHosts = 2
    /// Failures of a worker, since it was last cleared, below which it is not compared with others.
    package static let failuresForSuspicion = 5
    /// Attempts of the other workers below which none is compared with them.
    package static let attemptsForComparison = 20
    /// A worker that fails more often than this many times the rate of the others is suspect.
    package static let failureRateFactor = 3
    /// Most checks in the report of a selftest.
    package static let checksPerSelftest = 256

    /// Attempts of a job, the last ones, among which failures are counted.
    package static let breakerAttempts = 50
    /// Share of failures in percent of these above which the job is paused.
    package static let breakerPercent = 20
    /// That many shards have to be among the failed ones.
    package static let breakerShards = 5
    /// That many workers have to be among those that failed, or all that there are.
    package static let breakerWorkers = 2

    /// Searches of a shard after which all its samples are kept as they are.
    package static let searchRounds = 3
    /// First upper bound of the wait before a retry, in milliseconds; doubles with each failure.
    package static let backoffBaseMilliseconds: Int64 = 1000
    /// Last upper bound of the wait before a retry, in milliseconds.
    package static let backoffCapMilliseconds: Int64 = 300_000

    /// Source bytes at which a shard is full, unless the job says otherwise: 30–120 s of work.
    package static let shardBytes: Int64 = 64 << 20
    /// Samples at which a shard is full.
    package static let shardSamples = 4096

    /// Largest number that a worker may report for a shard; a thousand shards of it fit an Int64.
    package static let countCeiling: Int64 = 1 << 53
    /// Life of a URL in a lease, in seconds: longer than any shard takes.
    package static let urlSeconds = 6 * 3600
    /// Bytes of an output that one signed request puts: an S3 service takes 10,000 parts, of 5 MiB to
    /// 5 GiB but for the last.
    package static let uploadPartBytes: Int64 = 64 << 20
    /// Longest path of a source or destination in bytes (PATH_MAX).
    package static let pathBytes = 4096
    /// Longest worker name in bytes.
    package static let workerNameBytes = 64
    /// Longest message, host name or version text in bytes that is kept from a request.
    package static let textBytes = 1024
    /// Most reasons why samples of a shard are not coded by the flow.
    package static let storedReasons = 32
    /// Largest request body in bytes: a completion that names every sample of a shard.
    package static let requestBytes = 16 << 20
    /// Largest answer body in bytes that a client reads.
    package static let replyBytes = 256 << 20
    /// Most events in one diagnosis.
    package static let troublesPerDiagnosis = 5
    /// Most shards in one answer.
    package static let shardsPerReply = 1000
    /// Most shards that are looked at for one answer, so that other requests need not wait for long.
    package static let shardsPerScan = 16_384
    /// Most events in one answer.
    package static let eventsPerReply = 1000
}
