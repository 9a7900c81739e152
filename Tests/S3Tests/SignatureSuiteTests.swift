import Foundation
import S3
import Testing

/// AWS's Signature Version 4 test suite, as it is in `awslabs/aws-c-auth` under
/// `tests/aws-signing-test-suite/v4`: the cases without paths that S3, whose keys are no paths, does
/// not normalise, and without header fields in more than one line.
struct SignatureSuiteTests {
    private static let date = "20150830T123600Z"
    private static let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
    private static let unreserved =
        "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

    private let signer = S3Signer(
        S3Credentials(
            accessKey: "AKIDEXAMPLE",
            secretKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
        ),
        region: "us-east-1",
        service: "service"
    )

    /// A case of the suite, `header-signed-request.txt`.
    private struct Case: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let request: S3Request
        let body: String
        let signature: String

        init(
            _ name: String,
            _ method: String = "GET",
            _ path: String = "/",
            query: [(String, String)] = [],
            headers: [(String, String)] = [],
            body: String = "",
            signature: String
        ) {
            testDescription = name
            request = S3Request(
                method: method,
                host: "example.amazonaws.com",
                path: path,
                query: query.map { ($0, $1) },
                headers: headers.map { ($0, $1) } + [("X-Amz-Date", date)]
            )
            self.body = body
            self.signature = signature
        }
    }

    private static let cases = [
        Case(
            "get-unreserved",
            "GET",
            "/\(unreserved)",
            signature: "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"
        ),
        Case(
            "get-utf8",
            "GET",
            "/ሴ",
            signature: "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"
        ),
        Case(
            "get-slashes-unnormalized",
            "GET",
            "//example//",
            signature: "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5"
        ),
        Case(
            "get-vanilla-query-order-key-case",
            query: [("Param2", "value2"), ("Param1", "value1")],
            signature: "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"
        ),
        Case(
            "get-vanilla-query-order-encoded",
            query: [("Param-3", "Value3"), ("Param", "Value2"), ("ሴ", "Value1")],
            signature: "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"
        ),
        Case(
            "get-vanilla-query-unreserved",
            query: [(unreserved, unreserved)],
            signature: "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"
        ),
        Case(
            "get-vanilla-utf8-query",
            query: [("ሴ", "bar")],
            signature: "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"
        ),
        Case(
            "get-vanilla-with-session-token",
            headers: [("X-Amz-Security-Token", token)],
            signature: "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"
        ),
        Case(
            "get-header-value-trim",
            headers: [("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")],
            signature: "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"
        ),
        Case(
            "post-header-key-sort",
            "POST",
            headers: [("My-Header1", "value1")],
            signature: "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"
        ),
        Case(
            "post-header-value-case",
            "POST",
            headers: [("My-Header1", "VALUE1")],
            signature: "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"
        ),
        Case(
            "post-vanilla",
            "POST",
            signature: "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        ),
        Case(
            "post-vanilla-query",
            "POST",
            query: [("Param1", "value1")],
            signature: "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"
        ),
        Case(
            "post-x-www-form-urlencoded",
            "POST",
            headers: [
                ("Content-Type", "application/x-www-form-urlencoded"), ("Content-Length", "13"),
                (
                    "x-amz-content-sha256",
                    "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"
                ),
            ],
            body: "Param1=value1",
            signature: "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b"
        ),
    ]

    @Test(arguments: cases)
    private func theSignatureIsThatOfTheSuite(example: Case) {
        let payload = S3Signer.sha256(Array(example.body.utf8))
        let found = signer.signature(of: example.request, payload: payload, time: Self.date)
        #expect(found == example.signature)
    }

    /// `query-signed-request.txt` of get-vanilla-with-session-token.
    @Test func theSignatureOfAURLIsThatOfTheSuite() {
        let request = S3Request(
            method: "GET",
            host: "example.amazonaws.com",
            path: "/",
            query: [
                ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
                ("X-Amz-Credential", "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"),
                ("X-Amz-Date", Self.date), ("X-Amz-SignedHeaders", "host"),
                ("X-Amz-Expires", "3600"), ("X-Amz-Security-Token", Self.token),
            ]
        )
        let payload = S3Signer.sha256([])
        #expect(
            signer.signature(of: request, payload: payload, time: Self.date)
                == "7ff2b50b376cb4d151970630573d6291dc128cc5c2a12ffb237f73cc53f67b6c"
        )
    }
}
