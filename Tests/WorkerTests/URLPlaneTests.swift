import HTTPTransport
import JobProtocol
import Synchronization
import TestSupport
import Testing
import Worker

/// A coordinator that signs as the test says, and nothing else.
private final class FakeSigner: BlobAPI {
    private let reply: UploadReply
    let requests = Mutex<[UploadRequest]>([])

    init(_ reply: UploadReply) {
        self.reply = reply
    }

    func urls(for upload: UploadRequest) throws(APIError) -> UploadReply {
        requests.withLock { $0.append(upload) }
        return reply
    }

    private var unused: APIError { .unintelligible("not part of this test") }

    func samples(of lease: LeaseID, from index: Int) throws(APIError) -> [SampleFrame] {
        throw unused
    }
    func blob(_ sha256: String, for lease: LeaseID) throws(APIError) -> [UInt8] { throw unused }
    func put(_ bytes: [UInt8], sha256: String, for lease: LeaseID) throws(APIError) {
        throw unused
    }
}

/// Samples, models and outputs by URLs.
@Suite(.timeLimit(.minutes(5)))
struct URLPlaneTests {
    private let lease = Lease(
        lease: leaseID(1),
        job: JobID(rawValue: 1),
        ordinal: 0,
        source: "s3://photos/in",
        destination: "s3://photos/out",
        modelID: String(repeating: "d", count: 64),
        samples: [ShardSample(name: "a.png", bytes: 10)],
        leaseSeconds: 60
    )

    // MARK: Samples

    private func read(_ server: SocketServer) async throws -> String {
        let plane = SampleURLPlane(
            lease,
            urls: ["\(server.url)/a.png?signed"],
            rest: FolderPlane(lease),
            http: HTTPClient()
        )
        return String(decoding: try await plane.read(0), as: UTF8.self)
    }

    /// An answer that ends before its length.
    private static func broken(_ head: String, _ body: String, length: Int) -> SocketServer.Reply {
        .raw("HTTP/1.1 \(head)\r\nContent-Length: \(length)\r\n\r\n\(body)")
    }

    @Test func aBrokenTransferGoesOnWhereItWas() async throws {
        let server = SocketServer { _, index in
            switch index {
            case 0: Self.broken("200 OK\r\nETag: \"1\"", "0123", length: 10)
            case 1: Self.broken("206 Part\r\nContent-Range: bytes 4-9/10", "45", length: 6)
            default:
                .response(status: 206, headers: ["Content-Range": "bytes 6-9/10"], body: "6789")
            }
        }
        #expect(try await read(server) == "0123456789")
        #expect(server.requests.map { $0.headers["range"] } == [nil, "bytes=4-", "bytes=6-"])
        #expect(server.requests.map { $0.headers["if-match"] } == [nil, "\"1\"", "\"1\""])
    }

    @Test func withoutAVersionATransferBeginsAnew() async throws {
        let server = SocketServer { _, index in
            index == 0
                ? Self.broken("200 OK", "0123", length: 10)
                : .response(status: 200, body: "abcdefghij")
        }
        #expect(try await read(server) == "abcdefghij")
        #expect(server.requests.last?.headers["range"] == nil)
    }

    @Test func aServerThatKnowsNoRangesSendsItAllAgain() async throws {
        let server = SocketServer { _, index in
            index == 0
                ? Self.broken("200 OK\r\nETag: \"1\"", "0123", length: 10)
                : .response(status: 200, headers: ["ETag": "\"1\""], body: "0123456789")
        }
        #expect(try await read(server) == "0123456789")
    }

    @Test func anObjectThatWasChangedMeanwhileIsNamed() async throws {
        let server = SocketServer { _, index in
            index == 0
                ? Self.broken("200 OK\r\nETag: \"1\"", "0123", length: 10)
                : .response(status: 412)
        }
        let error = await #expect(throws: DataPlaneError.self) { try await read(server) }
        #expect(error?.reason == .sample(isPermanent: false))
        #expect(error?.message.contains("s3://photos/in/a.png: it was changed") == true)
    }

    // MARK: Models and outputs

