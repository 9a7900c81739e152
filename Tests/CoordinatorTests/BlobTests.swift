import Coordinator
import Crypto
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import JobProtocol
import Testing

/// Bytes through the coordinator, without sockets.
struct BlobTests {
    /// A shard that a worker holds, on a coordinator behind HTTP.
    private struct Setting {
        let client: any TestClientProtocol
        let lease: Lease
        let folder: String

        func send(
            _ route: Route,
            _ parameter: any LosslessStringConvertible,
            query: String? = nil,
            headers: HTTPFields = [:],
            body: [UInt8] = []
        ) async throws -> TestResponse {
            try await client.execute(
                uri: route.path(parameter) + "?" + (query ?? "lease=\(lease.lease)"),
                method: route.method.request,
                headers: headers,
                body: ByteBuffer(bytes: body)
            )
        }

        func upload(
            _ bytes: ArraySlice<UInt8>,
            of total: Int,
            _ sha256: String
        ) async throws -> TestResponse {
            let range = Int64(bytes.startIndex)..<Int64(bytes.endIndex)
            return try await send(
                .upload,
                sha256,
                headers: [.contentRange: ContentRange(range, of: Int64(total)).description],
                body: Array(bytes)
            )
        }

        func code(_ response: TestResponse) throws -> Problem.Code {
            try Wire.decode(Problem.self, from: Array(response.body.readableBytesView)).code
        }

        func frames(from index: Int) async throws -> [SampleFrame] {
            let response = try await send(.samples, lease.lease, query: "from=\(index)")
            #expect(response.status == .ok)
            return try SampleFrame.decode(Array(response.body.readableBytesView))
        }
    }

    private static let files = ["a.png": "first", "b/c.png": "", "d.png": "third"]

    private func withLease(_ body: @Sendable (Setting) async throws -> Void) async throws {
        try await withTemporaryFolder { folder in
            for (name, text) in Self.files {
                try write(text, to: "\(folder)/in/\(name)")
            }
            let model = digest("d")
            try write("a model", to: "\(folder)/out/\(DatasetLayout.modelFile(id: model))")
            let coordinator = try LocalCoordinator(folder: folder + "/state", logger: silent)
            let request = SubmitRequest(
                source: folder + "/in",
                destination: folder + "/out",
                modelID: model
            )
            let job = try await coordinator.submit(request).job
            let planned = ["a.png", "b/c.png", "d.png"].map { ShardSample(name: $0, bytes: 5) }
            let queue = coordinator.queue
            try await queue.perform(.appendShard(job, samples: planned, skipped: []), now: at(0))
            try await queue.perform(.register(try registration("w")), now: at(0))
            let id = try #require(try await queue.lease("w", 1, now: at(0)).first)
            let lease = try #require(try await queue.describe([id]).first)
            try await coordinator.withClient { client in
                try await body(Setting(client: client, lease: lease, folder: folder))
            }
        }
    }

