internal import CKernelABI
package import Kernels

/// Reads a stream of ``RANSEncoder``, first symbol first.
///
/// Nothing in a stream can make it trap or read outside the stream; what is not the work of an
/// encoder is a ``BitstreamError``, at the latest from ``finish()``.
package struct RANSDecoder: Sendable {
    private let vector: VectorCoder?

    /// States of all 32 lanes, in [2^16, 2^32); those that the stream lacks stay at 2^16.
    private var states: [UInt32]

    /// The words as in the stream, then `padding` zeros that a group of symbols may read before it
    /// is checked.
    private let words: [UInt16]

    /// The index of the next word.
    private var nextWord = 0

    private let lanes: Int

    /// The most words that 32 symbols can take, all of them escapes.
    private static let padding = 2 * RANS.laneCount

    /// Reads the lane states.
    ///
    /// - Parameters:
    ///   - bytes: The whole stream.
    ///   - lanes: As of ``RANS/lanes(largestPass:)``.
    ///   - isa: A supported instruction set; the latents do not depend on it.
    /// - Throws: ``BitstreamError/Reason/truncated`` or ``BitstreamError/Reason/invalidState``.
    package init(
        _ bytes: ArraySlice<UInt8>,
        lanes: Int,
        isa: InstructionSet
    ) throws(BitstreamError) {
        precondition(lanes <= RANS.laneCount, "a stream has at most 32 lanes")
        guard bytes.count >= 4 * lanes, bytes.count % 2 == 0 else {
            throw BitstreamError(.truncated, byteOffset: bytes.count)
        }
        self.vector = VectorCoder(isa)
        self.lanes = lanes
        (states, words) = bytes.withUnsafeBytes { bytes in
            (Self.states(bytes[..<(4 * lanes)]), Self.words(bytes[(4 * lanes)...]))
        }
        if let lane = states.firstIndex(where: { $0 < RANS.initialState }) {
            throw BitstreamError(.invalidState, byteOffset: 4 * lane)
        }
    }

    private static func states(_ bytes: Slice<UnsafeRawBufferPointer>) -> [UInt32] {
        let bytes = UnsafeRawBufferPointer(rebasing: bytes)
        var states = [UInt32](repeating: RANS.initialState, count: RANS.laneCount)
        for lane in 0..<bytes.count / 4 {
            states[lane] = UInt32(
                littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * lane, as: UInt32.self)
            )
        }
        return states
    }

    private static func words(_ bytes: Slice<UnsafeRawBufferPointer>) -> [UInt16] {
        let bytes = UnsafeRawBufferPointer(rebasing: bytes)
        let size = bytes.count / 2 + padding
        return [UInt16](unsafeUninitializedCapacity: size) { words, count in
            UnsafeMutableRawBufferPointer(words).copyMemory(from: bytes)
            words[(bytes.count / 2)...].initialize(repeating: 0)
            count = size
        }
    }

    /// Decodes one pass.
    ///
    /// - Parameters:
    ///   - values: Receives the latents, in pixels; the pass has as many symbols.
    ///   - means: One mean for each, in 1/32 pixel.
    ///   - scales: One scale index for each, below 128.
    ///   - cdf: The model's distributions.
    /// - Throws: ``BitstreamError/Reason/truncated``; the latents are worthless then.
    package mutating func decode(
        _ values: UnsafeMutableBufferPointer<Int16>,
        means: UnsafeBufferPointer<Int16>,
        scales: UnsafeBufferPointer<UInt8>,
        cdf: LogisticCDF
    ) throws(BitstreamError) {
        precondition(
            means.count == values.count && scales.count == values.count,
            "each latent has one distribution"
        )
        precondition(areScaleIndices(scales), "a scale index is below 128")
        precondition(lanes >= RANS.lanes(largestPass: values.count), "no pass exceeds the largest")
        guard let valueBase = values.baseAddress, let meanBase = means.baseAddress,
            let scaleBase = scales.baseAddress
        else { return }
        let wordCount = words.count - Self.padding
        var next = nextWord
        var index = 0
        states.withUnsafeMutableBufferPointer { states in
            words.withUnsafeBufferPointer { words in
                guard let states = states.baseAddress, let words = words.baseAddress else {
                    return
                }
                cdf.withRows { rows in
                    let distributions = Distributions(
                        rows: rows,
                        means: meanBase,
                        scales: scaleBase,
                        count: values.count
                    )
                    while index < values.count, next <= wordCount {
                        var end = values.count
                        if let vector {
                            vector.decode(
                                valueBase,
                                distributions,
                                index: &index,
                                states: states,
                                words: words,
                                nextWord: &next,
                                wordCount: wordCount
                            )
                            // What is left begins with a group that is not full or has an escape.
                            end = min(index + RANS.laneCount, end)
                        }
                        decodeSymbols(
                            index..<end,
                            valueBase,
                            distributions,
                            states: states,
                            words: words,
                            nextWord: &next,
                            wordCount: wordCount
                        )
                        index = end
                    }
                }
            }
        }
        guard next <= wordCount else {
            throw BitstreamError(.truncated, byteOffset: 4 * lanes + 2 * wordCount)
        }
        nextWord = next
    }

    /// Checks that the stream ends here, in the state in which its encoder began.
    ///
    /// - Throws: ``BitstreamError/Reason/trailingBytes`` or
    ///   ``BitstreamError/Reason/finalStateMismatch``.
    package func finish() throws(BitstreamError) {
        guard nextWord == words.count - Self.padding else {
            throw BitstreamError(.trailingBytes, byteOffset: 4 * lanes + 2 * nextWord)
        }
        if let lane = states.firstIndex(where: { $0 != RANS.initialState }) {
            throw BitstreamError(.finalStateMismatch, byteOffset: 4 * lane)
        }
    }
}