    private func plane(_ bucket: Bucket, _ signer: FakeSigner) -> DatasetURLPlane {
        DatasetURLPlane(
            lease,
            modelURL: "\(bucket.server.url)/photos/out/model",
            rest: FolderPlane(lease),
            api: signer,
            http: HTTPClient()
        )
    }

    private func request(
        _ bucket: Bucket,
        _ query: String = "",
        method: String = "PUT",
        headers: [String: String] = ["if-none-match": "*"]
    ) -> SignedRequest {
        SignedRequest(
            method: method,
            url: "\(bucket.server.url)/photos/out/shard\(query)",
            headers: headers
        )
    }

    private func place(_ content: String, _ bucket: Bucket, _ signer: FakeSigner) async throws {
        let sha256 = String(repeating: "a", count: 64)
        try await plane(bucket, signer).place(Array(content.utf8), sha256: sha256)
        let expected = UploadRequest(
            lease: lease.lease,
            sha256: sha256,
            bytes: Int64(content.utf8.count)
        )
        #expect(signer.requests.withLock(\.self) == [expected])
    }

    @Test func theModelComesByItsURL() async throws {
        let bucket = Bucket()
        let plane = plane(bucket, FakeSigner(UploadReply(parts: [], partBytes: 1)))
        let error = await #expect(throws: ModelStoreError.self) { try await plane.model() }
        #expect(error?.reason == .notFound)
        bucket["/photos/out/model"] = .init("a model")
        #expect(try await plane.model() == Array("a model".utf8))
    }

    @Test func anOutputIsPutAsTheCoordinatorSigned() async throws {
        let bucket = Bucket()
        let headers = ["if-none-match": "*", "x-amz-checksum-sha256": "c"]
        let signed = request(bucket, headers: headers)
        try await place("shard", bucket, FakeSigner(UploadReply(parts: [signed], partBytes: 99)))
        #expect(bucket["/photos/out/shard"] == .init("shard", checksum: "c"))
    }

    /// As when the answer to the first try was lost; the coordinator compares the digest.
    @Test func whatIsThereIsLeftAlone() async throws {
        let bucket = Bucket()
        bucket["/photos/out/shard"] = .init("other")
        let signed = request(bucket)
        try await place("shard", bucket, FakeSigner(UploadReply(parts: [signed], partBytes: 99)))
        #expect(bucket["/photos/out/shard"] == .init("other"))
        let nothing = FakeSigner(UploadReply(parts: [], partBytes: 99))
        try await place("shard", bucket, nothing)
        #expect(bucket.server.requests.count == 1)
    }

    @Test func aLongOutputIsPutInParts() async throws {
        let bucket = Bucket()
        // Begins the upload, as the coordinator does.
        _ = try await HTTPClient().send(
            HTTPRequest(method: "POST", url: request(bucket, "?uploads").url, body: [])
        )
        let upload = UploadReply(
            parts: (1...3).map {
                request(bucket, "?partNumber=\($0)&uploadId=upload-0", headers: [:])
            },
            partBytes: 4,
            completion: request(bucket, "?uploadId=upload-0", method: "POST")
        )
        try await place("0123456789", bucket, FakeSigner(upload))
        #expect(bucket["/photos/out/shard"] == .init("0123456789"))
        let parts = bucket.server.requests.filter { $0.method == "PUT" }
        #expect(parts.map { String(decoding: $0.body, as: UTF8.self) } == ["0123", "4567", "89"])
        let list = String(decoding: bucket.server.requests.last?.body ?? [], as: UTF8.self)
        #expect(list.contains("<Part><PartNumber>2</PartNumber><ETag>\"2\"</ETag></Part>"))
        // The answer is lost: the upload is over.
        let again = UploadReply(parts: [], partBytes: 4, completion: upload.completion)
        try await place("0123456789", bucket, FakeSigner(again))
    }

    @Test func aRefusalIsNamed() async throws {
        let bucket = Bucket()
        let signed = request(bucket, method: "PATCH")
        let error = await #expect(throws: DataPlaneError.self) {
            try await place("shard", bucket, FakeSigner(.init(parts: [signed], partBytes: 99)))
        }
        #expect(error?.reason == .way)
        #expect(error?.message == "cannot place shard 0 in s3://photos/out: HTTP status 405")
    }
}
