package import EntropyCoding
internal import Kernels

/// Corrections of the predicted means of large images: a few coefficients for each image and pass.
///
/// The colours of a group are predicted without looking at one another, and a camera or a converter
/// of colours leaves traces in a whole photograph that no model has learnt. So a channel's means
/// move by a constant, and by weights times the residuals of the channels before it in the pass;
/// see `Codec.md` for the layout. Models that ask for it (`FlowModel.correctsMeans`) have them in
/// their payloads.
package struct MeanCorrections: Equatable, Sendable {
    /// The channels of each pass.
    package let channels: [Int]

    /// The coefficients of each pass, `[image][coefficient]`, or nil where its means stay.
    ///
    /// Those of a channel are its constant, in 1/32 pixel, and the weights of the channels before
    /// it, in 1/32; channels ascending.
    package var passes: [[[Int8]]?]

    /// The largest image that an encoder does not look at, in pixels: it would hardly save what its
    /// coefficients take.
    package static let skippedPixels = 1 << 14

    /// The positions of an image that the encoder looks at in each pass, about.
    private static let sampledPositions = 16384

    /// What moving a coefficient must save at least, in 1/256 bit of the sampled positions.
    fileprivate static let leastSaving: UInt64 = 256

    /// Of the positions that the encoder looks at, it takes every so many-th for its first steps.
    private static let roughStep = 8

    /// Returns no corrections for passes of so many channels.
    package init(channels: [Int]) {
        self.channels = channels
        self.passes = channels.map { _ in nil }
    }

    /// Returns the number of coefficients of an image in a pass of so many channels.
    private static func coefficientCount(channels: Int) -> Int {
        channels * (channels + 1) / 2
    }

    // MARK: - Payload

    /// Returns the section of a payload of some of the images: a bit for each pass, the lowest
    /// first, and the coefficients of the passes whose bit is set.
    package func bytes(keeping images: [Int]) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Self.maskSize(passes: passes.count))
        for (pass, coefficients) in passes.enumerated() {
            guard let coefficients else { continue }
            bytes[pass / 8] |= 1 << (pass % 8)
            for image in images {
                bytes += coefficients[image].map { UInt8(bitPattern: $0) }
            }
        }
        return bytes
    }

    private static func maskSize(passes: Int) -> Int { (passes + 7) / 8 }

    /// Reads the section of a payload.
    ///
    /// - Parameters:
    ///   - payload: The payload from the section on.
    ///   - channels: The number of channels of each pass.
    ///   - count: The number of images.
    /// - Returns: The corrections, and the number of bytes that they take.
    /// - Throws: `BitstreamError` if the payload does not begin with a section of an encoder.
    package static func read(
        _ payload: ArraySlice<UInt8>,
        channels: [Int],
        count: Int
    ) throws(BitstreamError) -> (corrections: MeanCorrections, byteCount: Int) {
        var corrections = MeanCorrections(channels: channels)
        let mask = payload.prefix(maskSize(passes: channels.count))
        guard mask.count == maskSize(passes: channels.count) else {
            throw BitstreamError(.truncated, byteOffset: payload.endIndex)
        }
        if channels.count % 8 != 0, let last = mask.last, last >> (channels.count % 8) != 0 {
            throw BitstreamError(.invalidSection, byteOffset: mask.endIndex - 1)
        }
        var next = mask.endIndex
        for pass in channels.indices where mask[mask.startIndex + pass / 8] >> (pass % 8) & 1 == 1 {
            let size = coefficientCount(channels: channels[pass])
            guard payload.endIndex - next >= count * size else {
                throw BitstreamError(.truncated, byteOffset: payload.endIndex)
            }
            corrections.passes[pass] = (0..<count).map { image in
                payload[next + image * size..<next + (image + 1) * size].map {
                    Int8(bitPattern: $0)
                }
            }
            next += count * size
        }
        return (corrections, next - payload.startIndex)
    }

    // MARK: - Use

    /// Corrects the means of one channel of a pass, after those of the channels before it.
    ///
    /// - Parameters:
    ///   - means: The model's, `[image][position]`, in 1/32 pixel.
    ///   - pass: The pass's index in decode order.
    ///   - residuals: Those of the channels before, laid out alike.
    /// - Returns: The corrected means.
    package func correct(_ means: [Int16], pass: Int, residuals: [[Int16]]) -> [Int16] {
        guard let images = passes[pass] else { return means }
        let channel = residuals.count
        let first = Self.coefficientCount(channels: channel)
        let positions = means.count / images.count
        var corrected: [Int16] = []
        corrected.reserveCapacity(means.count)
        for (image, coefficients) in images.enumerated() {
            let part = image * positions..<(image + 1) * positions
            corrected += movedMeans(
                means[part],
                by: coefficients[first...first + channel],
                residuals: residuals.map { $0[part] }
            )
        }
        return corrected
    }

    /// Corrects the means of all channels of a pass whose latents are known.
    ///
    /// - Parameters:
    ///   - latents: All images of the block, with the model's means.
    ///   - pass: The pass's index in decode order.
    /// - Returns: The corrected means, `[image][position][channel]`.
    func correctedMeans(of latents: PassLatents, pass: Int) -> [Int16] {
        var residuals: [[Int16]] = []
        var all = Array(latents.means)
        all.withUnsafeMutableBufferPointer { all in
            for index in 0..<channels[pass] {
                let channel = latents.channel(index, of: channels[pass])
                let corrected = correct(channel.means, pass: pass, residuals: residuals)
                all.setChannel(index, of: channels[pass], to: corrected)
                residuals.append(Self.residuals(channel.values, means: channel.means))
            }
        }
        return all
    }

    /// Returns how far latents are from the means that the model predicts, in 1/32 pixel, within
    /// ±2047.
    package static func residuals(_ values: [Int16], means: [Int16]) -> [Int16] {
        values.withUnsafeBufferPointer { values in
            means.withUnsafeBufferPointer { means in
                [Int16](unsafeUninitializedCapacity: values.count) { residuals, count in
                    for index in values.indices {
                        let residual = Int32(values[index]) * 32 &- Int32(means[index])
                        let clamped = Int16(truncatingIfNeeded: min(max(residual, -2047), 2047))
                        residuals.initializeElement(at: index, to: clamped)
                    }
                    count = values.count
                }
            }
        }
    }

    // MARK: - Choice

    /// Chooses the corrections of a pass.
    ///
    /// - Parameters:
    ///   - pass: The pass's index in decode order.
    ///   - latents: All images of the block.
    ///   - imageCount: The number of images.
    ///   - cdf: The model's distributions.
    ///   - isa: A supported instruction set; the choice does not depend on it.
    mutating func choose(
        pass: Int,
        latents: PassLatents,
        imageCount: Int,
        cdf: LogisticCDF,
        isa: InstructionSet
    ) {
        let channels = channels[pass]
        let positions = latents.values.count / imageCount / channels
        let step = max(1, positions / Self.sampledPositions)
        var saved: UInt64 = 0
        let coefficients = (0..<imageCount).map { image in
            let latents = latents.image(image, of: imageCount)
            let sample = (0..<channels).map { latents.channel($0, of: channels, every: step) }
            let found = Self.cheapest(sample, cdf: cdf, isa: isa)
            saved += found.saved * UInt64(step)
            return found.coefficients
        }
        let cost = imageCount * Self.coefficientCount(channels: channels) * 8 * 256
        passes[pass] = saved > cost ? coefficients : nil
    }

    /// Finds the coefficients of an image: walks downhill from 0, channel by channel.
    ///
    /// - Returns: The coefficients, and what they save of the sample, in 1/256 bit.
    private static func cheapest(
        _ sample: [ChannelLatents],
        cdf: LogisticCDF,
        isa: InstructionSet
    ) -> (coefficients: [Int8], saved: UInt64) {
        var residuals: [[Int16]] = []
        var all: [Int8] = []
        var saved: UInt64 = 0
        for channel in sample {
            let slope = Slope(channel: channel, residuals: residuals, cdf: cdf, isa: isa)
            let zeros = [Int8](repeating: 0, count: 1 + residuals.count)
            let start = slope.cost(zeros)
            // Some of the positions tell where to look.
            let rough = slope.every(roughStep).downhill(from: zeros, by: [8, -8, 2, -2, 1, -1])
            let (best, least) = slope.downhill(from: rough.coefficients, by: [1, -1])
            all += least < start ? best : zeros
            saved += start - min(start, least)
            residuals.append(Self.residuals(channel.values, means: channel.means))
        }
        return (all, saved)
    }
}

