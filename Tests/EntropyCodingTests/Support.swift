import EntropyCoding
import Foundation
import Kernels
import TestSupport

/// The CDF tables of a model file, from the formulas of the format.
struct ModelTables {
    /// s of each scale index, in pixels.
    static let scales = (0..<128).map { 0.05 * pow(64 / 0.05, Double($0) / 127) }

    var logistic = (0...1536).map { index -> Int32 in
        switch index {
        case 0: 0
        case 1536: 65536
        default: Int32((65536 / (1 + exp(-Double(index - 768) / 64))).rounded())
        }
    }
    var inverseScale = scales.map { Int32((65536 * 64 / (32 * $0)).rounded()) }
    var window = scales.map { Int32(max(4, ($0 * 10).rounded(.up))) }

    func makeCDF() throws(LogisticCDF.TableError) -> LogisticCDF {
        try LogisticCDF(logistic: logistic, inverseScale: inverseScale, window: window)
    }

    static let shared = ModelTables()

    /// The distributions that most tests use.
    static let cdf = Result { try shared.makeCDF() }
}

/// Latents with the distributions they are coded under.
struct Latents: Equatable {
    var values: [Int16] = []
    var means: [Int16] = []
    var scales: [UInt8] = []

    mutating func append(_ value: Int, mean: Int, scale: Int) {
        values.append(Int16(value))
        means.append(Int16(mean))
        scales.append(UInt8(scale))
    }

    /// Draws logistic latents, and with a probability of `wildness`/1000 any Int16.
    static func random(
        count: Int,
        wildness: Int = 31,
        using generator: inout SeededGenerator
    ) -> Latents {
        var latents = Latents()
        for _ in 0..<count {
            let scale = Int.random(in: 0..<128, using: &generator)
            let mean = Int.random(in: -8192...8191, using: &generator)
            let quantile = Double.random(in: 0.0001..<0.9999, using: &generator)
            let deviation = ModelTables.scales[scale] * log(quantile / (1 - quantile))
            let value = Int((Double(mean) / 32 + deviation).rounded())
            let isWild = Int.random(in: 0..<1000, using: &generator) < wildness
            latents.append(
                isWild ? Int.random(in: -32768...32767, using: &generator) : value,
                mean: mean,
                scale: scale
            )
        }
        return latents
    }

    func symbols(_ cdf: LogisticCDF, isa: InstructionSet = .reference) -> SymbolSequence {
        values.withUnsafeBufferPointer { values in
            means.withUnsafeBufferPointer { means in
                scales.withUnsafeBufferPointer { scales in
                    SymbolSequence(
                        values: values,
                        means: means,
                        scales: scales,
                        cdf: cdf,
                        isa: isa
                    )
                }
            }
        }
    }

    subscript(_ range: Range<Int>) -> Latents {
        Latents(
            values: Array(values[range]),
            means: Array(means[range]),
            scales: Array(scales[range])
        )
    }
}

/// Encodes passes given in decode order.
func encode(
    _ passes: [Latents],
    _ cdf: LogisticCDF,
    isa: InstructionSet = .reference
) -> [UInt8] {
    let sequences = passes.map { $0.symbols(cdf, isa: isa) }
    var encoder = RANSEncoder(
        capacity: sequences.reduce(0) { $0 + $1.intervals.count + $1.escapes.count },
        isa: isa
    )
    for sequence in sequences.reversed() {
        encoder.push(sequence, at: 0)
    }
    return encoder.finish(lanes: lanes(passes))
}

/// Decodes passes whose distributions are known and returns their values.
func decode(
    _ bytes: [UInt8],
    like passes: [Latents],
    _ cdf: LogisticCDF,
    isa: InstructionSet = .reference
) throws(BitstreamError) -> [[Int16]] {
    var decoder = try RANSDecoder(bytes[...], lanes: lanes(passes), isa: isa)
    var result: [[Int16]] = []
    for pass in passes {
        var values = [Int16](repeating: 0, count: pass.values.count)
        try values.withUnsafeMutableBufferPointer { values throws(BitstreamError) in
            try pass.means.withUnsafeBufferPointer { means throws(BitstreamError) in
                try pass.scales.withUnsafeBufferPointer { scales throws(BitstreamError) in
                    try decoder.decode(values, means: means, scales: scales, cdf: cdf)
                }
            }
        }
        result.append(values)
    }
    try decoder.finish()
    return result
}

private func lanes(_ passes: [Latents]) -> Int {
    RANS.lanes(largestPass: passes.map(\.values.count).max() ?? 0)
}
