import Dataset
package import JobProtocol

/// The bytes of a job through its coordinator, for a machine that does not see the job's folders.
package struct CoordinatorPlane: DataPlane {
    private let lease: Lease
    private let api: any BlobAPI
    private let samples: SampleStream

    package init(_ lease: Lease, api: any BlobAPI) {
        self.lease = lease
        self.api = api
        samples = SampleStream(lease, api)
    }

    package var modelPath: String { "the coordinator's model \(lease.modelID.prefix(16))" }

    package func model() async throws(ModelStoreError) -> [UInt8] {
        do {
            return try await api.blob(lease.modelID, for: lease.lease)
        } catch {
            throw ModelStoreError(
                reason: error.code == .modelMissing ? .notFound : .unreadable,
                message: error.message
            )
        }
    }

    /// The coordinator checks it before it hands out samples.
    package func checkSource() {}

    package func read(_ index: Int) async throws(DataPlaneError) -> [UInt8] {
        switch try await samples.sample(index) {
        case .file(let bytes): return bytes
        case .failure(let failure):
            // As if it had been met here.
            throw DataPlaneError(SourceError(path: failure.path, code: failure.code))
        }
    }

    package func place(_ shard: [UInt8], sha256: String) async throws(DataPlaneError) {
        do {
            try await api.put(shard, sha256: sha256, for: lease.lease)
        } catch {
            throw DataPlaneError(error)
        }
    }
}

extension DataPlaneError {
    init(_ error: APIError) {
        switch error.code {
        case .fenced, .cancelled: self.init(.lost, error.message)
        default: self.init(.way, error.message)
        }
    }
}

/// The samples of a lease, fetched in batches before they are asked for.
private actor SampleStream {
    private let lease: Lease
    private let api: any BlobAPI
    /// Samples that came and were not asked for yet, by number.
    private var waiting: [Int: SampleFrame] = [:]
    /// Samples that came.
    private var count = 0
    /// Samples of the last batch.
    private var batch = 0
    private var failure: APIError?
    private var fetch: Task<Void, Never>?

    init(_ lease: Lease, _ api: any BlobAPI) {
        self.lease = lease
        self.api = api
    }

    deinit {
        fetch?.cancel()
    }

    func sample(_ index: Int) async throws(DataPlaneError) -> SampleFrame {
        while true {
            let frame = waiting.removeValue(forKey: index)
            // Half a batch before the end at the latest, so that nobody has to wait for the next.
            let isDue = frame == nil || waiting.count <= batch / 2
            if isDue, fetch == nil, failure == nil, count < lease.samples.count { fetchBatch() }
            if let frame { return frame }
            if let failure { throw DataPlaneError(failure) }
            guard let fetch else { preconditionFailure("a sample is asked for once") }
            await withTaskCancellationHandler {
                await fetch.value
            } onCancel: {
                fetch.cancel()
            }
        }
    }

    private func fetchBatch() {
        fetch = Task { [weak self, api, lease, count] in
            do throws(APIError) {
                await self?.take(.success(try await api.samples(of: lease.lease, from: count)))
            } catch {
                await self?.take(.failure(error))
            }
        }
    }

    private func take(_ result: Result<[SampleFrame], APIError>) {
        fetch = nil
        switch result {
        case .success(let frames):
            batch = frames.count
            for frame in frames {
                waiting[count] = frame
                count += 1
            }
        case .failure(let error):
            failure = error
        }
    }
}
