import Coordinator
import Crypto
import Foundation
import JobProtocol
import S3
import TestSupport
import Testing

/// Datasets that are made in S3.
@Suite(.timeLimit(.minutes(5)))
struct BucketTests {
    private let bucket = Bucket()
    private let modelID = digest("d")

    private func client() throws -> S3Client {
        S3Client(
            try S3Configuration(
                endpoint: bucket.server.url,
                credentials: S3Credentials(accessKey: "A", secretKey: "S")
            )
        )
    }

    private func request(_ folder: String, files: Int = 1) throws -> SubmitRequest {
        for index in 0..<files {
            try write("image \(index)", to: "\(folder)/in/\(index).png")
        }
        return SubmitRequest(
            source: folder + "/in",
            destination: "s3://photos/out",
            modelID: modelID,
            shardBytes: 20
        )
    }

    private func putModel() {
        bucket["/photos/out/\(DatasetLayout.modelFile(id: modelID))"] = .init("a model")
    }

    private static func sha256(_ text: String) -> String {
        S3Signer.sha256(Array(text.utf8))
    }

    private func completion(of lease: Lease, _ content: String) -> Completion {
        Completion(
            lease: lease.lease,
            sha256: Self.sha256(content),
            bytes: Int64(content.utf8.count),
            totals: ShardTotals(
                samples: lease.samples.count,
                flowSamples: 0,
                storedSamples: lease.samples.count,
                sourceBytes: 1,
                flowDimensions: 0,
                flowBytes: 0
            ),
            problems: [],
            seconds: 0
        )
    }

    /// Leases one shard of a job whose output goes to S3.
    private func withLease(
        sampleBytes: Int64 = 10,
        _ body: (LocalCoordinator, Lease) async throws -> Void
    ) async throws {
        putModel()
        try await withTemporaryFolder { folder in
            let coordinator = try LocalCoordinator(
                folder: folder + "/state",
                s3: try client(),
                logger: silent
            )
            let job = try await coordinator.submit(try request(folder)).job
            let sample = ShardSample(name: "0.png", bytes: sampleBytes)
            try await coordinator.queue.perform(
                .appendShard(job, samples: [sample], skipped: []),
                now: at(0)
            )
            _ = try await coordinator.register(try registration("w"))
            let wish = LeaseRequest(worker: try worker("w"), shards: 1, waitSeconds: 0)
            let reply = try await coordinator.lease(wish)
            try await body(coordinator, try #require(reply.leases.first))
        }
    }

    private func path(_ lease: Lease, _ content: String) -> String {
        let name = DatasetLayout.shardFile(
            ordinal: lease.ordinal,
            sha256: Self.sha256(content)
        )
        return "/photos/out/\(name)"
    }

    @Test func aLeaseHasTheModelsURLAndItsOutputIsSigned() async throws {
        try await withLease { coordinator, lease in
            #expect(lease.modelURL?.hasPrefix(bucket.server.url + "/photos/out/model-") == true)
            #expect(lease.sampleURLs == nil)
            let wish = UploadRequest(lease: lease.lease, sha256: Self.sha256("shard"), bytes: 5)
            let upload = try await coordinator.urls(for: wish)
            let put = try #require(upload.parts.first)
            #expect(upload.parts.count == 1)
            #expect(upload.completion == nil)
            #expect(put.method == "PUT")
            #expect(put.url.contains(path(lease, "shard") + "?X-Amz-Algorithm="))
            let signed =
                "content-length%3Bhost%3Bif-none-match%3Bx-amz-checksum-sha256"
                + "%3Bx-amz-sdk-checksum-algorithm"
            #expect(put.url.contains("X-Amz-SignedHeaders=\(signed)"))
            #expect(put.headers["x-amz-checksum-sha256"] == S3Checksum.base64(wish.sha256))
            #expect(put.headers["content-length"] == "5")
            #expect(put.headers["if-none-match"] == "*")
        }
    }

    @Test func anOutputThatIsThereNeedsNoUpload() async throws {
        try await withLease { coordinator, lease in
            bucket[path(lease, "shard")] = .init("shard")
            let wish = UploadRequest(lease: lease.lease, sha256: Self.sha256("shard"), bytes: 5)
            let upload = try await coordinator.urls(for: wish)
            #expect(upload.parts.isEmpty)
            #expect(upload.completion == nil)
        }
    }

    @Test func aLongOutputIsSignedInParts() async throws {
        try await withLease(sampleBytes: 100 << 20) { coordinator, lease in
            let bytes = 2 * Limits.uploadPartBytes + 1
            let wish = UploadRequest(lease: lease.lease, sha256: digest("a"), bytes: bytes)
            let upload = try await coordinator.urls(for: wish)
            #expect(
                upload.parts.map { $0.headers["content-length"] } == ["67108864", "67108864", "1"]
            )
            #expect(upload.parts.last?.url.contains("partNumber=3&uploadId=upload-") == true)
            #expect(upload.completion?.headers == ["if-none-match": "*"])
            #expect(bucket.openUploads == 1)
        }
    }