/// Decodes the symbols of a range, which begins at lane 0.
///
/// Words are checked once per 32 symbols: a `nextWord` above `wordCount` says that the stream was
/// too short, and that the symbols since the last check are worthless.
@inline(never)
private func decodeSymbols(
    _ symbols: Range<Int>,
    _ values: UnsafeMutablePointer<Int16>,
    _ distributions: Distributions,
    states: UnsafeMutablePointer<UInt32>,
    words: UnsafePointer<UInt16>,
    nextWord: inout Int,
    wordCount: Int
) {
    var next = nextWord
    var index = symbols.lowerBound
    while index < symbols.upperBound, next <= wordCount {
        let end = min(index &+ RANS.laneCount, symbols.upperBound)
        var lane = states
        while index < end {
            let x = lane.pointee
            let slot = x & 0xffff
            if slot == UInt32(Interval.escape.start) {
                let raw = refill(x >> 16, words, &next)
                values[index] = Int16(truncatingIfNeeded: raw)
                lane.pointee = refill(raw >> 16, words, &next)
            } else {
                let (value, interval) = findSymbol(
                    distributions.rows,
                    slot: slot,
                    mean: distributions.means[index],
                    scale: distributions.scales[index]
                )
                values[index] = value
                lane.pointee = refill(
                    UInt32(interval.frequency) &* (x >> 16) &+ slot &- UInt32(interval.start),
                    words,
                    &next
                )
            }
            lane += 1
            index &+= 1
        }
    }
    nextWord = next
}

/// Returns the state with the next word shifted in if it is below 2^16.
///
/// Nothing could predict a branch here, so there is none.
@inline(__always)
private func refill(_ x: UInt32, _ words: UnsafePointer<UInt16>, _ next: inout Int) -> UInt32 {
    let missing: UInt32 = x < RANS.initialState ? 1 : 0
    let word = UInt32(UInt16(littleEndian: words[next])) & (0 &- missing)
    next &+= Int(missing)
    return x &<< (missing &<< 4) | word
}
