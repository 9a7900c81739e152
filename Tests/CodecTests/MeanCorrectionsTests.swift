import Codec
import EntropyCoding
import Flow
import Kernels
import Raster
import TestSupport
import Testing

@Suite struct MeanCorrectionsTests {
    let channels = [4, 6, 3, 3]

    /// Random coefficients for the first and the last pass.
    private func makeCorrections(images: Int, seed: UInt64) -> MeanCorrections {
        var generator = SeededGenerator(seed: seed)
        var corrections = MeanCorrections(channels: channels)
        for (pass, coefficients) in [(0, 10), (3, 6)] {
            corrections.passes[pass] = (0..<images).map { _ in
                (0..<coefficients).map { _ in .random(in: .min ... .max, using: &generator) }
            }
        }
        return corrections
    }

    @Test func aSectionIsReadAsItWasWritten() throws {
        let corrections = makeCorrections(images: 3, seed: 31)
        let bytes = corrections.bytes(keeping: [0, 1, 2])
        let (found, count) = try MeanCorrections.read(
            ([7, 7] + bytes + [99]).dropFirst(2),
            channels: channels,
            count: 3
        )
        #expect(found == corrections)
        #expect(count == bytes.count)
        #expect(MeanCorrections(channels: channels).bytes(keeping: [0, 1]) == [0])
    }

    @Test func aSectionOfSomeImagesHasTheirCoefficients() throws {
        let corrections = makeCorrections(images: 3, seed: 32)
        let bytes = corrections.bytes(keeping: [0, 2])
        let found = try MeanCorrections.read(bytes[...], channels: channels, count: 2).corrections
        #expect(found.passes[0] == corrections.passes[0].map { [$0[0], $0[2]] })
        #expect(found.passes[3] == corrections.passes[3].map { [$0[0], $0[2]] })
    }

    @Test func aSectionThatNoEncoderWritesIsAnError() {
        let bytes = makeCorrections(images: 1, seed: 33).bytes(keeping: [0])
        for (bytes, error) in [
            ([], BitstreamError(.truncated, byteOffset: 0)),
            ([0x10], BitstreamError(.invalidSection, byteOffset: 0)),
            (Array(bytes.dropLast()), BitstreamError(.truncated, byteOffset: bytes.count - 1)),
        ] {
            #expect(throws: error) {
                try MeanCorrections.read(bytes[...], channels: channels, count: 1)
            }
        }
    }

    /// 100 + 5 + ((8·32 − 4·64 + 16) >> 5), and so on; the second image has other coefficients.
    @Test func meansMoveByTheConstantAndTheResidualsBefore() {
        var corrections = MeanCorrections(channels: [3])
        corrections.passes[0] = [[0, 0, 0, 5, 8, -4], [1, 0, 0, -128, 127, 127]]
        let residuals: [[Int16]] = [[32, 2047], [64, 2047]]

        let corrected = corrections.correct([100, -100], pass: 0, residuals: residuals)
        let first = corrections.correct([100, .max], pass: 0, residuals: [])

        #expect(corrected == [105, -100 - 128 + 16248])
        #expect(first == [100, .max])
    }

    @Test func residualsAreCountedIn32ndsAndKeptSmall() {
        let residuals = MeanCorrections.residuals([3, -1, .max, .min], means: [90, 5, 0, 0])
        #expect(residuals == [6, -37, 2047, -2047])
    }

    /// Every coefficient decodes, on every instruction set, to the images that were coded.
    @Test(arguments: InstructionSet.supported)
    func aCorrectedBlockDecodesToItsImages(isa: InstructionSet) throws {
        let codec = try TestModel.correctingMeans.makeCodec(isa)
        let images = [tinted(seed: 34), tinted(seed: 35)]
        let payload = codec.encode(images)
        #expect(payload == (try TestModel.correctingMeans.codec.encode(images)))
        #expect(try codec.decode(payload, count: 2, width: 144, height: 128) == images)
    }

    /// The random model knows nothing of how the colours of these images hang together.
    @Test func correctionsSaveBytesWhereColoursHangTogether() throws {
        let images = [tinted(seed: 36)]
        let corrected = try TestModel.correctingMeans.codec.encode(images).count
        let plain = try TestModel.correcting.codec.encode(images).count
        #expect(corrected < plain * 97 / 100, "\(corrected) of \(plain) bytes")
    }

    @Test func aSmallImageIsCodedAsTheModelSays() throws {
        let small = makeImages(count: 3, width: 128, height: 128, seed: 37)
        let payload = try TestModel.correctingMeans.codec.encode(small)
        let plain = try TestModel.correcting.codec.encode(small)
        #expect(payload.count == plain.count + 1)
    }

    @Test func someImagesOfABlockAreCodedWithTheirOwnCoefficients() throws {
        let codec = try TestModel.correctingMeans.codec
        let images = [tinted(seed: 38), tinted(seed: 39), tinted(seed: 40)]
        let payload = codec.analyse(images).encode { $0 != 1 }
        let decoded = try codec.decode(payload, count: 2, width: 144, height: 128)
        #expect(decoded == [images[0], images[2]])
    }

    /// An image of one grey structure, and colours that follow it.
    private func tinted(seed: UInt64) -> Image {
        let (width, height) = (144, 128)
        var generator = SeededGenerator(seed: seed)
        let grey = (0..<width * height).map { _ in Int.random(in: 60...160, using: &generator) }
        let samples = (0..<3).flatMap { channel in
            grey.map { UInt8($0 * (8 + channel) / 10 + .random(in: 0...3, using: &generator)) }
        }
        return Image(width: width, height: height, channels: 3, samples: samples)
    }
}
