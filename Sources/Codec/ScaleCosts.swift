package import EntropyCoding

/// What latents cost at every scale, by their distance from the mean: a table that is close enough to
/// choose among scales, and far cheaper than the intervals of all latents at each of them.
package struct ScaleCosts: Sendable {
    /// The cost of a latent in 1/256 bit, that of its bucket's middle: `[scale][bucket]`.
    private let costs: [Int16]

    /// Expands a model's distributions.
    package init(_ cdf: LogisticCDF) {
        let distances = DistanceCounts.middles.map(Int32.init)
        costs = (0..<LogisticCDF.scaleCount).flatMap { scale in
            distances.map { distance in
                // The latent v and the mean 32·v − distance, next to 0.
                let value = (distance + 31) >> 5
                let cost = cdf.cost(
                    value: Int16(value),
                    mean: Int16(32 * value - distance),
                    scale: UInt8(scale)
                )
                return Int16(cost)
            }
        }
    }

    /// Estimates what coding latents takes with all scale indices moved.
    ///
    /// - Parameters:
    ///   - latents: The latents.
    ///   - shift: What is added to their scale indices; sums stay within 0…127.
    /// - Returns: The cost in 1/256 bit; the same integer on every machine.
    package func cost(_ latents: DistanceCounts, shift: Int16) -> UInt64 {
        typealias Vector = SIMD8<Int16>
        return latents.withRows { row, counts in
            let scale = correctScale(UInt8(row), by: shift)
            return costs.withUnsafeBytes { costs in
                let first = Int(scale) * DistanceCounts.buckets * MemoryLayout<Int16>.size
                var sums = SIMD8<Int32>.zero
                for offset in stride(from: 0, to: counts.count, by: MemoryLayout<Vector>.size) {
                    let count = counts.loadUnaligned(fromByteOffset: offset, as: Vector.self)
                    let cost = costs.loadUnaligned(fromByteOffset: first + offset, as: Vector.self)
                    sums &+= SIMD8(truncatingIfNeeded: count) &* SIMD8(truncatingIfNeeded: cost)
                }
                return UInt64(sums.wrappedSum())
            }
        }
    }
}

/// How many latents of a channel lie how far from their means, for each scale.
///
/// Distances are in 1/32 pixel. Their buckets grow with them: 16 + distance has eight for each power
/// of two.
package struct DistanceCounts {
    /// Buckets of a scale, of which the last few stay empty.
    static let buckets = 128

    /// The latents that can be counted.
    package static let limit = Int(Int16.max)

    /// Larger distances, which hardly a window holds, are counted as this one.
    private static let largestDistance: Int32 = 1 << 17 - 1

    /// `[scale][bucket]`.
    private var counts = [Int16](repeating: 0, count: LogisticCDF.scaleCount * buckets)

    /// The scales that occur.
    private var scales: [Int] = []

    /// The buckets that occur lie below this one.
    private var endBucket = 0

    /// Counts a channel, of so many, at every n-th position: at most ``limit`` latents.
    package init(_ latents: PassLatents, channel: Int, of channels: Int, every step: Int) {
        var occurs = [Bool](repeating: false, count: LogisticCDF.scaleCount)
        counts.withUnsafeMutableBufferPointer { counts in
            occurs.withUnsafeMutableBufferPointer { occurs in
                var index = channel
                while index < latents.values.count {
                    let mean = Int32(latents.means[index])
                    let distance = abs(32 &* Int32(latents.values[index]) &- mean)
                    let scale = Int(latents.scales[index])
                    let bucket = Self.bucket(distance)
                    occurs[scale] = true
                    endBucket = max(endBucket, bucket &+ 1)
                    counts[scale &* Self.buckets &+ bucket] &+= 1
                    index &+= channels &* step
                }
            }
        }
        scales = occurs.indices.filter { occurs[$0] }
    }

    /// Sums what `body` makes of the counts of each scale that occurs, up to a multiple of 8 buckets.
    func withRows(_ body: (_ scale: Int, _ counts: UnsafeRawBufferPointer) -> UInt64) -> UInt64 {
        counts.withUnsafeBytes { counts in
            let size = (endBucket + 7) / 8 * 8 * MemoryLayout<Int16>.size
            return scales.reduce(0) { sum, scale in
                let first = scale * Self.buckets * MemoryLayout<Int16>.size
                return sum
                    + body(scale, UnsafeRawBufferPointer(rebasing: counts[first..<first + size]))
            }
        }
    }

    /// The bucket of a distance, which is not negative.
    @inline(__always)
    private static func bucket(_ distance: Int32) -> Int {
        // Exponent and first three bits behind it; 0x418 are those of 16.
        Int(Float(min(distance, largestDistance) &+ 16).bitPattern >> 20) &- 0x418
    }

    /// The middle distance of each bucket.
    static let middles: [Int] = (0..<buckets).map { bucket in
        let first = Int(Float(bitPattern: UInt32(bucket + 0x418) << 20))
        let next = Int(Float(bitPattern: UInt32(bucket + 0x419) << 20))
        return min((first + next - 1) / 2 - 16, Int(largestDistance))
    }
}
