// The loops of the entropy coder, 16 symbols at a time. What they compute is defined by the scalar
// loops of EntropyCoding, to which groups of lanes with an escape are left.
//
// The rules of Convolution.swift hold: entry points are never inlined, and no type or generic is
// shared.

package import CKernelABI

// MARK: Intervals

/// Finds the intervals of latents and what they cost.
///
/// - Parameter call: Scale indices are below 128.
@inline(never)
package func findIntervals(_ call: UnsafeMutablePointer<IntervalCall>) {
    let outside = coder_broadcast(0xffff)
    var sums = coder_broadcast(0)
    var escapes = 0
    var index = 0
    while index < call.pointee.count {
        let active = coder_first_lanes(call.pointee.count &- index)
        let values = coder_load_words(call.pointee.values + index, active)
        let means = coder_load_words(call.pointee.means + index, active)
        let scales = coder_load_bytes(call.pointee.scales + index, active)
        let (centres, phases) = split(means)
        let bins = coder_subtract(values, centres)
        let windows = coder_gather(call.pointee.rows.windows, scales)
        let inside = coder_less_or_equal(coder_magnitude(bins), windows, active)
        let edges = coder_gather_pairs(
            call.pointee.rows.edges,
            coder_add(gatherCentres(call.pointee.rows, scales, phases), bins),
            outside,
            inside
        )
        // The start stays below; above, end − start. Of the edges 65,535 and 0 this is the escape.
        let intervals = coder_subtract(edges, coder_shift_left(edges, 16))
        coder_store_active(call.pointee.intervals + index, intervals, active)
        let costs = gatherCosts(coder_shift_right(intervals, 16), call.pointee.costs)
        sums = coder_select(active, coder_add(sums, costs), sums)
        escapes &+= coder_count(active ^ inside)
        index &+= lanes
    }
    call.pointee.cost = coder_total(sums)
    call.pointee.escapes = escapes
}

/// Returns the costs of frequencies, which are at least 1; see `BitCost`.
@inline(__always)
private func gatherCosts(
    _ frequencies: coder_lanes,
    _ steps: UnsafePointer<UInt16>
) -> coder_lanes {
    let doublings = coder_subtract(coder_leading_zeros(frequencies), coder_broadcast(16))
    let doubled = coder_shift_left_each(frequencies, doublings)
    // The entry is the upper one of a pair, so that nothing behind the table is read.
    let step = coder_gather_pairs(
        steps - 513,
        coder_shift_right(doubled, 6),
        coder_broadcast(0),
        coder_all
    )
    let rest = coder_and(doubled, coder_broadcast(63))
    let cost = coder_shift_right(coder_subtract(coder_shift_right(step, 16), rest), 6)
    return coder_add(coder_shift_left(doublings, 8), cost)
}

// MARK: Encoding

/// Encodes groups of 32 lanes, the last one first, up to one that has an escape.
@inline(never)
package func encode(_ call: UnsafeMutablePointer<EncoderCall>) {
    let (count, firstLane) = (call.pointee.count, call.pointee.firstLane)
    var low = coder_load(call.pointee.states)
    var high = coder_load(call.pointee.states + lanes)
    var words: UnsafeMutablePointer<UInt16> = call.pointee.words + call.pointee.firstWord
    // The symbol of lane 0, negative where the first group begins at another lane.
    var group = (firstLane &+ count &- 1) & ~31 &- firstLane
    while group &+ 2 &* lanes > 0 {
        let lowActive = activeLanes(group, count)
        let highActive = activeLanes(group &+ lanes, count)
        let lowIntervals = coder_load_active(call.pointee.intervals + group, lowActive)
        let highIntervals = coder_load_active(
            call.pointee.intervals + (group &+ lanes),
            highActive
        )
        guard hasNoEscape(lowIntervals), hasNoEscape(highIntervals) else { break }
        encode(highIntervals, highActive, states: &high, words: &words)
        encode(lowIntervals, lowActive, states: &low, words: &words)
        group &-= 2 &* lanes
    }
    coder_store(call.pointee.states, low)
    coder_store(call.pointee.states + lanes, high)
    call.pointee.firstWord = words - call.pointee.words
    call.pointee.count = max(0, min(count, group &+ 2 &* lanes))
}

