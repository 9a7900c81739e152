internal import CKernelABI

/// Discretised logistic distributions of 128 scales and 32 sub-pixel phases, in integers only.
///
/// A distribution is named by a mean in 1/32 pixel and a scale index; it gives every Int16 latent
/// within its window an ``Interval`` of the 2^16 slots, and all others the escape. The rule is
/// normative (see the module's article); it is expanded here once, at model load, into one row of
/// edges per scale and phase, so that both directions are a look-up.
package struct LogisticCDF: Sendable {
    /// The number of scales; scale indices are below it.
    package static let scaleCount = 128

    /// The number of means that differ in their fraction of a pixel.
    package static let phaseCount = 32

    /// The largest accepted window, in pixels to each side; it bounds the rows to 65 MiB.
    package static let maximumWindow = 4096

    /// Entries behind a row's last edge that repeat it.
    static let rowPadding = 2

    /// The buckets of slots, in each of which a search begins at one bin; see ``bucket(ofSlot:)``.
    static let bucketCount = 160

    /// Lower edges C(j) of the bins, all rows one after another.
    ///
    /// The row of scale k and phase φ is C(−W) = 0 … C(W + 1) = 65535, and twice more 65535,
    /// because a search looks 3 bins ahead. Two neighbours are the begin and the end of a bin.
    let edges: [UInt16]

    /// Where each row has its bin 0, as an index into `edges`: `[scale][φ + 16]`.
    let centres: [Int32]

    /// The window W of each scale, in pixels: `[scale]`.
    let windows: [Int32]

    /// Where the first slot of a bucket is, in 1/32 pixel from the mean: `[scale][bucket]`.
    ///
    /// At position p, the owners of the bucket's slots are the bin (p + φ + 16) >> 5 and higher
    /// ones, whatever the phase. As a table for all phases it stays in the nearest cache.
    let quantiles: [Int32]

    /// Checks a model's tables and expands them.
    ///
    /// - Parameters:
    ///   - logistic: σ at −12…12 in steps of 1/64, times 65,536; 1,537 entries from 0 to 65,536.
    ///   - inverseScale: Per scale, table steps per 1/32 pixel in 1/65,536; 128 entries above 0.
    ///   - window: Per scale, the window W in pixels; 128 entries in 1…``maximumWindow``.
    /// - Throws: ``TableError``, naming the tensor and the entry.
    package init(
        logistic: [Int32],
        inverseScale: [Int32],
        window: [Int32]
    ) throws(TableError) {
        try Self.validate(logistic: logistic, inverseScale: inverseScale, window: window)
        var centres: [Int32] = []
        var edgeCount = 0
        for window in window {
            let rowSize = 2 * Int(window) + 2 + Self.rowPadding
            for _ in 0..<Self.phaseCount {
                centres.append(Int32(edgeCount) + window)
                edgeCount += rowSize
            }
        }
        var edges = [UInt16](repeating: Interval.escape.start, count: edgeCount)
        var quantiles = [Int32](repeating: .max, count: Self.scaleCount * Self.bucketCount)
        edges.withUnsafeMutableBufferPointer { edges in
            quantiles.withUnsafeMutableBufferPointer { quantiles in
                logistic.withUnsafeBufferPointer { logistic in
                    guard let edges = edges.baseAddress, let quantiles = quantiles.baseAddress,
                        let logistic = logistic.baseAddress
                    else { return }
                    for (row, centre) in centres.enumerated() {
                        let scale = row / Self.phaseCount
                        let centre = edges + Int(centre)
                        fillEdges(
                            phase: row % Self.phaseCount - 16,
                            inverseScale: Int(inverseScale[scale]),
                            window: Int(window[scale]),
                            logistic: logistic,
                            centre: centre
                        )
                        lowerQuantiles(
                            quantiles + scale * Self.bucketCount,
                            phase: row % Self.phaseCount - 16,
                            window: Int(window[scale]),
                            centre: centre
                        )
                    }
                }
            }
        }
        self.edges = edges
        self.centres = centres
        self.windows = window
        self.quantiles = quantiles
    }

    /// Finds the interval of a latent.
    ///
    /// - Parameters:
    ///   - value: The latent, in pixels.
    ///   - mean: The distribution's mean μ, in 1/32 pixel.
    ///   - scale: The distribution's scale index, below ``scaleCount``.
    /// - Returns: The interval, nil where the latent takes the escape.
    package func interval(value: Int16, mean: Int16, scale: UInt8) -> Interval? {
        precondition(scale < Self.scaleCount, "a scale index is below 128")
        let interval = withRows { rows in
            findInterval(rows, value: value, mean: mean, scale: scale)
        }
        return interval == .escape ? nil : interval
    }

    /// Returns what coding a latent takes, in 1/256 bit, the raw value of an escape included.
    ///
    /// - Parameters: as of ``interval(value:mean:scale:)``.
    package func cost(value: Int16, mean: Int16, scale: UInt8) -> UInt32 {
        guard let interval = interval(value: value, mean: mean, scale: scale) else {
            return Interval.escape.cost + Interval.raw(value).cost
        }
        return interval.cost
    }

    /// Finds the owner of a slot; the mirror of ``interval(value:mean:scale:)``.
    ///
    /// - Parameters:
    ///   - slot: A slot, 0…65,535.
    ///   - mean: The distribution's mean μ, in 1/32 pixel.
    ///   - scale: The distribution's scale index, below ``scaleCount``.
    /// - Returns: The latent, nil for the escape, and its interval.
    package func symbol(
        slot: UInt16,
        mean: Int16,
        scale: UInt8
    ) -> (value: Int16?, interval: Interval) {
        precondition(scale < Self.scaleCount, "a scale index is below 128")
        guard slot != Interval.escape.start else { return (nil, .escape) }
        return withRows { rows in
            let (value, interval) = findSymbol(
                rows,
                slot: UInt32(slot),
                mean: mean,
                scale: scale
            )
            return (value, interval)
        }
    }

    /// Gives `body` the rows as pointers, which are valid during the call.
    func withRows<Result>(_ body: (DistributionRows) -> Result) -> Result {
        edges.withUnsafeBufferPointer { edges in
            centres.withUnsafeBufferPointer { centres in
                windows.withUnsafeBufferPointer { windows in
                    quantiles.withUnsafeBufferPointer { quantiles in
                        guard let edges = edges.baseAddress, let centres = centres.baseAddress,
                            let windows = windows.baseAddress, let quantiles = quantiles.baseAddress
                        else { preconditionFailure("the tables were validated to be non-empty") }
                        return body(
                            DistributionRows(
                                edges: edges,
                                centres: centres,
                                windows: windows,
                                quantiles: quantiles
                            )
                        )
                    }
                }
            }
        }
    }
}

