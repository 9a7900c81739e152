import Codec
import EntropyCoding
import Raster
import TestSupport
import Testing

@Suite struct MirroringTests {
    /// Six samples of each colour, named by their place.
    private let image = Image(
        width: 3,
        height: 2,
        channels: 3,
        samples: [11, 12, 13, 14, 15, 16, 21, 22, 23, 24, 25, 26, 31, 32, 33, 34, 35, 36]
    )

    @Test func eachAxisIsMirrored() {
        #expect(
            Mirroring.columns.applied(to: image).samples
                == [13, 12, 11, 16, 15, 14, 23, 22, 21, 26, 25, 24, 33, 32, 31, 36, 35, 34]
        )
        #expect(
            Mirroring.rows.applied(to: image).samples
                == [14, 15, 16, 11, 12, 13, 24, 25, 26, 21, 22, 23, 34, 35, 36, 31, 32, 33]
        )
        #expect(
            Mirroring.channels.applied(to: image).samples
                == [31, 32, 33, 34, 35, 36, 21, 22, 23, 24, 25, 26, 11, 12, 13, 14, 15, 16]
        )
    }

    @Test func theMirrorImageOfAMirrorImageIsTheImage() {
        let mirrorImages = Mirroring.allCases.map { $0.applied(to: image) }
        #expect(Set(mirrorImages.map(\.samples)).count == 8)
        for (mirroring, mirrored) in zip(Mirroring.allCases, mirrorImages) {
            #expect(mirroring.applied(to: mirrored) == image)
        }
    }

    @Test(arguments: 1...5)
    func aSectionIsReadAsItWasWritten(count: Int) throws {
        let mirrorings = (0..<count).map { Mirroring(rawValue: UInt8(7 - $0)) }
        let bytes = Mirroring.bytes(mirrorings)
        #expect(bytes.count == Mirroring.sectionSize(count: count))
        #expect(try Mirroring.read(bytes + [99], count: count) == mirrorings)
    }

    @Test func aSectionThatNoEncoderWritesIsAnError() {
        for (bytes, count, error) in [
            ([0x11, 0x22], 5, BitstreamError(.truncated, byteOffset: 2)),
            ([0x08], 1, BitstreamError(.invalidSection, byteOffset: 0)),
            ([0x11, 0x90], 4, BitstreamError(.invalidSection, byteOffset: 1)),
            ([0x10], 1, BitstreamError(.invalidSection, byteOffset: 0)),
        ] as [([UInt8], Int, BitstreamError)] {
            #expect(throws: error) { try Mirroring.read(bytes[...], count: count) }
        }
    }

    @Test func aLargeImageIsCodedAsItIs() throws {
        let codec = try TestModel.mirroring.codec
        let large = makeImages(count: 3, width: 129, height: 128, seed: 42)[2]
        let section = [large, Mirroring.columns.applied(to: large)].map { codec.encode([$0])[0] }
        #expect(section == [0, 0])
    }

    /// Every mirror image of an image ends up as the same stream, if no two of them cost the same.
    @Test func theCheapestMirrorImageIsCoded() throws {
        let codec = try TestModel.mirroring.codec
        let plain = try TestModel.lifting.codec
        let subject = makeImages(count: 1, width: 16, height: 12, seed: 41)[0]
        let costs = Mirroring.allCases.map {
            plain.analyse([$0.applied(to: subject)]).cost(ofImage: 0)
        }
        let streams = Set(
            Mirroring.allCases.map { codec.encode([$0.applied(to: subject)]).dropFirst() }
        )

        #expect(Set(costs).count == costs.count)
        #expect(codec.analyse([subject]).cost(ofImage: 0) == costs.min())
        #expect(streams.count == 1)
    }
}
