/// `manifest.json` of a finished dataset: what it consists of.
package struct DatasetManifest: Equatable, Codable, Sendable {
    /// The version that this program writes and reads.
    package static let currentFormat = 1

    package var format: Int
    /// SHA-256 of the model file, 64 lower-case hexadecimal digits.
    package var modelID: String
    /// Name of the model file in the dataset folder.
    package var modelFile: String
    /// SHA-256 over the 32-byte digests of all shards in order, in hexadecimal digits.
    package var datasetDigest: String
    /// The shards in order; ordinals count from 0 without a gap.
    package var shards: [Shard]
    package var totals: Totals
    /// Samples that had a problem, sorted by name.
    package var problems: [SampleProblem]

    package struct Shard: Equatable, Codable, Sendable {
        package var ordinal: Int
        /// Path relative to the dataset folder.
        package var file: String
        /// SHA-256 of the file, 64 lower-case hexadecimal digits.
        package var sha256: String
        package var bytes: Int64
        package var samples: Int

        package init(ordinal: Int, file: String, sha256: String, bytes: Int64, samples: Int) {
            self.ordinal = ordinal
            self.file = file
            self.sha256 = sha256
            self.bytes = bytes
            self.samples = samples
        }
    }

    package struct Totals: Equatable, Codable, Sendable {
        /// Sum of the shards' contents.
        package var content: ShardTotals
        /// Bytes of all shard files.
        package var outputBytes: Int64

        package init(content: ShardTotals, outputBytes: Int64) {
            self.content = content
            self.outputBytes = outputBytes
        }
    }

    package init(
        modelID: String,
        datasetDigest: String,
        shards: [Shard],
        totals: Totals,
        problems: [SampleProblem]
    ) {
        self.format = Self.currentFormat
        self.modelID = modelID
        self.modelFile = DatasetLayout.modelFile(id: modelID)
        self.datasetDigest = datasetDigest
        self.shards = shards
        self.totals = totals
        self.problems = problems
    }
}

/// Where things lie in a dataset folder.
package enum DatasetLayout {
    package static let manifestFile = "manifest.json"
    package static let shardFolder = "shards"
    /// How the names of unfinished files begin; they are removed when the dataset is sealed.
    package static let partialPrefix = ".partial-"

    /// Returns the model file's name from the model's id (64 hexadecimal digits).
    package static func modelFile(id: String) -> String {
        "model-\(id.prefix(16)).safetensors"
    }

    /// Returns a shard file's path relative to the dataset folder: it contains the digest, so it
    /// is written once and never changed.
    package static func shardFile(ordinal: Int, sha256: String) -> String {
        let digits = String(ordinal)
        let padding = String(repeating: "0", count: max(0, 5 - digits.count))
        return "\(shardFolder)/\(padding)\(digits)-\(sha256).fpk"
    }
}
