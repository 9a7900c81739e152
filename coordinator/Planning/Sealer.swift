import Crypto
import Foundation
import JobProtocol

/// Writes the manifest that makes a dataset of a destination's shards.
enum Sealer {
    /// Writes `manifest.json` and removes what interrupted workers left behind.
    ///
    /// - Returns: The dataset's digest.
    /// - Throws: The destination's error; then there is no manifest, or the old one.
    static func seal(
        _ job: JobRecord,
        in destination: Destination,
        shards: [ShardRecord],
        problems: [SampleProblem]
    ) throws(DestinationError) -> String {
        try destination.removeLeftovers()
        let manifest = manifest(of: job, shards: shards, problems: problems)
        try destination.replace(
            DatasetLayout.manifestFile,
            with: Wire.encode(manifest, isPretty: true) + [UInt8(ascii: "\n")]
        )
        return manifest.datasetDigest
    }

    static func manifest(
        of job: JobRecord,
        shards: [ShardRecord],
        problems: [SampleProblem]
    ) -> DatasetManifest {
        var digest = SHA256()
        var content = ShardTotals.zero
        var outputBytes: Int64 = 0
        let entries = shards.enumerated().map { index, shard in
            guard shard.ordinal == index, let output = shard.output else {
                preconditionFailure("a job that is sealed has every shard committed")
            }
            digest.update(data: bytes(hexadecimal: output.sha256))
            content += output.totals
            outputBytes += output.bytes
            return DatasetManifest.Shard(
                ordinal: shard.ordinal,
                file: DatasetLayout.shardFile(ordinal: shard.ordinal, sha256: output.sha256),
                sha256: output.sha256,
                bytes: output.bytes,
                samples: shard.samples
            )
        }
        return DatasetManifest(
            modelID: job.modelID,
            datasetDigest: hexadecimal(digest.finalize()),
            shards: entries,
            totals: DatasetManifest.Totals(content: content, outputBytes: outputBytes),
            problems: problems
        )
    }
}
