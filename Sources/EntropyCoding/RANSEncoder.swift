package import Kernels

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
    private let vector: VectorCoder?

    /// States by lane, in [2^16, 2^32).
    private let states: UnsafeMutablePointer<UInt32>

    /// The words as in the stream, filled from the end; room for `slack` more at the front.
    private let words: UnsafeMutableBufferPointer<UInt16>

    /// The index of the first word written so far.
    private var firstWord: Int

    /// Words that are stored before it is known which of them count, at most.
    private static let slack = 16

    /// Makes an encoder.
    ///
    /// - Parameters:
    ///   - capacity: The most intervals, an escape counting as two.
    ///   - isa: A supported instruction set; the stream does not depend on it.
    package init(capacity: Int, isa: InstructionSet) {
        vector = VectorCoder(isa)
        states = .allocate(capacity: RANS.laneCount)
        states.initialize(repeating: RANS.initialState, count: RANS.laneCount)
        words = .allocate(capacity: capacity + Self.slack)
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
            firstWord >= sequence.intervals.count + sequence.escapes.count + Self.slack,
            "the encoder was made with room for all symbols"
        )
        let firstLane = index % RANS.laneCount
        var end = sequence.intervals.count
        var escapes = sequence.escapes[...]
        sequence.intervals.withUnsafeBufferPointer { intervals in
            guard let intervals = intervals.baseAddress, let words = words.baseAddress else {
                return
            }
            while end > 0 {
                var start = 0
                if let vector {
                    vector.encode(
                        intervals,
                        count: &end,
                        firstLane: firstLane,
                        states: states,
                        words: words,
                        firstWord: &firstWord
                    )
                    // What is left ends with a group that is not full or has an escape.
                    start = max(0, (firstLane + end - 1) & ~(RANS.laneCount - 1) - firstLane)
                }
                encodeBackwards(
                    intervals,
                    start..<end,
                    escapes: &escapes,
                    firstLane: firstLane,
                    states: states,
                    words: words,
                    firstWord: &firstWord
                )
                end = start
            }
        }
    }

    /// Ends the stream.
    ///
    /// - Parameter lanes: As of ``RANS/lanes(largestPass:)``.
    /// - Returns: The stream: 4 bytes for each lane, then 2 for each word.
    package consuming func finish(lanes: Int) -> [UInt8] {
        let words = UnsafeRawBufferPointer(
            UnsafeMutableBufferPointer(rebasing: words[firstWord...])
        )
        let size = 4 * lanes + words.count
        return [UInt8](unsafeUninitializedCapacity: size) { bytes, count in
            let stream = UnsafeMutableRawBufferPointer(bytes)
            for lane in 0..<lanes {
                stream.storeBytes(
                    of: states[lane].littleEndian,
                    toByteOffset: 4 * lane,
                    as: UInt32.self
                )
            }
            UnsafeMutableRawBufferPointer(rebasing: stream[(4 * lanes)...]).copyMemory(from: words)
            count = size
        }
    }
}

/// Encodes the symbols of a range from the last to the first; `escapes` loses what is encoded.
///
/// The word is stored always and kept only if the state is too large, which spares a branch that
/// nothing could predict; hence the slack before the first word.
@inline(never)
private func encodeBackwards(
    _ intervals: UnsafePointer<Interval>,
    _ symbols: Range<Int>,
    escapes: inout ArraySlice<Int16>,
    firstLane: Int,
    states: UnsafeMutablePointer<UInt32>,
    words: UnsafeMutablePointer<UInt16>,
    firstWord: inout Int
) {
    var first = firstWord
    var index = symbols.upperBound
    while index > symbols.lowerBound {
        index &-= 1
        let interval = intervals[index]
        let state = states + ((firstLane &+ index) & (RANS.laneCount - 1))
        if interval.start == Interval.escape.start {
            encode(.raw(escapes.removeLast()), state: state, words: words, firstWord: &first)
        }
        encode(interval, state: state, words: words, firstWord: &first)
    }
    firstWord = first
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
    words[firstWord &- 1] = UInt16(truncatingIfNeeded: x).littleEndian
    firstWord &-= isTooLarge ? 1 : 0
    x = isTooLarge ? x >> 16 : x
    let quotient = x / frequency
    state.pointee = quotient << 16 &+ (x &- quotient &* frequency) &+ UInt32(interval.start)
}