/// Returns the lanes from symbol `first` on whose symbols are in `0..<count`.
@inline(__always)
private func activeLanes(_ first: Int, _ count: Int) -> coder_mask {
    coder_first_lanes(count &- first) & ~coder_first_lanes(0 &- first)
}

/// Returns whether no interval is the escape; lanes that are not active hold none.
@inline(__always)
private func hasNoEscape(_ intervals: coder_lanes) -> Bool {
    coder_equal(lower(intervals), coder_broadcast(0xffff), coder_all) == 0
}

/// Returns the lower halves: starts of intervals, first ones of pairs, slots of states.
@inline(__always)
private func lower(_ a: coder_lanes) -> coder_lanes {
    coder_and(a, coder_broadcast(0xffff))
}

/// Pushes one interval on each active lane, the last lane first.
@inline(__always)
private func encode(
    _ intervals: coder_lanes,
    _ active: coder_mask,
    states: inout coder_lanes,
    words: inout UnsafeMutablePointer<UInt16>
) {
    let frequencies = coder_shift_right(intervals, 16)
    let upper = coder_shift_right(states, 16)
    let tooLarge = coder_less_or_equal(frequencies, upper, active)
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
    let isSmall = coder_less_or_equal(frequencies, remainders, coder_all)
    let corrected = coder_select(isSmall, coder_add(next, correction), next)
    states = coder_select(active, corrected, states)
}

// MARK: Decoding

/// Decodes groups of 32 lanes, up to one that has an escape or that begins behind the last word.
@inline(never)
package func decode(_ call: UnsafeMutablePointer<DecoderCall>) {
    let count = call.pointee.count
    var low = coder_load(call.pointee.states)
    var high = coder_load(call.pointee.states + lanes)
    var words: UnsafePointer<UInt16> = call.pointee.words + call.pointee.nextWord
    let end: UnsafePointer<UInt16> = call.pointee.words + call.pointee.wordCount
    var index = call.pointee.index
    while index < count, words <= end {
        let lowActive = coder_first_lanes(count &- index)
        let highActive = coder_first_lanes(count &- index &- lanes)
        let lowEscapes = coder_equal(lower(low), coder_broadcast(0xffff), lowActive)
        let highEscapes = coder_equal(lower(high), coder_broadcast(0xffff), highActive)
        guard lowEscapes | highEscapes == 0 else { break }
        decode(call, index, lowActive, states: &low, words: &words)
        decode(call, index &+ lanes, highActive, states: &high, words: &words)
        index &+= 2 &* lanes
    }
    coder_store(call.pointee.states, low)
    coder_store(call.pointee.states + lanes, high)
    call.pointee.nextWord = words - UnsafePointer(call.pointee.words)
    call.pointee.index = min(index, count)
}

/// Pops one latent from each active lane, the first lane first.
@inline(__always)
private func decode(
    _ call: UnsafeMutablePointer<DecoderCall>,
    _ index: Int,
    _ active: coder_mask,
    states: inout coder_lanes,
    words: inout UnsafePointer<UInt16>
) {
    let means = coder_load_words(call.pointee.means + index, active)
    let scales = coder_load_bytes(call.pointee.scales + index, active)
    let (centres, phases) = split(means)
    let slots = lower(states)
    let (bins, start, end) = findBins(call.pointee.rows, scales, phases, slots, active)
    coder_store_words(call.pointee.values + index, coder_add(centres, bins), active)

    let x = coder_add(
        coder_multiply(coder_subtract(end, start), coder_shift_right(states, 16)),
        coder_subtract(slots, start)
    )
    let missing = coder_less(x, coder_broadcast(1 << 16), active)
    let refilled = coder_or(coder_shift_left(x, 16), coder_take_words(words, missing))
    words += coder_count(missing)
    states = coder_select(active, coder_select(missing, refilled, x), states)
}

