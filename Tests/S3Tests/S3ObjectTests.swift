import S3
import TestSupport
import Testing

/// Single objects, against a service in memory.
@Suite(.timeLimit(.minutes(5)))
struct S3ObjectTests {
    private let bucket = Bucket()
    private let client: S3Client
    private let place = S3Location(bucket: "photos", key: "out/a b")
    /// SHA-256 of "some bytes".
    private let digest = S3Signer.sha256(Array("some bytes".utf8))

    init() throws {
        client = S3Client(
            try S3Configuration(
                endpoint: bucket.server.url,
                credentials: S3Credentials(accessKey: "A", secretKey: "S")
            )
        )
    }

    @Test func whatWasPutIsThere() throws {
        #expect(try !client.contains(place))
        #expect(try client.digest(of: place) == nil)
        try client.put(Array("some bytes".utf8), at: place)
        #expect(try client.contains(place))
        #expect(bucket["/photos/out/a%20b"] == Bucket.Object("some bytes"))
    }

    @Test func theDigestIsTheOneThatTheServiceChecked() throws {
        bucket["/photos/out/a%20b"] = .init("some bytes", checksum: S3Checksum.base64(digest))
        let found = try #require(try client.digest(of: place))
        #expect(found == (10, digest))
        #expect(bucket.server.requests.map(\.method) == ["HEAD"])
    }

    /// An object in parts has a digest of digests, which says nothing of the whole.
    @Test(arguments: [nil, S3Checksum.base64(String(repeating: "0", count: 64)) + "-2"])
    func anObjectWithoutADigestOfItsOwnIsRead(checksum: String?) throws {
        bucket["/photos/out/a%20b"] = .init("some bytes", checksum: checksum)
        let found = try #require(try client.digest(of: place))
        #expect(found == (10, digest))
        let reading = try #require(bucket.server.requests.last)
        #expect(reading.headers["range"] == "bytes=0-9")
        #expect(reading.headers["if-match"] != nil)
    }

    @Test func aLongObjectIsReadInPieces() throws {
        let text = String(repeating: "0123456789abcdef", count: (9 << 20) / 16)
        bucket["/photos/out/a%20b"] = .init(text)
        let found = try #require(try client.digest(of: place))
        #expect(found.sha256 == S3Signer.sha256(Array(text.utf8)))
        #expect(
            bucket.server.requests.compactMap { $0.headers["range"] }
                == ["bytes=0-8388607", "bytes=8388608-9437183"]
        )
    }

    @Test func uploadsThatWereNotCompletedAreDropped() throws {
        let id = try client.beginUpload(of: place)
        #expect(!id.isEmpty)
        _ = try client.beginUpload(of: place)
        #expect(bucket.openUploads == 2)
        try client.abortUploads(below: S3Location(bucket: "photos", key: "out"))
        #expect(bucket.openUploads == 0)
    }

    @Test func checksumsAreInBase64() {
        // SHA-256 of nothing.
        #expect(
            S3Checksum.base64(S3Signer.sha256([]))
                == "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        )
    }
}
