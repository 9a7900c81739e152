/// Latents as the entropy coder takes them: one interval each, and the raw values of the escapes.
package struct SymbolSequence: Equatable, Sendable {
    /// One interval for each latent, in order; ``Interval/escape`` where the latent is raw.
    package let intervals: [Interval]

    /// The latents outside their windows, in order.
    package let escapes: [Int16]

    /// What coding the sequence takes, in 1/256 bit, the raw values included.
    package let cost: UInt64

    /// Finds the intervals of latents under their distributions.
    ///
    /// - Parameters:
    ///   - values: The latents, in pixels.
    ///   - means: One mean for each, in 1/32 pixel.
    ///   - scales: One scale index for each, below 128.
    ///   - cdf: The model's distributions.
    package init(
        values: UnsafeBufferPointer<Int16>,
        means: UnsafeBufferPointer<Int16>,
        scales: UnsafeBufferPointer<UInt8>,
        cdf: LogisticCDF
    ) {
        let count = values.count
        precondition(
            means.count == count && scales.count == count,
            "each latent has one distribution"
        )
        precondition(areScaleIndices(scales), "a scale index is below 128")
        guard let valueBase = values.baseAddress, let meanBase = means.baseAddress,
            let scaleBase = scales.baseAddress
        else {
            (intervals, escapes, cost) = ([], [], 0)
            return
        }
        var summary: (cost: UInt64, escapes: Int) = (0, 0)
        let intervals = [Interval](unsafeUninitializedCapacity: count) { buffer, initialized in
            guard let base = buffer.baseAddress else { return }
            BitCost.ofFrequency.withUnsafeBufferPointer { costs in
                guard let costs = costs.baseAddress else { return }
                summary = cdf.withRows { rows in
                    findIntervals(
                        rows,
                        values: valueBase,
                        means: meanBase,
                        scales: scaleBase,
                        count: count,
                        costs: costs,
                        intervals: base
                    )
                }
            }
            initialized = count
        }
        var escapes: [Int16] = []
        if summary.escapes > 0 {
            escapes.reserveCapacity(summary.escapes)
            for index in 0..<count where intervals[index] == .escape {
                escapes.append(values[index])
            }
        }
        self.intervals = intervals
        self.escapes = escapes
        self.cost = summary.cost + UInt64(escapes.count) * 16 * 256
    }
}

/// Writes the interval of each latent and returns the sum of their costs and the escape count.
@inline(never)
private func findIntervals(
    _ rows: LogisticCDF.Rows,
    values: UnsafePointer<Int16>,
    means: UnsafePointer<Int16>,
    scales: UnsafePointer<UInt8>,
    count: Int,
    costs: UnsafePointer<UInt16>,
    intervals: UnsafeMutablePointer<Interval>
) -> (cost: UInt64, escapes: Int) {
    var cost: UInt64 = 0
    var escapes = 0
    for index in 0..<count {
        let interval = findInterval(
            rows,
            value: values[index],
            mean: means[index],
            scale: scales[index]
        )
        (intervals + index).initialize(to: interval)
        cost &+= UInt64(costs[Int(interval.frequency)])
        escapes &+= interval.start == Interval.escape.start ? 1 : 0
    }
    return (cost, escapes)
}

/// Returns whether all entries are below ``LogisticCDF/scaleCount``.
func areScaleIndices(_ scales: UnsafeBufferPointer<UInt8>) -> Bool {
    scales.reduce(0, |) < LogisticCDF.scaleCount
}
