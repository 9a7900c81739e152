import Codec
import EntropyCoding
import Flow
import TestSupport
import Testing

@Suite struct ScaleOffsetsTests {
    let channels = [4, 6, 3, 3]

    @Test func aSectionIsReadAsItWasWritten() throws {
        var generator = SeededGenerator(seed: 21)
        for _ in 0..<20 {
            var offsets = ScaleOffsets(channels: channels)
            for pass in channels.indices {
                for channel in 0..<channels[pass] {
                    offsets.passes[pass][channel] = .random(in: -8...7, using: &generator)
                }
            }
            let (found, count) = try ScaleOffsets.read(offsets.bytes + [99], channels: channels)
            #expect(found == offsets)
            #expect(count == offsets.bytes.count)
        }
        #expect(ScaleOffsets(channels: channels).bytes == [0])
    }

    @Test func aSectionThatNoEncoderWritesIsAnError() throws {
        var offsets = ScaleOffsets(channels: channels)
        offsets.passes[0][0] = 1
        let bytes = offsets.bytes

        #expect(throws: BitstreamError(.truncated, byteOffset: 0)) {
            try ScaleOffsets.read([], channels: channels)
        }
        #expect(throws: BitstreamError(.invalidSection, byteOffset: 0)) {
            try ScaleOffsets.read([2], channels: channels)
        }
        #expect(throws: BitstreamError(.truncated, byteOffset: bytes.count - 1)) {
            try ScaleOffsets.read(bytes.dropLast(), channels: channels)
        }
        let odd = channels + [1]
        #expect(throws: BitstreamError(.invalidSection, byteOffset: bytes.count)) {
            try ScaleOffsets.read(bytes + [0x10], channels: odd)
        }
    }

    @Test func correctedScalesStayIndices() {
        var offsets = ScaleOffsets(channels: channels)
        let count = channels[0]
        for channel in 0..<count {
            offsets.passes[0][channel] = channel % 2 == 0 ? 7 : -8
        }
        let scales = [UInt8](repeating: 3, count: count) + [UInt8](repeating: 120, count: count)

        let corrected = scales.withUnsafeBufferPointer { offsets.correct($0, pass: 0) }

        let expected = (0..<2 * count).map { index in
            let low = index < count
            return index % count % 2 == 0 ? (low ? 17 : 127) : (low ? 0 : 104) as UInt8
        }
        #expect(corrected == expected)
    }

    @Test(arguments: [1, 3, 4, 12, 17, 48])
    func correctionIsASumWithinTheIndicesWhateverTheSize(channels: Int) {
        var generator = SeededGenerator(seed: UInt64(channels))
        for count in [0, 1, 15, 16, 17, 100, 1000] {
            var offsets = ScaleOffsets(channels: [channels])
            offsets.passes[0] = (0..<channels).map { _ in
                .random(in: ScaleOffsets.range, using: &generator)
            }
            let scales = (0..<count * channels).map { _ in
                UInt8.random(in: 0...127, using: &generator)
            }

            let corrected = scales.withUnsafeBufferPointer { offsets.correct($0, pass: 0) }

            let expected = scales.enumerated().map { index, scale in
                let shift = ScaleOffsets.unit * Int(offsets.passes[0][index % channels])
                return UInt8(min(max(Int(scale) + shift, 0), 127))
            }
            #expect(corrected == expected)
        }
    }

    /// The random model's scales are far off, as they are for images unlike those of the training.
    @Test func correctionsSaveBytesWhereTheScalesAreWrong() throws {
        let images = makeImages(count: 4, width: 24, height: 24, seed: 22)

        let corrected = try TestModel.correcting.codec.encode(images).count
        let plain = try TestModel.lifting.codec.encode(images).count

        #expect(corrected < plain * 97 / 100, "\(corrected) of \(plain) bytes")
    }

    @Test func aDamagedSectionIsAnErrorOfTheBlock() throws {
        let codec = try TestModel.correcting.codec
        var payload = codec.encode(makeImages(count: 1, width: 4, height: 4, seed: 23))
        payload[0] = 7

        #expect(throws: BitstreamError(.invalidSection, byteOffset: 0)) {
            try codec.decode(payload, count: 1, width: 4, height: 4)
        }
    }
}
