package import HTTPTransport
package import JobProtocol
import Synchronization

/// Samples by URLs that came with the lease, such as those of a bucket; the rest by another way.
package struct SampleURLPlane: DataPlane {
    private let lease: Lease
    private let urls: [String]
    private let rest: any DataPlane
    private let downloads: Downloads

    /// - Parameters:
    ///   - lease: The lease.
    ///   - urls: Those of its samples.
    ///   - rest: The way to the model and to the dataset.
    ///   - http: Keeps the connections.
    package init(_ lease: Lease, urls: [String], rest: any DataPlane, http: HTTPClient) {
        self.lease = lease
        self.urls = urls
        self.rest = rest
        downloads = Downloads(urls, http)
    }

    package var modelPath: String { rest.modelPath }

    package func model() async throws(ModelStoreError) -> [UInt8] {
        try await rest.model()
    }

    /// A URL of a source that is not there is an error of the source's, sample by sample.
    package func checkSource() {}

    package func read(_ index: Int) async throws(DataPlaneError) -> [UInt8] {
        let place = "\(lease.source)/\(lease.samples[index].name)"
        let response: HTTPResponse
        do {
            response = try await downloads.response(index).get()
        } catch {
            throw DataPlaneError(.way, "cannot read \(place): \(error.detail)")
        }
        switch response.status {
        case 200: return response.body
        case 404:
            throw DataPlaneError(.sample(isPermanent: true), "cannot read \(place): it is gone")
        case 412:
            throw DataPlaneError(
                .sample(isPermanent: false),
                "cannot read \(place): it was changed while it was read"
            )
        default:
            // Not the URL: whoever has it may read.
            throw DataPlaneError(.way, "cannot read \(place): HTTP status \(response.status)")
        }
    }

    package func place(_ shard: [UInt8], sha256: String) async throws(DataPlaneError) {
        try await rest.place(shard, sha256: sha256)
    }
}

/// Fetches URLs, some ahead of those that are asked for: each takes long to begin.
private actor Downloads {
    typealias Result = Swift.Result<HTTPResponse, TransportError>

    /// URLs that are fetched at a time.
    private static let width = 16

    private let urls: [String]
    private let http: HTTPClient
    private var tasks: [Int: Task<Result, Never>] = [:]
    private var next = 0

    init(_ urls: [String], _ http: HTTPClient) {
        self.urls = urls
        self.http = http
    }

    deinit {
        for task in tasks.values { task.cancel() }
    }

    /// Returns the answer of a URL; asked for once each, about in order.
    func response(_ index: Int) async -> Result {
        while next < urls.count, next <= index || next < index + Self.width {
            let url = urls[next]
            tasks[next] = Task { [http] in await SignedTransfer.fetch(url, http) }
            next += 1
        }
        guard let task = tasks.removeValue(forKey: index) else {
            preconditionFailure("a sample is asked for once")
        }
        return await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }
    }
}
