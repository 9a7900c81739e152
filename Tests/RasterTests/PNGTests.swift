import Raster
import TestSupport
import Testing

@Suite struct PNGTests {
    @Test func theTableOfExpectedImagesIsThere() {
        #expect(ExpectedImage.all.count == 47)
    }

    @Test(arguments: ExpectedImage.all)
    func decodesAsAnIndependentDecoder(_ expected: ExpectedImage) throws {
        let image = try PNG.read(pngSuite(expected.name)).image
        #expect(image.width == expected.width)
        #expect(image.height == expected.height)
        #expect(image.channels == expected.channels)
        #expect(image.bitDepth == expected.bitDepth)
        #expect(CRC32.ieee.checksum(image.samples) == expected.checksum)
    }

    @Test(arguments: ExpectedImage.all)
    func writingWhatWasReadRestoresPixelsAndMetadata(_ expected: ExpectedImage) throws {
        let source = try PNG.read(pngSuite(expected.name))
        let written = try PNG.write(source.image, metadata: source.metadata)
        let again = try PNG.read(written)
        #expect(again.image == source.image)
        #expect(again.metadata == source.metadata)
        if source.isRGB8 { #expect(again.isRGB8) }
    }

    @Test(arguments: [1, 2, 3, 4], [8, 16])
    func writesEveryChannelCountAndDepth(channels: Int, bitDepth: Int) throws {
        for (width, height) in [(1, 1), (7, 1), (1, 5), (16, 9)] {
            let image = noise(width: width, height: height, channels: channels, bitDepth: bitDepth)
            #expect(try PNG.read(PNG.write(image)).image == image)
        }
    }

    @Test(
        arguments: [
            ("basn2c08.png", nil), ("basi2c08.png", nil), ("tp0n2c08.png", nil),
            ("basn2c16.png", .sixteenBit), ("basn0g08.png", .grey), ("basn0g16.png", .sixteenBit),
            ("basn4a08.png", .grey), ("basn6a08.png", .alpha), ("tbrn2c08.png", .alpha),
            ("basn3p08.png", .palette), ("tbbn3p08.png", .palette),
        ] as [(String, DecodedImage.Restriction?)]
    )
    func tellsWhatRGBSamplesWouldLose(
        name: String,
        restriction: DecodedImage.Restriction?
    ) throws {
        let image = try PNG.read(pngSuite(name))
        #expect(image.restriction == restriction)
        #expect(image.isRGB8 == (restriction == nil))
    }

    @Test func bytesBehindTheImageRestrict() throws {
        let file = try pngSuite("basn2c08.png")
        #expect(try PNG.read(file + [0]).restriction == .trailingBytes)
    }

    @Test func anAnimationIsRestricted() throws {
        let control = chunk("acTL", bigEndian(2) + bigEndian(0))
        let file = inserting(control, at: headerEnd, into: try pngSuite("basn2c08.png"))
        #expect(try PNG.read(file).restriction == .animated)
    }

    @Test func keepsChunksBeforeAndBehindTheDataVerbatim() throws {
        let image = noise(width: 5, height: 4)
        let before = chunk("pHYs", [0, 0, 0, 1, 0, 0, 0, 1, 0]) + chunk("abCd", Array("x".utf8))
        let after = chunk("tEXt", Array("Comment\0behind".utf8)) + chunk("prVt")
        let plain = try PNG.write(image)
        let moved = inserting(before, at: headerEnd, into: plain)
        let whole = inserting(after, at: moved.count - 12, into: moved)

        let read = try PNG.read(whole)

        #expect(read.isRGB8)
        #expect(try PNG.write(read.image, metadata: read.metadata) == whole)
    }

    @Test func keepsTheSuggestedPaletteOfATrueColourImage() throws {
        let palette = chunk("PLTE", [1, 2, 3, 4, 5, 6])
        let file = inserting(
            palette,
            at: headerEnd,
            into: try PNG.write(noise(width: 3, height: 3))
        )
        let read = try PNG.read(file)
        #expect(read.isRGB8)
        #expect(try PNG.write(read.image, metadata: read.metadata) == file)
    }

    @Test func dropsTheIndexOfTheCompressedData() throws {
        let index = chunk("iDOT", [UInt8](repeating: 0, count: 28))
        let plain = try PNG.write(noise(width: 3, height: 3))
        #expect(try PNG.read(inserting(index, at: headerEnd, into: plain)).metadata.isEmpty)
    }

    @Test(
        arguments: [
            ("xs1n0g01.png", .badSignature, 0), ("xs2n0g01.png", .badSignature, 0),
            ("xs4n0g01.png", .badSignature, 0), ("xs7n0g01.png", .badSignature, 0),
            ("xcrn0g04.png", .badSignature, 0), ("xlfn0g04.png", .badSignature, 0),
            ("xhdn0g08.png", .checksumMismatch(chunk: "IHDR"), 29),
            ("xcsn0g01.png", .checksumMismatch(chunk: "IDAT"), 148),
            ("xc1n0g08.png", .malformed("colour type"), 25),
            ("xc9n2c08.png", .malformed("colour type"), 25),
            ("xd0n2c08.png", .malformed("bit depth"), 24),
            ("xd3n2c08.png", .malformed("bit depth"), 24),
            ("xd9n2c08.png", .malformed("bit depth"), 24),
            ("xdtn0g01.png", .malformed("IEND"), 49),
        ] as [(String, RasterError.Reason, Int)]
    )
    func namesWhatIsBrokenAndWhere(
        name: String,
        reason: RasterError.Reason,
        offset: Int
    ) throws {
        let file = try pngSuite(name)
        #expect(throws: RasterError(reason, at: offset)) { try PNG.read(file) }
    }

    @Test func everyPrefixIsAnError() throws {
        let file = try pngSuite("cdfn2c08.png")
        for count in 0..<file.count {
            #expect(throws: RasterError.self, "\(count) bytes") {
                try PNG.read(Array(file[..<count]))
            }
        }
    }

