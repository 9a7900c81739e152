/// The shape that encoder and decoder share: 32 interleaved lanes of 32-bit rANS.
///
/// States are in [2^16, 2^32), words have 16 bits, probabilities 16 bits. After J. Duda,
/// "Asymmetric numeral systems" (arXiv:1311.2540), and F. Giesen, "Interleaved entropy coders"
/// (arXiv:1402.3392).
package enum RANS {
    /// The most lanes of a stream.
    ///
    /// A symbol's lane is its index in its pass modulo this.
    package static let laneCount = 32

    /// Where every lane begins to encode and must end to decode.
    static let initialState: UInt32 = 1 << 16

    /// Returns the lanes of a stream whose largest pass has `symbols` symbols.
    package static func lanes(largestPass symbols: Int) -> Int {
        min(laneCount, symbols)
    }
}

/// Writes a stream of 32-lane rANS, last symbol first.
///
/// The stream is the lane states as UInt32, lane 0 first, then the words as UInt16 in the order
/// of decoding, all little-endian.
package struct RANSEncoder: ~Copyable {
    /// States by lane, in [2^16, 2^32).
    private let states: UnsafeMutableBufferPointer<UInt32>

    /// The words, filled from the end; one entry of slack at the front.
    private let words: UnsafeMutableBufferPointer<UInt16>

    /// The index of the first word written so far.
    private var firstWord: Int

    /// Makes an encoder for at most so many intervals, an escape counting as two.
    package init(capacity: Int) {
        states = .allocate(capacity: RANS.laneCount)
        states.initialize(repeating: RANS.initialState)
        words = .allocate(capacity: capacity + 1)
        words.initialize(repeating: 0)
        firstWord = words.count
    }

    deinit {
        states.deallocate()
        words.deallocate()
    }

    /// Pushes symbols in front of everything pushed so far.
    ///
    /// - Parameters:
    ///   - sequence: Consecutive symbols of a pass.
    ///   - index: The first symbol's index in the pass.
    package mutating func push(_ sequence: SymbolSequence, at index: Int) {
        precondition(
            firstWord > sequence.intervals.count + sequence.escapes.count,
            "the encoder was made with room for all symbols"
        )
        guard let states = states.baseAddress, let words = words.baseAddress else { return }
        firstWord = sequence.intervals.withUnsafeBufferPointer { intervals in
            sequence.escapes.withUnsafeBufferPointer { escapes in
                encodeBackwards(
                    intervals,
                    escapes: escapes,
                    firstLane: index,
                    states: states,
                    words: words,
                    firstWord: firstWord
                )
            }
        }
    }

    /// Ends the stream.
    ///
    /// - Parameter lanes: As of ``RANS/lanes(largestPass:)``.
    /// - Returns: The stream: 4 bytes for each lane, then 2 for each word.
    package consuming func finish(lanes: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(4 * lanes + 2 * (words.count - firstWord))
        for state in states[..<lanes] {
            withUnsafeBytes(of: state.littleEndian) { bytes.append(contentsOf: $0) }
        }
        for word in words[firstWord...] {
            withUnsafeBytes(of: word.littleEndian) { bytes.append(contentsOf: $0) }
        }
        return bytes
    }
}

/// Encodes intervals from the last to the first and returns the new index of the first word.
///
/// The word is stored always and kept only if the state is too large, which spares a branch that
/// nothing could predict; hence the entry of slack before the first word.
@inline(never)
private func encodeBackwards(
    _ intervals: UnsafeBufferPointer<Interval>,
    escapes: UnsafeBufferPointer<Int16>,
    firstLane: Int,
    states: UnsafeMutablePointer<UInt32>,
    words: UnsafeMutablePointer<UInt16>,
    firstWord: Int
) -> Int {
    guard let base = intervals.baseAddress else { return firstWord }
    var firstWord = firstWord
    var escape = escapes.count
    var index = intervals.count
    while index > 0 {
        index &-= 1
        let interval = base[index]
        let state = states + ((firstLane &+ index) & (RANS.laneCount - 1))
        if interval.start == Interval.escape.start {
            escape -= 1
            encode(.raw(escapes[escape]), state: state, words: words, firstWord: &firstWord)
        }
        encode(interval, state: state, words: words, firstWord: &firstWord)
    }
    return firstWord
}

/// Pushes one interval on a lane: C(s, x) = ⌊x / f⌋·2^16 + x mod f + start, at most one word.
@inline(__always)
private func encode(
    _ interval: Interval,
    state: UnsafeMutablePointer<UInt32>,
    words: UnsafeMutablePointer<UInt16>,
    firstWord: inout Int
) {
    let frequency = UInt32(interval.frequency)
    var x = state.pointee
    let isTooLarge = x >> 16 >= frequency
    words[firstWord &- 1] = UInt16(truncatingIfNeeded: x)
    firstWord &-= isTooLarge ? 1 : 0
    x = isTooLarge ? x >> 16 : x
    let quotient = x / frequency
    state.pointee = quotient << 16 &+ (x &- quotient &* frequency) &+ UInt32(interval.start)
}
