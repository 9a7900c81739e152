/// Reads a stream of ``RANSEncoder``, first symbol first.
///
/// Nothing in a stream can make it trap or read outside the stream; what is not the work of an
/// encoder is a ``BitstreamError``, at the latest from ``finish()``.
package struct RANSDecoder: Sendable {
    /// States by lane, in [2^16, 2^32).
    private var states: [UInt32]

    /// The words, then `padding` zeros that a group of symbols may read before it is checked.
    private var words: [UInt16]

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
    /// - Throws: ``BitstreamError/Reason/truncated`` or ``BitstreamError/Reason/invalidState``.
    package init(_ bytes: [UInt8], lanes: Int) throws(BitstreamError) {
        precondition(lanes <= RANS.laneCount, "a stream has at most 32 lanes")
        guard bytes.count >= 4 * lanes, bytes.count % 2 == 0 else {
            throw BitstreamError(.truncated, byteOffset: bytes.count)
        }
        self.lanes = lanes
        states = bytes.withUnsafeBytes { bytes in
            (0..<lanes).map { lane in
                UInt32(
                    littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * lane, as: UInt32.self)
                )
            }
        }
        words = bytes.withUnsafeBytes { bytes in
            stride(from: 4 * lanes, to: bytes.count, by: 2).map { offset in
                UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
            }
        }
        if let lane = states.firstIndex(where: { $0 < RANS.initialState }) {
            throw BitstreamError(.invalidState, byteOffset: 4 * lane)
        }
        words.append(contentsOf: repeatElement(0, count: Self.padding))
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
        let first = nextWord
        let next = states.withUnsafeMutableBufferPointer { states in
            words.withUnsafeBufferPointer { words in
                guard let states = states.baseAddress, let words = words.baseAddress else {
                    return first
                }
                return cdf.withRows { rows in
                    decodeSymbols(
                        rows,
                        values: valueBase,
                        means: meanBase,
                        scales: scaleBase,
                        count: values.count,
                        states: states,
                        words: words,
                        nextWord: first,
                        wordCount: wordCount
                    )
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

/// Decodes symbols and returns the index of the next word.
///
/// Words are checked once per 32 symbols: an index above `wordCount` says that the stream was too
/// short, and that the symbols since the last check are worthless.
@inline(never)
private func decodeSymbols(
    _ rows: LogisticCDF.Rows,
    values: UnsafeMutablePointer<Int16>,
    means: UnsafePointer<Int16>,
    scales: UnsafePointer<UInt8>,
    count: Int,
    states: UnsafeMutablePointer<UInt32>,
    words: UnsafePointer<UInt16>,
    nextWord: Int,
    wordCount: Int
) -> Int {
    var next = nextWord
    var index = 0
    while index < count {
        let end = min(index &+ RANS.laneCount, count)
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
                    rows,
                    slot: slot,
                    mean: means[index],
                    scale: scales[index]
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
        if next > wordCount { break }
    }
    return next
}

/// Returns the state with the next word shifted in if it is below 2^16.
///
/// Nothing could predict a branch here, so there is none.
@inline(__always)
private func refill(_ x: UInt32, _ words: UnsafePointer<UInt16>, _ next: inout Int) -> UInt32 {
    let missing: UInt32 = x < RANS.initialState ? 1 : 0
    let word = UInt32(words[next]) & (0 &- missing)
    next &+= Int(missing)
    return x &<< (missing &<< 4) | word
}