    private func sha256(_ bytes: [UInt8]) -> String {
        SHA256.hash(data: bytes).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }
            .joined()
    }

    private func shard(_ setting: Setting) throws -> [String] {
        let path = setting.folder + "/out/shards"
        guard FileManager.default.fileExists(atPath: path) else { return [] }
        return try FileManager.default.contentsOfDirectory(atPath: path)
    }

    // MARK: Reading

    @Test func samplesComeInTheirOrder() async throws {
        try await withLease { setting in
            let all = ["first", "", "third"].map { SampleFrame.file(Array($0.utf8)) }
            let found = try await setting.frames(from: 0)
            let last = try await setting.frames(from: 2)
            #expect(found == all)
            #expect(last == [all[2]])
        }
    }

    @Test func anUnreadableSampleIsNamedWithItsError() async throws {
        try await withLease { setting in
            try FileManager.default.removeItem(atPath: setting.folder + "/in/a.png")
            let path = setting.folder + "/in/a.png"
            let frames = try await setting.frames(from: 0)
            #expect(frames.first == .failure(SampleFrame.Failure(path: path, code: ENOENT)))
            #expect(frames.count == 3)
        }
    }

    @Test func aSourceThatIsNotMountedIsNoDatasetOfMissingFiles() async throws {
        try await withLease { setting in
            for name in ["a.png", "b", "d.png"] {
                try FileManager.default.removeItem(atPath: setting.folder + "/in/" + name)
            }
            let response = try await setting.send(.samples, setting.lease.lease, query: "from=0")
            #expect(try setting.code(response) == .unavailable)
        }
    }

    @Test(arguments: ["from=3", "from=-1", "from=x", "from=99999999999999999999"])
    func aSampleThatIsNotInTheLeaseIsRefused(query: String) async throws {
        try await withLease { setting in
            let response = try await setting.send(.samples, setting.lease.lease, query: query)
            #expect(response.status == .badRequest)
        }
    }

    @Test func theModelComesWholeOrInParts() async throws {
        try await withLease { setting in
            let whole = try await setting.send(.blob, setting.lease.modelID)
            #expect(whole.status == .ok)
            #expect(String(buffer: whole.body) == "a model")
            let part = try await setting.send(
                .blob,
                setting.lease.modelID,
                headers: [.range: "bytes=2-4"]
            )
            #expect(part.status == .partialContent)
            #expect(String(buffer: part.body) == "mod")
            #expect(part.headers[.contentRange] == "bytes 2-4/7")
        }
    }

    @Test func aRangeOutsideOfTheModelIsRefusedWithItsSize() async throws {
        try await withLease { setting in
            let response = try await setting.send(
                .blob,
                setting.lease.modelID,
                headers: [.range: "bytes=7-"]
            )
            #expect(response.status == .rangeNotSatisfiable)
            #expect(try setting.code(response) == .rangeNotSatisfiable)
            #expect(response.headers[.contentRange] == "bytes */7")
        }
    }

    @Test func nothingButTheModelIsHandedOut() async throws {
        try await withLease { setting in
            for name in [digest("a"), "..%2F..%2Fin%2Fa.png", "state.db"] {
                let response = try await setting.client.execute(
                    uri: "/v1/blobs/\(name)?lease=\(setting.lease.lease)",
                    method: .get
                )
                #expect(response.status == .notFound, "\(name)")
            }
        }
    }

    // MARK: Fences

    @Test(arguments: ["1.1.2", "1.2.1", "2.1.1", "1.1.0"])
    func aForgedFenceOpensNothing(text: String) async throws {
        try await withLease { setting in
            let forged = try #require(LeaseID(text))
            let bytes = Array("anything".utf8)
            let query = "lease=\(forged)"
            let answers = [
                try await setting.send(.samples, forged, query: "from=0"),
                try await setting.send(.blob, setting.lease.modelID, query: query),
                try await setting.send(
                    .upload,
                    sha256(bytes),
                    query: query,
                    headers: [.contentRange: "bytes 0-7/8"],
                    body: bytes
                ),
            ]
            for answer in answers {
                #expect(try setting.code(answer) == .fenced)
            }
            #expect(try shard(setting) == [])
        }
    }

    @Test(arguments: ["", "lease=", "lease=1", "lease=../..", "shard=1.1.1"])
    func aRequestForABlobNamesItsLease(query: String) async throws {
        try await withLease { setting in
            let response = try await setting.send(.blob, setting.lease.modelID, query: query)
            #expect(response.status == .badRequest)
        }
    }

    // MARK: Writing

    @Test func anUploadIsPlacedUnderItsDigest() async throws {
        try await withLease { setting in
            let bytes = Array("a shard".utf8)
            let response = try await setting.upload(bytes[...], of: 7, sha256(bytes))
            #expect(response.status == .ok)
            #expect(response.headers[try #require(.init(BlobHeader.isComplete))] == "?1")
            #expect(try shard(setting) == ["00000-\(sha256(bytes)).fpk"])
            // A lost answer: the same again.
            #expect(try await setting.upload(bytes[...], of: 7, sha256(bytes)).status == .ok)
        }
    }

    @Test func anUploadGoesOnWhereItBroke() async throws {
        try await withLease { setting in
            let bytes = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
            let name = sha256(bytes)
            let offset = try #require(HTTPField.Name(BlobHeader.offset))
            let half = try await setting.upload(bytes[..<1_500_000], of: bytes.count, name)
            #expect(half.headers[offset] == "1500000")
            let state = try await setting.send(.blobState, name)
            #expect(state.headers[offset] == "1500000")
            #expect(state.headers[try #require(.init(BlobHeader.isComplete))] == "?0")
            // A gap is refused, an overlap is not.
            let gap = try await setting.upload(bytes[1_500_001...], of: bytes.count, name)
            #expect(gap.status == .badRequest)

            let rest = try await setting.upload(bytes[1_000_000...], of: bytes.count, name)

            #expect(rest.headers[offset] == "3000000")
            let path = "\(setting.folder)/out/shards/00000-\(name).fpk"
            #expect(try [UInt8](Data(contentsOf: URL(filePath: path))) == bytes)
        }
    }

    @Test func bytesWithAnotherDigestAreRefusedAndForgotten() async throws {
        try await withLease { setting in
            let bytes = Array("a shard".utf8)
            let wrong = try await setting.upload(Array("another".utf8)[...], of: 7, sha256(bytes))
            #expect(try setting.code(wrong) == .outputMismatch)
            #expect(try shard(setting) == [])
            #expect(try await setting.upload(bytes[...], of: 7, sha256(bytes)).status == .ok)
        }
    }

    @Test func moreThanAShardCanHaveIsRefused() async throws {
        try await withLease { setting in
            // 16 MiB and twice the source's.
            let limit = 16 << 20 + 2 * 15
            let refused = try await setting.upload([1, 2], of: limit + 1, digest("a"))
            #expect(refused.status == .contentTooLarge)
            #expect(try shard(setting) == [])
            #expect(try await setting.upload([1, 2], of: limit, digest("a")).status == .ok)
        }
    }

    @Test func aBodyLongerThanItsRangeIsRefused() async throws {
        try await withLease { setting in
            let response = try await setting.send(
                .upload,
                digest("a"),
                headers: [.contentRange: "bytes 0-1/7"],
                body: Array("a shard".utf8)
            )
            #expect(response.status == .badRequest)
            #expect(try shard(setting).allSatisfy { $0.hasPrefix(DatasetLayout.partialPrefix) })
        }
    }

    @Test(arguments: ["x", "..", digest("A"), digest("a") + "0"])
    func aNameThatIsNoDigestIsRefused(name: String) async throws {
        try await withLease { setting in
            let response = try await setting.upload([1], of: 1, name)
            #expect(response.status == .badRequest || response.status == .notFound)
            #expect(try shard(setting) == [])
        }
    }
}