/// Returns the interval of `value`, ``Interval/escape`` where it lies outside the window.
///
/// The caller has checked that `scale` is below 128.
@inline(__always)
func findInterval(
    _ rows: DistributionRows,
    value: Int16,
    mean: Int16,
    scale: UInt8
) -> Interval {
    // μ + 16 = 32·c + (φ + 16): the upper bits are the centre, the lower five name the phase.
    let shifted = Int32(mean) &+ 16
    let bin = Int32(value) &- (shifted >> 5)
    guard bin.magnitude <= UInt32(bitPattern: rows.windows[Int(scale)]) else { return .escape }
    let centre = rows.centres[Int(scale) << 5 | Int(shifted & 31)]
    let (start, end) = loadBin(rows, at: Int(centre &+ bin))
    return Interval(start: start, frequency: end &- start)
}

/// Returns the latent that owns `slot`, which is below 65,535, and its interval.
///
/// The search begins at the quantile of the slot's bucket; all but rare slots are within three bins,
/// where two comparisons without a branch find them. The row's end stops it. The caller has checked
/// that `scale` is below 128.
@inline(__always)
func findSymbol(
    _ rows: DistributionRows,
    slot: UInt32,
    mean: Int16,
    scale: UInt8
) -> (value: Int16, interval: Interval) {
    let shifted = Int32(mean) &+ 16
    let phase = shifted & 31
    let centre = Int(rows.centres[Int(scale) << 5 | Int(phase)])
    let bucket = Int(scale) &* LogisticCDF.bucketCount &+ LogisticCDF.bucket(ofSlot: slot)
    var bin = Int((rows.quantiles[bucket] &+ phase) >> 5)
    while loadEdge(rows, at: centre &+ bin &+ 3) <= slot {
        bin &+= 3
    }
    bin &+=
        (loadEdge(rows, at: centre &+ bin &+ 1) <= slot ? 1 : 0)
        &+ (loadEdge(rows, at: centre &+ bin &+ 2) <= slot ? 1 : 0)
    let (start, end) = loadBin(rows, at: centre &+ bin)
    let value = Int16(truncatingIfNeeded: Int(shifted >> 5) &+ bin)
    return (value, Interval(start: start, frequency: end &- start))
}

/// Returns two neighbouring edges in one load.
@inline(__always)
private func loadBin(_ rows: DistributionRows, at index: Int) -> (start: UInt16, end: UInt16) {
    let pair = UInt32(
        littleEndian: UnsafeRawPointer(rows.edges + index).loadUnaligned(as: UInt32.self)
    )
    return (UInt16(truncatingIfNeeded: pair), UInt16(truncatingIfNeeded: pair >> 16))
}

/// Returns one edge.
@inline(__always)
private func loadEdge(_ rows: DistributionRows, at index: Int) -> UInt32 {
    UInt32(rows.edges[index])
}
