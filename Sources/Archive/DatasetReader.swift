import Foundation
package import JobProtocol

/// Opens a finished dataset folder: `manifest.json`, the model file and the shards.
package struct DatasetReader: Sendable {
    /// Largest manifest in bytes that is read: four million shards or problems.
    private static let manifestLimitBytes = 1 << 30
    /// Largest model file in bytes that is read.
    private static let modelLimitBytes = 256 << 20

    /// Path of the folder.
    package let folder: String
    package let manifest: DatasetManifest

    /// Reads and checks the manifest.
    package init(folder: String) throws(ArchiveError) {
        self.folder = folder
        let name = DatasetLayout.manifestFile
        let bytes = try Self.read(name, in: folder, limitBytes: Self.manifestLimitBytes)
        do {
            manifest = try JSONDecoder().decode(DatasetManifest.self, from: Data(bytes))
        } catch {
            throw ArchiveError(.malformed("manifest: \(error)"), in: .file(name), at: 0)
        }
        try checkManifest()
    }

    private func checkManifest() throws(ArchiveError) {
        func check(_ condition: Bool, _ what: String) throws(ArchiveError) {
            guard condition else {
                throw ArchiveError(
                    .malformed(what),
                    in: .file(DatasetLayout.manifestFile),
                    at: 0
                )
            }
        }
        guard manifest.format == DatasetManifest.currentFormat else {
            throw ArchiveError(
                .unsupportedVersion(manifest.format),
                in: .file(DatasetLayout.manifestFile),
                at: 0
            )
        }
        try check(
            manifest.modelFile == DatasetLayout.modelFile(id: manifest.modelID),
            "model file name"
        )
        var digests: [UInt8] = []
        for (number, shard) in manifest.shards.enumerated() {
            guard let digest = Digest(hex: shard.sha256) else {
                throw ArchiveError(
                    .malformed("digest of shard \(number)"),
                    in: .file(DatasetLayout.manifestFile),
                    at: 0
                )
            }
            try check(
                shard.ordinal == number
                    && shard.file
                        == DatasetLayout.shardFile(ordinal: number, sha256: shard.sha256),
                "name of shard \(number)"
            )
            digests += digest.bytes
        }
        try check(Digest(of: digests).hex == manifest.datasetDigest, "dataset digest")
    }

    /// The model file, its digest checked.
    package func model() throws(ArchiveError) -> [UInt8] {
        let bytes = try Self.read(manifest.modelFile, in: folder, limitBytes: Self.modelLimitBytes)
        guard Digest(of: bytes).hex == manifest.modelID else {
            throw ArchiveError(.digestMismatch, in: .file(manifest.modelFile), at: 0)
        }
        return bytes
    }

    /// Opens a shard, its length and model checked, its payloads unread.
    ///
    /// The file's SHA-256 is not compared with the manifest's: samples in undamaged blocks of a
    /// damaged file can still be read.
    ///
    /// - Parameter number: The shard's ordinal.
    /// - Returns: The open shard.
    /// - Throws: What is wrong with the file, and where.
    package func shard(_ number: Int) throws(ArchiveError) -> ShardReader {
        let shard = manifest.shards[number]
        let source = try ShardSource(path: "\(folder)/\(shard.file)", name: shard.file)
        guard source.count == shard.bytes else {
            throw ArchiveError(.truncated, in: .file(shard.file), at: source.count)
        }
        let reader = try ShardReader(source)
        guard reader.modelID.hex == manifest.modelID else {
            throw ArchiveError(.otherModel(reader.modelID), in: .file(shard.file), at: 8)
        }
        guard reader.samples.count == shard.samples else {
            throw ArchiveError(.malformed("number of samples"), in: .file(shard.file), at: 0)
        }
        return reader
    }

    /// A whole file of the folder, refused above a limit before it is read.
    private static func read(
        _ name: String,
        in folder: String,
        limitBytes: Int
    ) throws(ArchiveError) -> [UInt8] {
        do {
            let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: "\(folder)/\(name)"))
            defer { try? file.close() }
            let size = try file.seekToEnd()
            guard size <= limitBytes else {
                throw ArchiveError(
                    .malformed("length: \(size) bytes, at most \(limitBytes) expected"),
                    in: .file(name),
                    at: 0
                )
            }
            try file.seek(toOffset: 0)
            return Array(try file.readToEnd() ?? Data())
        } catch let error as ArchiveError {
            throw error
        } catch {
            throw ArchiveError(
                .unreadable(error.localizedDescription),
                in: .file(name),
                at: 0
            )
        }
    }
}
