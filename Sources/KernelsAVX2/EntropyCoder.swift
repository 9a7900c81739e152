// The loops of the entropy coder, 32 symbols at a time. What they compute is defined by the scalar
// loops of EntropyCoding, to which groups that are not full or have an escape are left.
//
// One source for AVX2 and AVX-512, under the rules of Convolution.swift: entry points are never
// inlined, and no type or generic is shared.

package import CKernelABI

/// Lanes of a vector, half of those of a stream.
private let lanes = 16

// MARK: Intervals

/// Does what `VectorCoder.findIntervals` says.
@inline(never)
package func findIntervals(
    _ values: UnsafePointer<Int16>,
    _ distributions: Distributions,
    costs: UnsafePointer<Int32>,
    intervals: UnsafeMutableRawPointer
) -> (count: Int, cost: UInt32, escapes: Int) {
    let rows = distributions.rows
    let outside = coder_broadcast(0xffff)
    var sums = coder_broadcast(0)
    var symbols = 0
    var index = 0
    while index &+ lanes <= distributions.count {
        let scales = coder_load_bytes(distributions.scales + index)
        let (centres, phases) = split(coder_load_words(distributions.means + index))
        let bins = coder_subtract(coder_load_words(values + index), centres)
        let windows = coder_gather(rows.windows, scales)
        let inside = coder_less_or_equal(coder_magnitude(bins), windows)
        let bin = coder_add(gatherCentres(rows, scales, phases), bins)
        let edges = coder_gather_pairs(rows.edges, bin, outside, inside)
        // The start stays below; above, end − start. Of the edges 65,535 and 0 this is the escape.
        let found = coder_subtract(edges, coder_shift_left(edges, 16))
        coder_store(intervals + 4 &* index, found)
        sums = coder_add(sums, gatherCosts(coder_shift_right(found, 16), costs))
        symbols &+= coder_count(inside)
        index &+= lanes
    }
    return (index, coder_total(sums), index &- symbols)
}

/// Returns the costs of frequencies, which are at least 1; see `BitCost`.
@inline(__always)
private func gatherCosts(
    _ frequencies: coder_lanes,
    _ steps: UnsafePointer<Int32>
) -> coder_lanes {
    // Exponent, and the first 15 bits behind it: the frequency doubled until it is 2^15 or more.
    let bits = coder_shift_right(coder_float_bits(frequencies), 8)
    let halvings = coder_subtract(coder_broadcast(127 + 15), coder_shift_right(bits, 15))
    let step = coder_and(coder_shift_right(bits, 6), coder_broadcast(511))
    let rest = coder_and(bits, coder_broadcast(63))
    let cost = coder_shift_right(coder_subtract(coder_gather(steps, step), rest), 6)
    return coder_add(coder_shift_left(halvings, 8), cost)
}

// MARK: Encoding

/// Does what `VectorCoder.encode` says.
@inline(never)
package func encode(
    _ intervals: UnsafeRawPointer,
    count: inout Int,
    firstLane: Int,
    states: UnsafeMutablePointer<UInt32>,
    words: UnsafeMutablePointer<UInt16>,
    firstWord: inout Int
) {
    guard (firstLane &+ count) % (2 &* lanes) == 0 else { return }
    var low = coder_load(states)
    var high = coder_load(states + lanes)
    var next = words + firstWord
    while count >= 2 &* lanes {
        let highIntervals = coder_load(intervals + 4 &* (count &- lanes))
        let lowIntervals = coder_load(intervals + 4 &* (count &- 2 &* lanes))
        let escapes = coder_or(findEscapes(lowIntervals), findEscapes(highIntervals))
        guard coder_bits(escapes) == 0 else { break }
        encode(highIntervals, states: &high, words: &next)
        encode(lowIntervals, states: &low, words: &next)
        count &-= 2 &* lanes
    }
    coder_store(states, low)
    coder_store(states + lanes, high)
    firstWord = next - words
}

/// Returns the lanes whose lower halves, starts of intervals or slots of states, are the escape.
@inline(__always)
private func findEscapes(_ a: coder_lanes) -> coder_mask {
    coder_equal(lower(a), coder_broadcast(0xffff))
}

/// Returns the lower halves: starts of intervals, first ones of pairs, slots of states.
@inline(__always)
private func lower(_ a: coder_lanes) -> coder_lanes {
    coder_and(a, coder_broadcast(0xffff))
}

/// Pushes one interval on each lane, the last lane first.
@inline(__always)
private func encode(
    _ intervals: coder_lanes,
    states: inout coder_lanes,
    words: inout UnsafeMutablePointer<UInt16>
) {
    let frequencies = coder_shift_right(intervals, 16)
    let upper = coder_shift_right(states, 16)
    let tooLarge = coder_less_or_equal(frequencies, upper)
    coder_prepend_words(words, states, tooLarge)
    words -= coder_count(tooLarge)
    let x = coder_select(tooLarge, upper, states)
    let quotients = coder_divide(x, frequencies)
    let remainders = coder_subtract(x, coder_multiply(quotients, frequencies))
    let next = coder_add(
        coder_add(coder_shift_left(quotients, 16), lower(intervals)),
        remainders
    )
    // Where the quotient is one too small, 2^16 is missing and the remainder has f too much.
    let correction = coder_subtract(coder_broadcast(1 << 16), frequencies)
    let isSmall = coder_less_or_equal(frequencies, remainders)
    states = coder_add(next, coder_and(isSmall, correction))
}

// MARK: Decoding