    @Test func everyFlippedBitIsAnError() throws {
        let file = try PNG.write(noise(width: 2, height: 2))
        for bit in 0..<(8 * file.count) {
            var damaged = file
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: RasterError.self, "bit \(bit)") { try PNG.read(damaged) }
        }
    }

    @Test func damagedDataWithARightChecksumIsAnErrorAtTheData() throws {
        let image = noise(width: 4, height: 4)
        let file = try PNG.write(image)
        let short =
            Array(file[..<headerEnd]) + chunk("IDAT", [0x78, 0x9C, 1, 2, 3]) + chunk("IEND")
        let error = try #require(throws: RasterError.self) { try PNG.read(short) }
        #expect(error.byteOffset == headerEnd)
        guard case .corruptPixels = error.reason else {
            Issue.record("\(error)")
            return
        }
    }

    @Test func refusesLargeHeadersBeforeAllocating() throws {
        for (width, height) in [(1 << 19, 1), (1, 1 << 19), (1 << 18, 1 << 18)] {
            let header = bigEndian(width) + bigEndian(height) + [8, 2, 0, 0, 0]
            let file = PNG.signature + chunk("IHDR", header) + chunk("IDAT", [1]) + chunk("IEND")
            #expect(throws: RasterError(.tooLarge(width: width, height: height), at: 16)) {
                try PNG.read(file)
            }
        }
    }

    @Test func refusesMorePixelsThanTheDataCanHold() {
        let header = bigEndian(1 << 14) + bigEndian(1 << 14) + [8, 2, 0, 0, 0]
        let data = chunk("IDAT", [UInt8](repeating: 0, count: 1000))
        let file = PNG.signature + chunk("IHDR", header) + data + chunk("IEND")
        #expect(throws: RasterError(.truncated, at: headerEnd)) { try PNG.read(file) }
    }

    @Test(
        arguments: [
            (chunk("IHDR"), .malformed("order: a second IHDR")),
            (chunk("CgBI"), .unsupported("critical chunk CgBI")),
            (chunk("PLTE", [1, 2]), .malformed("PLTE")),
        ] as [([UInt8], RasterError.Reason)]
    )
    func refusesCriticalChunksOutOfPlace(bytes: [UInt8], reason: RasterError.Reason) throws {
        let file = inserting(bytes, at: headerEnd, into: try PNG.write(noise(width: 1, height: 1)))
        #expect(throws: RasterError(reason, at: headerEnd)) { try PNG.read(file) }
    }

    @Test func refusesMetadataThatIsNone() throws {
        let image = noise(width: 1, height: 1)
        let good = [12, 0, 0, 0] + chunk("abCd")
        #expect(throws: Never.self) { try PNG.write(image, metadata: good) }
        for count in 1..<good.count where count != 4 {
            #expect(throws: RasterError.self, "\(count) bytes") {
                try PNG.write(image, metadata: Array(good[..<count]))
            }
        }
        #expect(throws: RasterError.self) {
            try PNG.write(image, metadata: [12, 0, 0, 0] + chunk("IEND"))
        }
        #expect(throws: RasterError.self) {
            try PNG.write(image, metadata: [6, 0, 0, 0] + chunk("abCd"))
        }
    }
}