/// What the coefficients of a channel cost, to walk down on.
private struct Slope {
    /// The channel, with the model's means.
    let channel: ChannelLatents
    /// Of the channels before.
    let residuals: [[Int16]]
    let cdf: LogisticCDF
    let isa: InstructionSet

    /// The same of every n-th position.
    func every(_ step: Int) -> Slope {
        Slope(
            channel: channel.every(step),
            residuals: residuals.map { $0.every(step) },
            cdf: cdf,
            isa: isa
        )
    }

    /// Returns what the latents take with these coefficients, in 1/256 bit.
    func cost(_ coefficients: [Int8]) -> UInt64 {
        var corrected = channel
        corrected.means = movedMeans(
            channel.means[...],
            by: coefficients[...],
            residuals: residuals.map { $0[...] }
        )
        return corrected.cost(cdf: cdf, isa: isa)
    }

    /// Moves one coefficient after the other, as far as each move pays.
    func downhill(
        from start: [Int8],
        by moves: [Int8]
    ) -> (coefficients: [Int8], cost: UInt64) {
        var (best, least) = (start, cost(start))
        // Twice, because what one coefficient leaves another one takes.
        for index in [best.indices, best.indices].joined() {
            for move in moves {
                while let next = best.moved(at: index, by: move) {
                    let nextCost = cost(next)
                    guard nextCost + MeanCorrections.leastSaving < least else { break }
                    (best, least) = (next, nextCost)
                }
            }
        }
        return (best, least)
    }
}

