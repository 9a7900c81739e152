import Dataset
internal import Glibc
package import JobProtocol

/// The folders of a job, under the same paths on every machine.
package struct FolderPlane: DataPlane {
    private let lease: Lease
    private let source: SourceFolder

    package init(_ lease: Lease) {
        self.lease = lease
        source = SourceFolder(path: lease.source)
    }

    package var modelPath: String {
        "\(lease.destination)/\(DatasetLayout.modelFile(id: lease.modelID))"
    }

    /// Whether the job's folders are here: the source, and the model in the destination, if these are
    /// folders.
    package var isVisible: Bool {
        (lease.sampleURLs != nil || access(lease.source, R_OK | X_OK) == 0)
            && (lease.modelURL != nil || access(modelPath, R_OK) == 0)
    }

    package func model() throws(ModelStoreError) -> [UInt8] {
        try ModelStore.read(modelPath)
    }

    package func checkSource() throws(DataPlaneError) {
        var scan = source.entries()
        let first: SourceEntry?
        do {
            first = try scan.next()
        } catch {
            throw DataPlaneError(.way, "The source is not readable on this machine: \(error).")
        }
        guard first != nil || lease.samples.isEmpty else {
            throw DataPlaneError(
                .way,
                "The source \(lease.source) is empty on this machine; is it mounted?"
            )
        }
    }

    package func read(_ index: Int) throws(DataPlaneError) -> [UInt8] {
        do {
            return try source.read(lease.samples[index].name)
        } catch {
            throw DataPlaneError(error)
        }
    }

    package func place(_ shard: [UInt8], sha256: String) throws(DataPlaneError) {
        let path = DatasetLayout.shardFile(ordinal: lease.ordinal, sha256: sha256)
        let name = String(path.dropFirst(DatasetLayout.shardFolder.count + 1))
        let folder = "\(lease.destination)/\(DatasetLayout.shardFolder)"
        do {
            try OutputFolder.makeFolders(folder)
            // A file of this name has this content, or the coordinator's check refuses it.
            _ = try placeFile(shard, name: name, in: folder)
        } catch {
            throw DataPlaneError(error.isNoSpace ? .noSpace : .way, "\(error)")
        }
    }
}

extension DataPlaneError {
    init(_ error: SourceError) {
        self.init(.sample(isPermanent: error.isPermanent), "cannot read \(error)")
    }
}
