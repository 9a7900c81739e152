import Foundation
import S3
import Testing

/// The examples that AWS publishes: "Signature Calculations for the Authorization Header" and
/// "Authenticating Requests: Using Query Parameters" in the Amazon S3 API Reference.
struct SignerTests {
    private static let empty = S3Signer.sha256([])
    private static let host = "examplebucket.s3.amazonaws.com"

    private let signer = S3Signer(
        S3Credentials(
            accessKey: "AKIAIOSFODNN7EXAMPLE",
            secretKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
        ),
        region: "us-east-1"
    )
    /// 24 May 2013, midnight.
    private let date = Date(timeIntervalSince1970: 1_369_353_600)

    private struct Example: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let request: S3Request
        let payload: String
        let signature: String
    }

    private static let examples = [
        Example(
            testDescription: "GET object with a range",
            request: S3Request(
                method: "GET",
                host: host,
                path: "/test.txt",
                headers: [("Range", "bytes=0-9")]
            ),
            payload: empty,
            signature: "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        ),
        Example(
            testDescription: "PUT object",
            request: S3Request(
                method: "PUT",
                host: host,
                path: "/test$file.text",
                headers: [
                    ("Date", "Fri, 24 May 2013 00:00:00 GMT"),
                    ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                ]
            ),
            payload: S3Signer.sha256(Array("Welcome to Amazon S3.".utf8)),
            signature: "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        ),
        Example(
            testDescription: "GET bucket lifecycle, a parameter without a value",
            request: S3Request(
                method: "GET",
                host: host,
                path: "/",
                query: [("lifecycle", "")]
            ),
            payload: empty,
            signature: "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        ),
        Example(
            testDescription: "GET bucket, parameters out of order",
            request: S3Request(
                method: "GET",
                host: host,
                path: "/",
                query: [("prefix", "J"), ("max-keys", "2")]
            ),
            payload: empty,
            signature: "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        ),
    ]

    @Test(arguments: examples)
    private func theSignatureIsThatOfTheExample(example: Example) {
        let signed = signer.signed(example.request, payload: example.payload, date: date)
        let field = signed.headers.first { $0.name == "authorization" }
        #expect(field?.value.hasSuffix("Signature=\(example.signature)") == true)
        #expect(
            field?.value.hasPrefix(
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
            ) == true
        )
    }

    @Test func aURLCanBeSignedForOthers() {
        let request = S3Request(method: "GET", host: Self.host, path: "/test.txt")
        let signed = signer.presigned(request, seconds: 86400, date: date)
        #expect(
            signed.target == "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
                + "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
                + "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
                + "&X-Amz-Signature="
                + "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
                + "&X-Amz-SignedHeaders=host"
        )
    }

    @Test func keysAreEscapedAndParametersSorted() {
        let request = S3Request(
            method: "GET",
            host: Self.host,
            path: "/dt=2024/ä b+c~.png",
            query: [("b", "x y"), ("a", "/"), ("uploads", "")]
        )
        #expect(request.target == "/dt%3D2024/%C3%A4%20b%2Bc~.png?a=%2F&b=x%20y&uploads=")
    }

    @Test func aSessionTokenIsSignedToo() {
        let credentials = S3Credentials(accessKey: "A", secretKey: "S", sessionToken: "T")
        let request = S3Request(method: "GET", host: Self.host, path: "/")
        let signer = S3Signer(credentials, region: "us-east-1")
        let signed = signer.signed(request, payload: Self.empty, date: date)
        let field = signed.headers.first { $0.name == "authorization" }
        #expect(field?.value.contains("x-amz-date;x-amz-security-token,") == true)
        let presigned = signer.presigned(request, seconds: 60, date: date)
        #expect(presigned.target.contains("X-Amz-Security-Token=T"))
    }
}
