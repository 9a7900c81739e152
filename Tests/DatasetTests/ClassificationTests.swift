import Dataset
import Raster
import TestSupport
import Testing

@Suite struct ClassificationTests {
    @Test(arguments: ["x.png", "x.jpg", "x", "x.txt"])
    func anRGBImageIsACandidateWhateverItsName(_ name: String) throws {
        let bytes = try Fixtures.bytes("images/pngsuite/basn2c08.png")
        let classification = classify(name: name, bytes: bytes)
        #expect(classification.format == .png)
        #expect(classification.content == .image(try PNG.read(bytes)))
    }

    @Test(
        arguments: [
            ("basn0g08.png", .grey), ("basn6a08.png", .alpha), ("basn3p08.png", .palette),
            ("basn2c16.png", .sixteenBit),
        ] as [(String, DecodedImage.Restriction)]
    )
    func otherPixelsAreStored(_ name: String, _ restriction: DecodedImage.Restriction) throws {
        let bytes = try Fixtures.bytes("images/pngsuite/\(name)")
        let classification = classify(name: name, bytes: bytes)
        #expect(classification.content == .stored(.restricted(restriction)))
        #expect(!StoredReason.restricted(restriction).isProblem)
    }

    @Test(arguments: [
        "xcsn0g01.png", "xhdn0g08.png", "xs1n0g01.png", "xdtn0g01.png", "xc1n0g08.png",
    ])
    func aDamagedImageIsAProblem(_ name: String) throws {
        let bytes = try Fixtures.bytes("images/pngsuite/\(name)")
        guard case .stored(let reason) = classify(name: name, bytes: bytes).content else {
            Issue.record("\(name) is no candidate")
            return
        }
        #expect(reason.isProblem)
        #expect(reason.description.contains("damaged"))
    }

    @Test func theNameDecidesWhetherUnknownContentIsDamage() {
        let bytes = Array("hello".utf8)
        #expect(
            classify(name: "a.png", bytes: bytes).content == .stored(.unrecognised(promised: .png))
        )
        #expect(classify(name: "a.txt", bytes: bytes).content == .stored(.sideFile))
        #expect(
            classify(name: "a.jpg", bytes: []).content == .stored(.unrecognised(promised: .jpeg))
        )
    }

    @Test func aTextThatStartsLikeAPNMIsASideFile() {
        let bytes = Array("P1 is the first of us".utf8)
        #expect(classify(name: "a.txt", bytes: bytes) == classify(name: "b", bytes: bytes))
        #expect(classify(name: "a.txt", bytes: bytes).content == .stored(.sideFile))
        #expect(classify(name: "a.txt", bytes: bytes).format == nil)
        guard case .stored(.damaged) = classify(name: "a.pbm", bytes: bytes).content else {
            Issue.record("a broken PBM is damaged")
            return
        }
    }

    @Test func otherFormatsAreStoredWithoutAProblem() {
        let content = classify(name: "a.jpg", bytes: [0xFF, 0xD8, 0xFF, 0xE0]).content
        #expect(content == .stored(.otherFormat(.jpeg)))
        #expect(!StoredReason.otherFormat(.jpeg).isProblem)
    }

    @Test func anImageAboveTheLimitsIsStoredWithoutAProblem() throws {
        var limits = RasterLimits()
        limits.maximumPixels = 10
        let bytes = try Fixtures.bytes("images/pngsuite/basn2c08.png")
        guard case .stored(let reason) = classify(name: "a", bytes: bytes, limits: limits).content
        else {
            Issue.record("a large image is no candidate")
            return
        }
        #expect(!reason.isProblem)
        #expect(reason.description.contains("32×32"))
    }
}
