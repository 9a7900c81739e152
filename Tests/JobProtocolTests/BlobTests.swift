import JobProtocol
import Testing

struct BlobTests {
    @Test func samplesComeBackAsTheyWent() throws {
        let failure = SampleFrame.Failure(path: "/in/ä.png", code: 13)
        let long = [UInt8](repeating: 7, count: 70_000)
        let bytes =
            SampleFrame.header(fileBytes: 3) + [1, 2, 3] + SampleFrame.frame(of: failure)
            + SampleFrame.header(fileBytes: 0) + SampleFrame.header(fileBytes: 70_000) + long

        let frames = try SampleFrame.decode(bytes)

        #expect(frames == [.file([1, 2, 3]), .failure(failure), .file([]), .file(long)])
    }

    @Test(
        arguments: [
            [1], [1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0, 0, 9],
            [255, 255, 255, 255, 255, 255, 255, 127], [1, 0, 0, 0, 0, 0, 0, 128, 9],
            [255, 255, 255, 255, 255, 255, 255, 255],
        ] as [[UInt8]]
    )
    func bytesThatAreNoSamplesAreRefused(bytes: [UInt8]) {
        #expect(throws: WireError.self) { try SampleFrame.decode(bytes) }
    }

    @Test func aPartIsReadAsItIsWritten() {
        let part = ContentRange(5..<7, of: 10)
        #expect(part.description == "bytes 5-6/10")
        #expect(ContentRange("bytes 5-6/10") == part)
    }

    @Test(arguments: [
        "", "bytes", "bytes 5-6", "bytes 6-5/10", "bytes 5-10/10", "bytes -1-6/10", "bytes 5-6/*",
        "bytes */10", "octets 5-6/10", "bytes 5-6/99999999999999999999",
    ])
    func textThatIsNoPartIsRefused(text: String) {
        #expect(ContentRange(text) == nil)
    }

    @Test(
        arguments: [
            (nil, 0..<10), ("bytes=0-3", 0..<4), ("bytes=4-", 4..<10), ("bytes=-3", 7..<10),
            ("bytes=-30", 0..<10), ("bytes=8-99", 8..<10), ("bytes=10-", nil), ("bytes=-0", nil),
            ("lines=1-2", 0..<10), ("bytes=3-1", 0..<10), ("bytes=a-b", 0..<10),
        ] as [(String?, Range<Int64>?)]
    )
    func aRangeNamesTheseOfTenBytes(header: String?, bytes: Range<Int64>?) {
        #expect(RequestedRange.bytes(header, of: 10) == bytes)
    }
}