/// Does what `VectorCoder.decode` says.
@inline(never)
package func decode(
    _ values: UnsafeMutablePointer<Int16>,
    _ distributions: Distributions,
    index: inout Int,
    states: UnsafeMutablePointer<UInt32>,
    words: UnsafePointer<UInt16>,
    nextWord: inout Int,
    wordCount: Int
) {
    var low = coder_load(states)
    var high = coder_load(states + lanes)
    var next = words + nextWord
    while index &+ 2 &* lanes <= distributions.count, next <= words + wordCount {
        let escapes = coder_or(findEscapes(low), findEscapes(high))
        guard coder_bits(escapes) == 0 else { break }
        decode(values, distributions, index, states: &low, words: &next)
        decode(values, distributions, index &+ lanes, states: &high, words: &next)
        index &+= 2 &* lanes
    }
    coder_store(states, low)
    coder_store(states + lanes, high)
    nextWord = next - words
}

/// Pops one latent from each lane, the first lane first.
@inline(__always)
private func decode(
    _ values: UnsafeMutablePointer<Int16>,
    _ distributions: Distributions,
    _ index: Int,
    states: inout coder_lanes,
    words: inout UnsafePointer<UInt16>
) {
    let (centres, phases) = split(coder_load_words(distributions.means + index))
    let scales = coder_load_bytes(distributions.scales + index)
    let slots = lower(states)
    let (bins, start, end) = findBins(distributions.rows, scales, phases, slots)
    coder_store_words(values + index, coder_add(centres, bins))

    let x = coder_add(
        coder_multiply(coder_subtract(end, start), coder_shift_right(states, 16)),
        coder_subtract(slots, start)
    )
    let missing = coder_less(x, coder_broadcast(1 << 16))
    let refilled = coder_or(coder_shift_left(x, 16), coder_take_words(words, missing))
    words += coder_count(missing)
    states = coder_select(missing, refilled, x)
}

/// Returns the bins that own slots, and their edges.
///
/// The slots are below 65,535, so that the end of their rows stops the search.
@inline(__always)
private func findBins(
    _ rows: DistributionRows,
    _ scales: coder_lanes,
    _ phases: coder_lanes,
    _ slots: coder_lanes
) -> (bins: coder_lanes, start: coder_lanes, end: coder_lanes) {
    let quantiles = gatherQuantiles(rows, scales, slots)
    var bins = coder_shift_right_signed(coder_add(quantiles, phases), 5)
    let centres = gatherCentres(rows, scales, phases)
    var (first, last) = gatherEdges(rows, coder_add(centres, bins))
    // Rare: the owner is not among the first three bins.
    while true {
        let isAbove = coder_less_or_equal(coder_shift_right(last, 16), slots)
        if coder_bits(isAbove) == 0 { break }
        bins = coder_add(bins, coder_and(isAbove, coder_broadcast(3)))
        (first, last) = gatherEdges(rows, coder_add(centres, bins))
    }
    let (edge0, edge1) = (lower(first), coder_shift_right(first, 16))
    let (edge2, edge3) = (lower(last), coder_shift_right(last, 16))
    let isAbove1 = coder_less_or_equal(edge1, slots)
    let isAbove2 = coder_less_or_equal(edge2, slots)
    // A mask is −1 where it holds.
    return (
        coder_subtract(coder_subtract(bins, isAbove1), isAbove2),
        coder_select(isAbove2, edge2, coder_select(isAbove1, edge1, edge0)),
        coder_select(isAbove2, edge3, coder_select(isAbove1, edge2, edge1))
    )
}

/// Returns four neighbouring edges, as two pairs.
@inline(__always)
private func gatherEdges(
    _ rows: DistributionRows,
    _ index: coder_lanes
) -> (first: coder_lanes, last: coder_lanes) {
    let low = coder_gather_low_quads(rows.edges, index)
    let high = coder_gather_high_quads(rows.edges, index)
    return (coder_first_pairs(low, high), coder_last_pairs(low, high))
}

// MARK: Rows

/// Splits means into the nearest pixel values c and the phases φ + 16, 0…31.
@inline(__always)
private func split(_ means: coder_lanes) -> (centre: coder_lanes, phase: coder_lanes) {
    let shifted = coder_add(means, coder_broadcast(16))
    return (coder_shift_right_signed(shifted, 5), coder_and(shifted, coder_broadcast(31)))
}

/// Returns where the edges have bin 0 of each row.
@inline(__always)
private func gatherCentres(
    _ rows: DistributionRows,
    _ scales: coder_lanes,
    _ phases: coder_lanes
) -> coder_lanes {
    coder_gather(rows.centres, coder_or(coder_shift_left(scales, 5), phases))
}

/// Returns the quantile of each slot's bucket; see `LogisticCDF`.
@inline(__always)
private func gatherQuantiles(
    _ rows: DistributionRows,
    _ scales: coder_lanes,
    _ slots: coder_lanes
) -> coder_lanes {
    let fromEnd = coder_subtract(coder_broadcast(0xffff), slots)
    let distance = coder_maximum(coder_minimum(slots, fromEnd), coder_broadcast(32))
    let exponent = coder_shift_right(coder_float_bits(distance), 20)
    // 160 buckets for each scale, counted from either end.
    let first = coder_add(coder_shift_left(scales, 7), coder_shift_left(scales, 5))
    let bucket = coder_select(
        coder_less(slots, fromEnd),
        coder_add(coder_subtract(first, coder_broadcast(0x420)), exponent),
        coder_subtract(coder_add(first, coder_broadcast(0x420 + 159)), exponent)
    )
    return coder_gather(rows.quantiles, bucket)
}