    @Test func anOutputTooLongForItsSourceIsNotSigned() async throws {
        try await withLease { coordinator, lease in
            let wish = UploadRequest(lease: lease.lease, sha256: digest("a"), bytes: 1 << 30)
            let error = await #expect(throws: APIError.self) {
                try await coordinator.urls(for: wish)
            }
            #expect(error?.code == .bodyTooLarge)
        }
    }

    @Test func nothingIsSignedWithoutTheLease() async throws {
        try await withLease { coordinator, lease in
            let fence = Fence(incarnation: 1, counter: lease.lease.fence.counter + 1)
            let lost = LeaseID(shard: lease.lease.shard, fence: fence)
            let wish = UploadRequest(lease: lost, sha256: digest("a"), bytes: 5)
            let error = await #expect(throws: APIError.self) {
                try await coordinator.urls(for: wish)
            }
            #expect(error?.code == .fenced)
        }
    }

    @Test func onlyTheBytesThatTheWorkerSaysAreCommitted() async throws {
        try await withLease { coordinator, lease in
            let done = completion(of: lease, "shard")
            for wrong in [nil, "other", "longer"] {
                bucket[path(lease, "shard")] = wrong.map { .init($0) }
                let error = await #expect(throws: APIError.self) {
                    try await coordinator.complete(done)
                }
                #expect(error?.code == .outputMismatch, "\(wrong ?? "nothing")")
            }
            bucket[path(lease, "shard")] = .init("shard")
            let first = try await coordinator.complete(done)
            #expect(first.outcome == .committed)
            let second = try await coordinator.complete(done)
            #expect(second.outcome == .replay)
        }
    }

    @Test func aFolderBecomesADatasetInS3() async throws {
        putModel()
        try await withTemporaryFolder { folder in
            let coordinator = try LocalCoordinator(
                folder: folder + "/state",
                s3: try client(),
                logger: silent
            )
            // Of a worker that was lost.
            let lost = S3Location(bucket: "photos", key: "out/shards/00000-lost.fpk")
            _ = try client().beginUpload(of: lost)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await coordinator.run() }
                let job = try await coordinator.submit(try request(folder, files: 4)).job
                _ = try await coordinator.register(try registration("w"))
                let wish = LeaseRequest(worker: try worker("w"), shards: 1, waitSeconds: 1)
                while try await !coordinator.job(job).state.isFinal {
                    for lease in try await coordinator.lease(wish).leases {
                        let content = "shard \(lease.ordinal)"
                        bucket[path(lease, content)] = .init(content)
                        _ = try await coordinator.complete(completion(of: lease, content))
                    }
                }
                group.cancelAll()
                let status = try await coordinator.job(job)
                #expect(status.state == .completed)
                let text = try #require(bucket["/photos/out/manifest.json"]).content
                let manifest = try Wire.decode(DatasetManifest.self, from: Array(text.utf8))
                #expect(manifest.shards.map(\.sha256) == (0..<2).map { Self.sha256("shard \($0)") })
                #expect(manifest.datasetDigest == status.datasetDigest)
                #expect(bucket.openUploads == 0)
                let again = await #expect(throws: APIError.self) {
                    try await coordinator.submit(try request(folder))
                }
                #expect(again?.code == .destinationComplete)
            }
        }
    }

    @Test(arguments: [true, false])
    func aJobWithoutAModelOrAKeyIsRefused(hasKey: Bool) async throws {
        try await withTemporaryFolder { folder in
            let coordinator = try LocalCoordinator(
                folder: folder + "/state",
                s3: hasKey ? try client() : nil,
                logger: silent
            )
            let error = await #expect(throws: APIError.self) {
                try await coordinator.submit(try request(folder))
            }
            #expect(error?.code == .modelMissing)
            #expect(error?.message.contains(hasKey ? "is not there" : "has no key") == true)
        }
    }
}
