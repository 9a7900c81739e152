import Raster
import Testing

@Suite struct ImageTests {
    @Test(arguments: [8, 16])
    func bandsJoinToTheImage(bitDepth: Int) {
        let image = noise(width: 3, height: 7, bitDepth: bitDepth)
        let bands = [0..<2, 2..<3, 3..<7].map(image.band)
        #expect(bands.map(\.height) == [2, 1, 4])
        #expect(Image(bands: bands) == image)
    }

    @Test func aBandHasTheRowsOfEveryChannel() {
        let image = Image(width: 1, height: 3, channels: 3, samples: [1, 2, 3, 4, 5, 6, 7, 8, 9])
        #expect(image.band(1..<3).samples == [2, 3, 5, 6, 8, 9])
    }

    /// The check values of the catalogue of CRC algorithms (reveng.sourceforge.io/crc-catalogue).
    @Test func checksumsHaveTheirPublishedCheckValues() {
        let digits = Array("123456789".utf8)
        #expect(CRC32.ieee.checksum(digits) == 0xCBF4_3926)
        #expect(CRC32.castagnoli.checksum(digits) == 0xE306_9283)
        #expect(CRC32.castagnoli.checksum([]) == 0)
        #expect(
            CRC32.castagnoli.checksum(digits[1..<8])
                == CRC32.castagnoli.checksum(Array(digits[1..<8]))
        )
    }

    @Test(
        arguments: [
            ([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A], .png),
            (Array("P6\n1 1".utf8), .pnm), (Array("P7\n".utf8), .pnm), (Array("P4#".utf8), .pnm),
            ([0xFF, 0xD8, 0xFF, 0xE0], .jpeg),
            (Array("RIFF....WEBPVP8 ".utf8), .webp), (Array("GIF89a".utf8), .gif),
            (Array("BM....".utf8) + [0, 0, 0, 0], .bmp), ([0x49, 0x49, 42, 0], .tiff),
            ([0x4D, 0x4D, 0, 42], .tiff), ([0xFF, 0x0A], .jxl),
            ([0, 0, 0, 12, 0x4A, 0x58, 0x4C, 0x20, 0x0D, 0x0A, 0x87, 0x0A], .jxl),
            ([0, 0, 0, 32] + Array("ftypavif".utf8), .avif),
            ([0, 0, 0, 32] + Array("ftypheic".utf8), .heic),
            ([0, 0, 0, 32] + Array("ftypisom".utf8), nil), (Array("BMW, Audi".utf8), nil),
            (Array("P8\n".utf8), nil), (Array("RIFF....WAVE".utf8), nil), ([], nil), ([0x89], nil),
        ] as [([UInt8], ImageFormat?)]
    )
    func tellsFormatsByTheirFirstBytes(bytes: [UInt8], format: ImageFormat?) {
        #expect(ImageFormat.sniff(bytes) == format)
    }

    @Test func namesPromiseFormatsInAnyCase() {
        #expect(ImageFormat.promised(byName: "a/b.c/x.JPeg") == .jpeg)
        #expect(ImageFormat.promised(byName: "a.png") == .png)
        #expect(ImageFormat.promised(byName: "a.png.txt") == nil)
        #expect(ImageFormat.promised(byName: "png") == nil)
    }
}
