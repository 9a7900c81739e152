package import EntropyCoding
internal import Flow

/// Corrections of the predicted scales of one block: one for each channel of each pass.
///
/// A small model is never right about every dataset: on images that are smoother or noisier than
/// those that it learnt from, its scales are off by a factor that hardly changes inside a block. The
/// encoder measures the factor and sends it, half a byte for each channel; see `Codec.md` for the
/// layout. Models that ask for it (`FlowModel.correctsScales`) have their payloads begin with this.
package struct ScaleOffsets: Equatable, Sendable {
    /// Corrections in units of ``unit`` scale indices, within ``range``: `[pass][channel]`.
    package var passes: [[Int8]]

    /// Scale indices of one step; a step is a factor of 1.12.
    package static let unit = 2

    /// What half a byte holds.
    package static let range: ClosedRange<Int8> = -8...7

    /// The positions of a channel that the encoder looks at, spread over the block, or somewhat more.
    ///
    /// With fewer, chance decides: 1,024 made photographs 0.3 to 0.9 % larger.
    private static let sampledPositions = 16384

    /// What a channel's correction must save of them, in 1/256 bit, to be other than 0.
    private static let leastSaving: UInt64 = 16 * 256

    /// Returns corrections of 0 for passes of so many channels.
    package init(channels: [Int]) {
        self.passes = channels.map { [Int8](repeating: 0, count: $0) }
    }

    // MARK: - Payload

    /// The section at the start of a payload: a byte 0 where all corrections are 0; else a byte 1,
    /// and all corrections in decode order as two's complement halves of bytes, the low half first.
    package var bytes: [UInt8] {
        let all = passes.joined().map { UInt8(bitPattern: $0) & 15 }
        guard all.contains(where: { $0 != 0 }) else { return [0] }
        return [1]
            + stride(from: 0, to: all.count, by: 2).map { index in
                all[index] | (index + 1 < all.count ? all[index + 1] << 4 : 0)
            }
    }

    /// Returns the bytes of a section that is not all 0.
    package static func sectionSize(channels: Int) -> Int {
        1 + (channels + 1) / 2
    }

    /// Reads the section at the start of a payload.
    ///
    /// - Parameters:
    ///   - payload: The whole payload.
    ///   - channels: The number of channels of each pass.
    /// - Returns: The corrections, and the number of bytes that they take.
    /// - Throws: `BitstreamError` if the payload does not begin with a section of an encoder.
    package static func read(
        _ payload: [UInt8],
        channels: [Int]
    ) throws(BitstreamError) -> (offsets: ScaleOffsets, byteCount: Int) {
        var offsets = ScaleOffsets(channels: channels)
        guard let kind = payload.first else {
            throw BitstreamError(.truncated, byteOffset: 0)
        }
        if kind == 0 { return (offsets, 1) }
        let count = channels.reduce(0, +)
        let end = sectionSize(channels: count)
        guard kind == 1 else { throw BitstreamError(.invalidSection, byteOffset: 0) }
        guard payload.count >= end else {
            throw BitstreamError(.truncated, byteOffset: payload.count)
        }
        if count % 2 == 1, payload[end - 1] >> 4 != 0 {
            throw BitstreamError(.invalidSection, byteOffset: end - 1)
        }
        var index = 0
        for pass in channels.indices {
            for channel in 0..<channels[pass] {
                let half = payload[1 + index / 2] >> (index % 2 == 0 ? 0 : 4)
                // Shifts the half's sign bit to the top and back.
                offsets.passes[pass][channel] = Int8(bitPattern: half << 4) >> 4
                index += 1
            }
        }
        return (offsets, end)
    }

    // MARK: - Use

    /// Corrects the scales of a pass.
    ///
    /// - Parameters:
    ///   - scales: The model's scale indices, `[position][channel]`.
    ///   - pass: The pass's index in decode order.
    /// - Returns: The corrected scale indices, in 0…127.
    package func correct(_ scales: UnsafeBufferPointer<UInt8>, pass: Int) -> [UInt8] {
        let shifts = passes[pass].map(Self.shift)
        // Channels begin anew after as many vectors as there are channels.
        func vectors(_ part: (Int16) -> Int16) -> [SIMD16<UInt8>] {
            shifts.indices.map { vector in
                SIMD16((0..<16).map { UInt8(part(shifts[(16 * vector + $0) % shifts.count])) })
            }
        }
        let (raises, lowers) = (vectors { max($0, 0) }, vectors { max(-$0, 0) })
        let limit = SIMD16(repeating: UInt8(FlowModel.maximumScale))
        return [UInt8](unsafeUninitializedCapacity: scales.count) { corrected, count in
            let (source, target) = (
                UnsafeRawBufferPointer(scales), UnsafeMutableRawBufferPointer(corrected)
            )
            count = scales.count
            var vector = 0
            var index = 0
            while index + 16 <= count {
                let scale = source.loadUnaligned(fromByteOffset: index, as: SIMD16<UInt8>.self)
                let raised = pointwiseMin(scale &+ raises[vector], limit)
                let lowered = raised &- pointwiseMin(raised, lowers[vector])
                target.storeBytes(of: lowered, toByteOffset: index, as: SIMD16<UInt8>.self)
                vector = vector + 1 == shifts.count ? 0 : vector + 1
                index += 16
            }
            for index in index..<count {
                corrected[index] = correctScale(scales[index], by: shifts[index % shifts.count])
            }
        }
    }

    /// What a correction adds to scale indices.
    private static func shift(_ offset: Int8) -> Int16 { Int16(offset) * Int16(unit) }

    /// Chooses the corrections of a pass.
    ///
    /// - Parameters:
    ///   - pass: The pass's index in decode order.
    ///   - latents: All images of the block.
    ///   - costs: Of the model's distributions.
    mutating func choose(pass: Int, latents: PassLatents, costs: ScaleCosts) {
        let channels = passes[pass].count
        let step = max(1, latents.values.count / channels / Self.sampledPositions)
        for channel in 0..<channels {
            let sample = DistanceCounts(latents, channel: channel, of: channels, every: step)
            passes[pass][channel] = Self.cheapest { offset in
                costs.cost(sample, shift: Self.shift(offset))
            }
        }
    }

    /// Walks downhill from 0 to the nearest least cost; 0 where that saves less than `leastSaving`.
    private static func cheapest(_ cost: (Int8) -> UInt64) -> Int8 {
        let start = cost(0)
        var (best, least): (Int8, UInt64) = (0, start)
        for direction in [Int8(1), -1] {
            while range.contains(best + direction) {
                let next = cost(best + direction)
                guard next < least else { break }
                (best, least) = (best + direction, next)
            }
            if best != 0 { break }
        }
        return start - least >= Self.leastSaving ? best : 0
    }
}

/// Returns a scale index moved by `shift` and kept within 0…127.
@inline(__always)
func correctScale(_ scale: UInt8, by shift: Int16) -> UInt8 {
    UInt8(min(max(Int16(scale) + shift, 0), FlowModel.maximumScale))
}
