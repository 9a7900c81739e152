/// The normative arithmetic: a model's tables to rows of edges.
extension LogisticCDF {
    /// A model table that cannot give valid distributions.
    package struct TableError: Error, Equatable, Sendable {
        package enum Reason: String, Sendable {
            /// The table has another number of entries than the format asks for.
            case count
            /// The entry is outside its range.
            case range
            /// The entry is below the one before it.
            case decreasing
        }

        /// The tensor's name in the model file.
        package let tensor: String

        package let reason: Reason

        /// The first offending entry; for ``Reason/count`` the number of entries found.
        package let index: Int

        package init(tensor: String, reason: Reason, index: Int) {
            self.tensor = tensor
            self.reason = reason
            self.index = index
        }
    }

    /// Entries of the logistic table: σ at −12…12 in steps of 1/64.
    private static let logisticCount = 1537

    static func validate(
        logistic: [Int32],
        inverseScale: [Int32],
        window: [Int32]
    ) throws(TableError) {
        func check(
            _ tensor: String,
            _ table: [Int32],
            count: Int,
            _ fault: (Int) -> TableError.Reason?
        ) throws(TableError) {
            guard table.count == count else {
                throw TableError(tensor: "cdf.\(tensor)", reason: .count, index: table.count)
            }
            for index in table.indices {
                if let reason = fault(index) {
                    throw TableError(tensor: "cdf.\(tensor)", reason: reason, index: index)
                }
            }
        }
        try check("logistic", logistic, count: logisticCount) { index in
            switch index {
            case 0: logistic[0] == 0 ? nil : .range
            case logisticCount - 1: logistic[index] == 65536 ? nil : .range
            case _ where logistic[index] > 65536: .range
            default: logistic[index] >= logistic[index - 1] ? nil : .decreasing
            }
        }
        try check("window", window, count: scaleCount) { index in
            (1...Int32(maximumWindow)).contains(window[index]) ? nil : .range
        }
        // The largest numerator of an edge is (32·W + 32)·inverseScale; it stays an Int32.
        try check("inverse_scale", inverseScale, count: scaleCount) { index in
            let reach = (32 * Int64(window[index]) + 48) * Int64(inverseScale[index])
            return inverseScale[index] > 0 && reach < 1 << 31 ? nil : .range
        }
    }
}

/// Writes C(−W) … C(W) of one scale and phase, which rise by at least 1 each.
///
/// Checked tables keep everything in range; wrapping operators only spare the checks.
///
/// - Parameters:
///   - phase: φ, the mean's distance from the nearest pixel value, −16…15 in 1/32 pixel.
///   - inverseScale: The scale's entry of the model's table.
///   - window: W, the scale's entry of the model's table.
///   - logistic: The model's table of σ.
///   - centre: The place of C(0) in its row. C(W + 1) and the padding are 65,535 already.
func fillEdges(
    phase: Int,
    inverseScale: Int,
    window: Int,
    logistic: UnsafePointer<Int32>,
    centre: UnsafeMutablePointer<UInt16>
) {
    // Each of the 2W + 1 bins and the escape owns one slot; the logistic shares out the others.
    let shared = 65536 &- (2 &* window &+ 2)
    centre[0 &- window] = 0
    var bin = 1 &- window
    while bin <= window {
        let position = (32 &* bin &- 16 &- phase) &* inverseScale
        let step = (position >> 16) &+ 768
        var sigma = step < 0 ? 0 : 65536
        if step >= 0 && step < 1536 {
            let rise = Int(logistic[step &+ 1] &- logistic[step])
            sigma = Int(logistic[step]) &+ (rise &* (position & 0xffff)) >> 16
        }
        centre[bin] = UInt16(truncatingIfNeeded: (sigma &* shared) >> 16 &+ bin &+ window)
        bin &+= 1
    }
}

/// Lowers the quantiles of a scale to where they hold for one of its phases too.
///
/// - Parameters:
///   - quantiles: The scale's entries, one for each bucket.
///   - phase: φ, −16…15.
///   - window: The row's W.
///   - centre: The place of C(0) in its row, which is complete.
func lowerQuantiles(
    _ quantiles: UnsafeMutablePointer<Int32>,
    phase: Int,
    window: Int,
    centre: UnsafePointer<UInt16>
) {
    var bin = 0 &- window
    for (bucket, slot) in LogisticCDF.firstSlots.enumerated() {
        while centre[bin &+ 1] <= slot {
            bin &+= 1
        }
        // The highest position p with (p + φ + 16) >> 5 = bin.
        let position = Int32(truncatingIfNeeded: 32 &* bin &+ 15 &- phase)
        quantiles[bucket] = min(quantiles[bucket], position)
    }
}

extension LogisticCDF {
    /// Returns the bucket of a slot, 0..<``bucketCount``; it does not fall where the slot rises.
    ///
    /// Buckets are finer where bins have fewer slots, towards both ends: with d the distance of the
    /// slot from the nearer end, or 32 if it is less, a bucket is the exponent of d and the first
    /// three bits behind, counted from that end.
    @inline(__always)
    static func bucket(ofSlot slot: UInt32) -> Int {
        let fromEnd = 65535 &- slot
        // The upper bits of a floating-point number are just that; 0x420 are those of 32.
        let bucket = Int(Float(max(min(slot, fromEnd), 32)).bitPattern >> 20) &- 0x420
        return slot < fromEnd ? bucket : bucketCount &- 1 &- bucket
    }

    /// The first slot of each bucket.
    fileprivate static let firstSlots: [UInt16] = {
        var slots: [UInt16] = []
        for slot in 0..<65535 as Range<UInt32> where bucket(ofSlot: slot) == slots.count {
            slots.append(UInt16(slot))
        }
        return slots
    }()
}
