import Archive
import Foundation
import JobProtocol
import TestSupport
import Testing

@Suite struct DatasetReaderTests {
    /// A dataset folder of one shard, removed at the end.
    private final class Folder {
        let path = FileManager.default.temporaryDirectory
            .appending(path: "flowpack-\(UUID().uuidString)").path
        var manifest: DatasetManifest

        init(_ shard: ShardEncoder.Shard, model: [UInt8]) throws {
            let id = Digest(of: model).hex
            let file = DatasetLayout.shardFile(ordinal: 0, sha256: shard.sha256.hex)
            manifest = DatasetManifest(
                modelID: id,
                datasetDigest: Digest(of: shard.sha256.bytes).hex,
                shards: [
                    DatasetManifest.Shard(
                        ordinal: 0,
                        file: file,
                        sha256: shard.sha256.hex,
                        bytes: Int64(shard.bytes.count),
                        samples: shard.summary.samples
                    )
                ],
                totals: DatasetManifest.Totals(content: .zero, outputBytes: 0),
                problems: []
            )
            try FileManager.default.createDirectory(
                atPath: "\(path)/\(DatasetLayout.shardFolder)",
                withIntermediateDirectories: true
            )
            try write(shard.bytes, file)
            try write(model, manifest.modelFile)
            try writeManifest()
        }

        deinit {
            try? FileManager.default.removeItem(atPath: path)
        }

        func write(_ bytes: [UInt8], _ name: String) throws {
            try Data(bytes).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
        }

        func writeManifest() throws {
            try write(Array(JSONEncoder().encode(manifest)), DatasetLayout.manifestFile)
        }
    }

    private func makeFolder() async throws -> (folder: Folder, shard: ShardEncoder.Shard) {
        let model = try Fixtures.bytes("vectors/tiny-lifting.model.safetensors")
        let shard = try await encode(
            [try .ppm("a.ppm", smooth(width: 16, height: 16, seed: 1)), .side("b", [1])],
            codec: fixtureCodec()
        )
        return (try Folder(shard, model: model), shard)
    }

    @Test func opensModelAndShards() async throws {
        let (folder, shard) = try await makeFolder()
        let dataset = try DatasetReader(folder: folder.path)
        #expect(try Digest(of: dataset.model()).hex == dataset.manifest.modelID)
        let reader = try dataset.shard(0)
        #expect(try reader.checkDigest().hex == dataset.manifest.shards[0].sha256)
        #expect(reader.samples == (try ShardReader(shard.bytes).samples))
    }

    @Test func aFolderWithoutAManifestIsNamed() {
        let error = #expect(throws: ArchiveError.self) { try DatasetReader(folder: "/nowhere") }
        #expect(error?.section == .file("manifest.json"))
    }

    @Test func aChangedShardIsFound() async throws {
        let (folder, shard) = try await makeFolder()
        let file = folder.manifest.shards[0].file
        var bytes = shard.bytes
        bytes[100] ^= 1
        try folder.write(bytes, file)
        let dataset = try DatasetReader(folder: folder.path)
        #expect(throws: ArchiveError.self) { try dataset.shard(0).checkDigest() }
        try folder.write(Array(bytes.dropLast()), file)
        #expect(throws: ArchiveError(.truncated, in: .file(file), at: bytes.count - 1)) {
            try dataset.shard(0)
        }
        try folder.write(bytes + [0], file)
        #expect(throws: ArchiveError.self) { try dataset.shard(0) }
    }

    @Test func aShardCutShortWhileItIsOpenIsAnError() async throws {
        let (folder, shard) = try await makeFolder()
        let dataset = try DatasetReader(folder: folder.path)
        let reader = try dataset.shard(0)
        let length = 120
        #expect(truncate("\(folder.path)/\(folder.manifest.shards[0].file)", length) == 0)
        #expect(reader.byteCount == shard.bytes.count)
        let error = #expect(throws: ArchiveError.self) { try reader.payload(ofBlock: 0) }
        #expect(error == ArchiveError(.truncated, in: .block(0), at: length))
        #expect(throws: ArchiveError(.truncated, in: .footer, at: length)) {
            try reader.checkDigest()
        }
    }

    @Test func aShardThatIsNotThereIsNamed() {
        let error = #expect(throws: ArchiveError.self) {
            try ShardReader(path: "/nowhere", name: "shard")
        }
        #expect(error?.section == .file("shard"))
        #expect(throws: ArchiveError(.unreadable("not a regular file"), in: .file("x"), at: 0)) {
            try ShardReader(path: "/tmp", name: "x")
        }
    }

    @Test func aChangedModelIsFound() async throws {
        let (folder, _) = try await makeFolder()
        try folder.write([1, 2, 3], folder.manifest.modelFile)
        let dataset = try DatasetReader(folder: folder.path)
        #expect(throws: ArchiveError(.digestMismatch, in: .file(folder.manifest.modelFile), at: 0))
        {
            try dataset.model()
        }
    }

    @Test(arguments: 0..<6)
    func aManifestThatContradictsItselfIsRefused(change: Int) async throws {
        let (folder, _) = try await makeFolder()
        switch change {
        case 0: folder.manifest.format = 2
        case 1: folder.manifest.modelFile = "../model.safetensors"
        case 2: folder.manifest.shards[0].file = "../shard.fpk"
        case 3: folder.manifest.shards[0].ordinal = 1
        case 4: folder.manifest.shards[0].sha256 = "x"
        default: folder.manifest.datasetDigest = Digest(of: []).hex
        }
        try folder.writeManifest()
        #expect(throws: ArchiveError.self) { try DatasetReader(folder: folder.path) }
    }

    @Test func digestsAreReadFromHexadecimalDigits() {
        let digest = Digest(of: Array("abc".utf8))
        // FIPS 180-2, appendix B.1.
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        #expect(digest.hex == hex)
        #expect(Digest(hex: hex) == digest)
        #expect(Digest(hex: hex.uppercased()) == digest)
        #expect(Digest(hex: String(hex.dropLast())) == nil)
        #expect(Digest(hex: hex.dropLast() + "g") == nil)
        #expect(Digest(hex: hex + "ä") == nil)
    }
}
