internal import CKernelABI
package import Kernels

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
    ///   - isa: A supported instruction set; the result does not depend on it.
    package init(
        values: UnsafeBufferPointer<Int16>,
        means: UnsafeBufferPointer<Int16>,
        scales: UnsafeBufferPointer<UInt8>,
        cdf: LogisticCDF,
        isa: InstructionSet
    ) {
        let count = values.count
        precondition(
            means.count == count && scales.count == count,
            "each latent has one distribution"
        )
        precondition(areScaleIndices(scales), "a scale index is below 128")
        guard let values = values.baseAddress, let means = means.baseAddress,
            let scales = scales.baseAddress
        else {
            (intervals, escapes, cost) = ([], [], 0)
            return
        }
        let vector = VectorCoder(isa)
        var cost: UInt64 = 0
        var escapes: [Int16] = []
        intervals = [Interval](unsafeUninitializedCapacity: count) { buffer, initialized in
            guard let intervals = buffer.baseAddress else { return }
            cdf.withRows { rows in
                for first in stride(from: 0, to: count, by: Self.chunk) {
                    let distributions = Distributions(
                        rows: rows,
                        means: means + first,
                        scales: scales + first,
                        count: min(Self.chunk, count - first)
                    )
                    let found = findIntervals(
                        values + first,
                        distributions,
                        vector,
                        intervals: intervals + first
                    )
                    cost += found.cost + UInt64(found.escapes) * 16 * 256
                    guard found.escapes > 0 else { continue }
                    for index in first..<first + distributions.count
                    where intervals[index] == .escape {
                        escapes.append(values[index])
                    }
                }
            }
            initialized = count
        }
        self.escapes = escapes
        self.cost = cost
    }

    /// Latents that are looked through for escapes if there are any.
    private static let chunk = 1024
}

/// Writes the interval of each latent, those that fill vectors first.
///
/// - Returns: The sum of the costs, escapes without their raw values, and the number of escapes.
private func findIntervals(
    _ values: UnsafePointer<Int16>,
    _ distributions: Distributions,
    _ vector: VectorCoder?,
    intervals: UnsafeMutablePointer<Interval>
) -> (cost: UInt64, escapes: Int) {
    let (count, cost, escapes) =
        vector?.findIntervals(
            values,
            distributions,
            costs: BitCost.steps,
            intervals: intervals
        ) ?? (0, 0, 0)
    let rest = findIntervals(
        count..<distributions.count,
        values,
        distributions,
        costs: BitCost.ofFrequency,
        intervals: intervals
    )
    return (UInt64(cost) + rest.cost, escapes + rest.escapes)
}

/// Does the same for the latents of a range, one at a time.
@inline(never)
private func findIntervals(
    _ latents: Range<Int>,
    _ values: UnsafePointer<Int16>,
    _ distributions: Distributions,
    costs: UnsafePointer<UInt16>,
    intervals: UnsafeMutablePointer<Interval>
) -> (cost: UInt64, escapes: Int) {
    var cost: UInt64 = 0
    var escapes = 0
    for index in latents {
        let interval = findInterval(
            distributions.rows,
            value: values[index],
            mean: distributions.means[index],
            scale: distributions.scales[index]
        )
        (intervals + index).initialize(to: interval)
        cost &+= UInt64(costs[Int(interval.frequency)])
        escapes &+= interval.start == Interval.escape.start ? 1 : 0
    }
    return (cost, escapes)
}

/// Returns whether all entries are below ``LogisticCDF/scaleCount``, a power of two.
func areScaleIndices(_ scales: UnsafeBufferPointer<UInt8>) -> Bool {
    guard let base = scales.baseAddress else { return true }
    var bits: UInt8 = 0
    for index in 0..<scales.count {
        bits |= base[index]
    }
    return bits < LogisticCDF.scaleCount
}
