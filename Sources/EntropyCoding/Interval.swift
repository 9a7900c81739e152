/// The part of the 2^16 slots that a symbol owns: `start ..< start + frequency`.
///
/// 1 ≤ `frequency` ≤ 65,535 and `start + frequency` ≤ 65,536.
package struct Interval: Equatable, Sendable {
    package let start: UInt16
    package let frequency: UInt16

    package init(start: UInt16, frequency: UInt16) {
        self.start = start
        self.frequency = frequency
    }

    /// The last slot of every distribution; a raw Int16 follows it.
    ///
    /// No other symbol of a distribution starts at 65,535.
    package static let escape = Interval(start: .max, frequency: 1)

    /// The uniform interval of 16 raw bits, which carries an escaped latent.
    package static func raw(_ value: Int16) -> Interval {
        Interval(start: UInt16(bitPattern: value), frequency: 1)
    }

    /// What coding the symbol takes, in 1/256 bit: 256·log₂(65536 / `frequency`), rounded.
    package var cost: UInt32 {
        UInt32(BitCost.ofFrequency[Int(frequency)])
    }
}

/// The information content of interval frequencies, as integers that every machine agrees on.
///
/// The choice between coding and storing an image reads these, so they are part of the format.
package enum BitCost {
    /// Costs by frequency, 65,536 entries, in 1/256 bit, 0…4096; entry 0 is unused.
    static let ofFrequency: [UInt16] = (0..<65536).map { frequency in
        frequency == 0 ? 0 : UInt16((16 * 512 - binaryLogarithm(UInt64(frequency))) >> 1)
    }

    /// Costs of the frequencies 2^15…2^16 − 1 in little space: one entry for each 64 of them.
    ///
    /// Among 64 frequencies the cost falls at most once, by 1. The entry 64·c + r says that it is c
    /// for the first r + 1, so that it is (entry − i) >> 6 for frequency i. Halving a frequency adds
    /// 256 to its cost.
    package static let steps: [Int32] = stride(from: 1 << 15, to: 1 << 16, by: 64).map { first in
        let cost = ofFrequency[first]
        let same = ofFrequency[first..<first + 64].prefix { $0 == cost }
        return 64 * Int32(cost) + Int32(same.count - 1)
    }

    /// Returns log₂ of `value` in 1/512, rounded down; `value` is in 1…65,535.
    ///
    /// The classic digit recurrence: square the mantissa (31 fraction bits, truncated); a carry
    /// into the next power of two is the next binary digit of the logarithm.
    private static func binaryLogarithm(_ value: UInt64) -> Int {
        var logarithm = 63 - value.leadingZeroBitCount
        var mantissa = value << (31 - logarithm)
        for _ in 0..<9 {
            mantissa = (mantissa * mantissa) >> 31
            let digit = Int(mantissa >> 32)
            mantissa >>= digit
            logarithm = logarithm << 1 | digit
        }
        return logarithm
    }
}