extension [Int8] {
    /// Returns a copy with one entry moved; nil where that leaves the type's range.
    fileprivate func moved(at index: Int, by move: Int8) -> [Int8]? {
        let (sum, overflows) = self[index].addingReportingOverflow(move)
        guard !overflows else { return nil }
        var result = self
        result[index] = sum
        return result
    }
}

/// Corrects the means of one channel of one image.
///
/// - Parameters:
///   - means: The model's.
///   - coefficients: The constant, and a weight for each channel of residuals.
///   - residuals: Those of the channels before.
/// - Returns: mean + constant + ((Σ weight · residual + 16) >> 5), kept within Int16.
private func movedMeans(
    _ means: ArraySlice<Int16>,
    by coefficients: ArraySlice<Int8>,
    residuals: [ArraySlice<Int16>]
) -> [Int16] {
    var sums = [Int32](repeating: 16, count: means.count)
    sums.withUnsafeMutableBufferPointer { sums in
        for (weight, residuals) in zip(coefficients.dropFirst(), residuals) where weight != 0 {
            residuals.withUnsafeBufferPointer { residuals in
                for index in sums.indices {
                    sums[index] &+= Int32(weight) &* Int32(residuals[index])
                }
            }
        }
    }
    let constant = Int32(coefficients.first ?? 0)
    return means.withUnsafeBufferPointer { means in
        [Int16](unsafeUninitializedCapacity: means.count) { corrected, count in
            for index in means.indices {
                let mean = Int32(means[index]) &+ constant &+ (sums[index] >> 5)
                corrected.initializeElement(at: index, to: Int16(clamping: mean))
            }
            count = means.count
        }
    }
}
