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

/// Writes the bin that owns the first slot of each bucket.
///
/// - Parameters:
///   - centre: The place of C(0) in its row, which is complete.
///   - window: The row's W.
///   - buckets: Receives 2^`bucketBits` entries, −W…W.
func fillBuckets(
    centre: UnsafePointer<UInt16>,
    window: Int,
    buckets: UnsafeMutablePointer<Int16>
) {
    var bin = 0 &- window
    for bucket in 0..<1 << LogisticCDF.bucketBits {
        let slot = bucket << (16 - LogisticCDF.bucketBits)
        while centre[bin &+ 1] <= slot {
            bin &+= 1
        }
        buckets[bucket] = Int16(bin)
    }
}