/// Returns the bins that own slots, and their edges.
///
/// The slots of active lanes are below 65,535, so that the end of their rows stops the search.
@inline(__always)
private func findBins(
    _ rows: CoderRows,
    _ scales: coder_lanes,
    _ phases: coder_lanes,
    _ slots: coder_lanes,
    _ active: coder_mask
) -> (bins: coder_lanes, start: coder_lanes, end: coder_lanes) {
    let quantiles = gatherQuantiles(rows, scales, slots)
    var bins = coder_shift_right_signed(coder_add(quantiles, phases), 5)
    let centres = gatherCentres(rows, scales, phases)
    var edges = gatherEdges(rows, coder_add(centres, bins))
    // Rare: the owner is not among the first three bins.
    while true {
        let isAbove = coder_less_or_equal(coder_shift_right(edges.last, 16), slots, active)
        if isAbove == 0 { break }
        bins = coder_select(isAbove, coder_add(bins, coder_broadcast(3)), bins)
        edges = gatherEdges(rows, coder_add(centres, bins))
    }
    let (edge0, edge1) = (lower(edges.first), coder_shift_right(edges.first, 16))
    let (edge2, edge3) = (lower(edges.last), coder_shift_right(edges.last, 16))
    let isAbove1 = coder_less_or_equal(edge1, slots, coder_all)
    let isAbove2 = coder_less_or_equal(edge2, slots, coder_all)
    let next = coder_select(isAbove1, coder_add(bins, coder_broadcast(1)), bins)
    return (
        coder_select(isAbove2, coder_add(bins, coder_broadcast(2)), next),
        coder_select(isAbove2, edge2, coder_select(isAbove1, edge1, edge0)),
        coder_select(isAbove2, edge3, coder_select(isAbove1, edge2, edge1))
    )
}

/// Returns four neighbouring edges, as two pairs.
@inline(__always)
private func gatherEdges(
    _ rows: CoderRows,
    _ index: coder_lanes
) -> (first: coder_lanes, last: coder_lanes) {
    let low = coder_gather_low_quads(rows.edges, index)
    let high = coder_gather_high_quads(rows.edges, index)
    return (coder_first_pairs(low, high), coder_last_pairs(low, high))
}

// MARK: Rows

/// Lanes of a vector.
private let lanes = 16

/// Splits means into the nearest pixel values c and the phases φ + 16, 0…31.
@inline(__always)
private func split(_ means: coder_lanes) -> (centre: coder_lanes, phase: coder_lanes) {
    let shifted = coder_add(means, coder_broadcast(16))
    return (coder_shift_right_signed(shifted, 5), coder_and(shifted, coder_broadcast(31)))
}

/// Returns where the edges have bin 0 of each row.
@inline(__always)
private func gatherCentres(
    _ rows: CoderRows,
    _ scales: coder_lanes,
    _ phases: coder_lanes
) -> coder_lanes {
    coder_gather(rows.centres, coder_or(coder_shift_left(scales, 5), phases))
}

/// Returns the quantile of each slot's bucket; see `LogisticCDF`.
@inline(__always)
private func gatherQuantiles(
    _ rows: CoderRows,
    _ scales: coder_lanes,
    _ slots: coder_lanes
) -> coder_lanes {
    let fromEnd = coder_subtract(coder_broadcast(0xffff), slots)
    let distance = coder_maximum(coder_minimum(slots, fromEnd), coder_broadcast(32))
    let exponent = coder_shift_right(coder_float_bits(distance), 20)
    // 160 buckets for each scale, counted from either end.
    let first = coder_add(coder_shift_left(scales, 7), coder_shift_left(scales, 5))
    let bucket = coder_select(
        coder_less(slots, fromEnd, coder_all),
        coder_add(coder_subtract(first, coder_broadcast(0x420)), exponent),
        coder_subtract(coder_add(first, coder_broadcast(0x420 + 159)), exponent)
    )
    return coder_gather(rows.quantiles, bucket)
}
