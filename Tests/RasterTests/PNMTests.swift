import Raster
import Testing

@Suite struct PNMTests {
    static let pixels: [UInt8] = [1, 2, 3, 4, 5, 6]
    static let raw: [(header: String, restriction: DecodedImage.Restriction?)] = [
        ("P6\n2 1\n255\n", nil),
        ("P6 # a comment\n2\t1 #another\n255 ", nil),
        ("P6\n2 1\n255#ends here\n", nil),
        ("P7\nWIDTH 2\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n", nil),
        ("P7\n#c\nHEIGHT 1\nWIDTH 2\nMAXVAL 255\nDEPTH 3\n\nENDHDR\n", nil),
        ("P7\nWIDTH 2\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nTUPLTYPE LAB\nENDHDR\n", .tupleType),
        ("P6\n2 1\n254\n", .sampleRange),
        ("P5\n3 2\n255\n", .grey),
    ]

    @Test(arguments: raw)
    func restoresRawFilesByteForByte(
        header: String,
        restriction: DecodedImage.Restriction?
    ) throws {
        let file = Array(header.utf8) + Self.pixels
        let read = try PNM.read(file)
        #expect(read.restriction == restriction)
        #expect(read.metadata == Array(header.utf8))
        #expect(try PNM.write(read.image, metadata: read.metadata) == file)
    }

    @Test func readsSamplesPlanar() throws {
        let image = try PNM.read(Array("P6 2 1 255\n".utf8) + Self.pixels).image
        #expect(image == Image(width: 2, height: 1, channels: 3, samples: [1, 4, 2, 5, 3, 6]))
    }

    @Test func readsSixteenBitsWithTheUpperByteFirst() throws {
        let file = Array("P5 2 1 65535\n".utf8) + [1, 2, 3, 4]
        let read = try PNM.read(file)
        #expect(read.restriction == .sixteenBit)
        #expect(read.image.bitDepth == 16)
        #expect(read.image.samples == [2, 1, 4, 3])
        #expect(try PNM.write(read.image, metadata: read.metadata) == file)
    }

    @Test func readsBitmaps() throws {
        let raw = try PNM.read(Array("P4\n10 2\n".utf8) + [0b1010_0000, 0b0100_0000, 0, 0x80])
        let plain = try PNM.read(Array("P1\n10 2\n10100 00001\n0000000010".utf8))
        #expect(raw.image == plain.image)
        #expect(raw.image.samples.prefix(4) == [0, 255, 0, 255])
        #expect(raw.restriction == .grey)
        #expect(plain.restriction == .plainText)
    }

    @Test func readsPlainSamples() throws {
        let colour = try PNM.read(Array("P3 1 2 255 1 2 3 4 #c\n 5 6".utf8))
        #expect(colour.image.samples == [1, 4, 2, 5, 3, 6])
        #expect(colour.restriction == .plainText)
        let wide = try PNM.read(Array("P2 2 1 300 256 1".utf8))
        #expect(wide.image.samples == [0, 1, 1, 0])
    }

    @Test func aSecondImageRestricts() throws {
        let file = Array("P6 2 1 255\n".utf8) + Self.pixels
        #expect(try PNM.read(file + file).restriction == .trailingBytes)
    }

    @Test func everyPrefixIsAnError() throws {
        for (header, _) in Self.raw {
            let file = Array(header.utf8) + Self.pixels
            for count in 0..<file.count {
                #expect(throws: RasterError.self, "\(header) \(count)") {
                    try PNM.read(Array(file[..<count]))
                }
            }
        }
    }

    @Test(arguments: [
        "P6 0 1 255\n", "P6 1 1 0\n", "P6 1 1 65536\n", "P6 x 1 255\n", "P6 1 1 255x",
        "P6 99999999999999999999 1 255\n", "P7\nWIDTH 1\nENDHDR\n", "P7\nBREADTH 1\nENDHDR\n",
        "P7\nWIDTH 1\nWIDTH 1\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nENDHDR\n",
        "P7\nWIDTH 1\nHEIGHT 1\nDEPTH 5\nMAXVAL 255\nENDHDR\n", "P2 1 1 10 11", "P1 1 1 2",
    ])
    func refusesMalformedFiles(_ text: String) {
        #expect(throws: RasterError.self) { try PNM.read(Array(text.utf8) + [0, 0, 0, 0, 0, 0]) }
    }

    @Test func refusesLargeHeadersBeforeAllocating() {
        for (size, header) in [
            (1 << 17, "P6 131072 131072 255\n"), (1 << 17, "P3 131072 131072 255 "),
        ] {
            #expect(throws: RasterError(.tooLarge(width: size, height: size), at: 0)) {
                try PNM.read(Array(header.utf8))
            }
        }
    }

    @Test(arguments: [1, 2, 3, 4], [8, 16])
    func writesEveryChannelCountWithoutAHeader(channels: Int, bitDepth: Int) throws {
        let image = noise(width: 3, height: 2, channels: channels, bitDepth: bitDepth)
        #expect(try PNM.read(PNM.write(image)).image == image)
    }

    @Test func refusesAHeaderOfAnotherImage() {
        let image = noise(width: 3, height: 2)
        for header in [
            "P6 2 3 255\n", "P5 3 2 255\n", "P3 3 2 255\n", "P6 3 2 65535\n", "P6 3 2 255\n ",
        ] {
            #expect(throws: RasterError.self, "\(header)") {
                try PNM.write(image, metadata: Array(header.utf8))
            }
        }
    }
}
