import S3
import Testing

struct S3ListingTests {
    @Test func aListingHoldsItsKeysAsTheyAre() {
        let xml = """
            <?xml version="1.0" encoding="UTF-8"?>
            <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
                <Name>photos</Name><Prefix>in/</Prefix><IsTruncated>true</IsTruncated>
                <Contents><Key>in/a%2Bb+c.png</Key><Size>12</Size><Owner><ID>x</ID></Owner></Contents>
                <Contents><Key>in/%C3%A4&amp;.png</Key><Size>5000000000</Size></Contents>
                <CommonPrefixes><Prefix>in/dt%3D2024/</Prefix></CommonPrefixes>
                <NextContinuationToken>next/page==</NextContinuationToken>
            </ListBucketResult>
            """
        let listing = S3Listing(xml: Array(xml.utf8))
        #expect(
            listing?.objects == [
                S3Object(key: "in/a+b c.png", bytes: 12),
                S3Object(key: "in/ä&.png", bytes: 5_000_000_000),
            ]
        )
        #expect(listing?.prefixes == ["in/dt=2024/"])
        #expect(listing?.continuation == "next/page==")
    }

    @Test(arguments: [
        "", "not XML", "<html></html>", "<ListBucketResult>",
        "<Error><Code>NoSuchBucket</Code></Error>",
    ])
    func anythingElseIsNoListing(text: String) {
        #expect(S3Listing(xml: Array(text.utf8)) == nil)
    }

    @Test(arguments: [
        ("s3://photos", "photos", ""), ("s3://photos/", "photos", ""),
        ("s3://photos/in", "photos", "in"), ("s3://photos/in/ä b/", "photos", "in/ä b"),
    ])
    func aPlaceHasABucketAndAKey(text: String, bucket: String, key: String) {
        #expect(S3Location(text) == S3Location(bucket: bucket, key: key))
    }

    @Test(arguments: [
        "", "/photos", "s3:/photos", "s3://", "s3://ab", "s3://Photos/in", "s3://photos//in",
        "s3://photos/in//", "s3://photos/../in", "s3://photos/./in", "http://photos/in",
        "s3://photos@host/in",
    ])
    func textThatIsNoPlaceIsRefused(text: String) {
        #expect(S3Location(text) == nil)
    }

    @Test func theKeyIsFoundAsOtherProgramsFindIt() throws {
        let environment = [
            "AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S", "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9000", "HOME": "/nonexistent",
        ]
        let found = try S3Configuration(endpoint: nil, environment: environment)
        #expect(found.credentials == S3Credentials(accessKey: "A", secretKey: "S"))
        #expect(found.host == "127.0.0.1:9000")
        #expect(found.region == "eu-central-1")
        let own = try S3Configuration(endpoint: "https://s3.example.org", environment: environment)
        #expect(own.host == "s3.example.org")
    }

    @Test(arguments: ["s3.example.org", "ftp://s3.example.org", "http://", "http://host/path"])
    func anEndpointThatIsNoURLIsRefused(endpoint: String) {
        let environment = ["AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S"]
        #expect(throws: S3ConfigurationError.self) {
            try S3Configuration(endpoint: endpoint, environment: environment)
        }
    }

    @Test func withoutAKeyThereIsNoService() {
        #expect(throws: S3ConfigurationError.self) {
            try S3Configuration(endpoint: nil, environment: ["HOME": "/nonexistent"])
        }
    }
}
