import EntropyCoding
import Foundation
import Kernels
import TestSupport
import Testing

@Suite struct LogisticCDFTests {
    let tables = ModelTables()
    let cdf: LogisticCDF

    init() throws {
        cdf = try ModelTables.cdf.get()
    }

    @Test(arguments: InstructionSet.supported)
    func everyRowIsTheDefinitionAndFillsAllSlots(isa: InstructionSet) {
        for scale in 0..<128 {
            let window = Int(tables.window[scale])
            for phase in -16..<16 {
                let centre = 7 * phase
                var row = Latents()
                for bin in -window - 1...window + 1 {
                    row.append(centre + bin, mean: 32 * centre + phase, scale: scale)
                }

                let intervals = row.symbols(cdf, isa: isa).intervals

                let edges = definition(phase: phase, scale: scale)
                let expected = zip(edges, edges.dropFirst()).map { start, end in
                    end > start
                        ? Interval(start: UInt16(start), frequency: UInt16(end - start)) : nil
                }
                #expect(edges.first == 0 && edges.last == 65535)
                let isEqual = intervals == [.escape] + expected + [.escape]
                #expect(isEqual, "scale \(scale), phase \(phase)")
            }
        }
    }

    @Test(arguments: [0, 40, 64, 101, 127])
    func everySlotHasOneOwner(scale: Int) {
        for phase in [-16, 3] {
            let mean = Int16(32 * 9 + phase)
            var slot = 0
            var isInverse = true
            while slot < 65536 {
                let (value, interval) = cdf.symbol(
                    slot: UInt16(slot),
                    mean: mean,
                    scale: UInt8(scale)
                )
                isInverse = isInverse && slot == Int(interval.start)
                if let value {
                    let mirror = cdf.interval(value: value, mean: mean, scale: UInt8(scale))
                    isInverse = isInverse && interval == mirror
                } else {
                    isInverse = isInverse && interval == .escape
                }
                let end = slot + Int(interval.frequency)
                // Every slot of an interval has the same owner; long ones are sampled.
                for other in stride(from: slot, to: end, by: max(1, (end - slot) / 61)) {
                    let found = cdf.symbol(slot: UInt16(other), mean: mean, scale: UInt8(scale))
                    isInverse = isInverse && found.value == value && found.interval == interval
                }
                slot = end
            }
            #expect(isInverse, "scale \(scale), phase \(phase)")
            #expect(slot == 65536)
        }
    }

    @Test func slotsOfEveryRowLeadBackToTheirInterval() {
        let seed: UInt64 = 0x51_07
        var generator = SeededGenerator(seed: seed)
        for scale in 0..<128 as Range<UInt8> {
            for phase in -16..<16 as Range<Int16> {
                let mean = 32 * Int16.random(in: -1023...1022, using: &generator) + phase
                var slots = (0..<6).map { _ in UInt16.random(in: 0...65534, using: &generator) }
                slots += [0, 65534]
                let isInverse = slots.allSatisfy { slot in
                    let (value, interval) = cdf.symbol(slot: slot, mean: mean, scale: scale)
                    guard let value else { return false }
                    return interval == cdf.interval(value: value, mean: mean, scale: scale)
                        && slot >= interval.start && slot - interval.start < interval.frequency
                }
                #expect(isInverse, "seed \(seed), scale \(scale), phase \(phase)")
            }
        }
    }

    @Test(arguments: InstructionSet.supported)
    func latentsOutsideTheWindowEscapeWithoutOverflow(isa: InstructionSet) {
        for scale in [0, 127] as [UInt8] {
            for mean in [.min, -1, 0, .max] as [Int16] {
                for value in [.min, .max] as [Int16] {
                    #expect(cdf.interval(value: value, mean: mean, scale: scale) == nil)
                }
            }
        }
        #expect(cdf.symbol(slot: 65535, mean: 5, scale: 7) == (nil, .escape))

        var extremes = Latents()
        extremes.append(-32768, mean: 32767, scale: 0)
        extremes.append(32767, mean: -32768, scale: 127)
        let symbols = extremes.symbols(cdf, isa: isa)
        #expect(symbols.intervals == [.escape, .escape])
        #expect(symbols.escapes == [.min, .max])
        #expect(symbols.cost == 2 * 32 * 256)
    }

    @Test func meansAtTheEndsOfInt16HaveWholeWindows() {
        for mean in [.min, .max] as [Int16] {
            let centre: Int16 = mean < 0 ? -1024 : 1024
            for value in [centre - 640, centre, centre + 640] {
                #expect(cdf.interval(value: value, mean: mean, scale: 127) != nil)
            }
            #expect(cdf.interval(value: centre + 641, mean: mean, scale: 127) == nil)
            #expect(cdf.symbol(slot: 0, mean: mean, scale: 127).value == centre - 640)
            #expect(cdf.symbol(slot: 65534, mean: mean, scale: 127).value == centre + 640)
        }
    }

    @Test func codingCostsLessThanAThousandthBitAboveTheExactLogistic() {
        var excesses: [Double] = []
        for scale in 0..<128 {
            var excess = 0.0
            var entropy = 0.0
            for phase in [-16, -5, 6] {
                let exact = exactLogistic(phase: phase, scale: scale)
                var bins = Latents()
                for (bin, _) in exact {
                    bins.append(bin, mean: phase, scale: scale)
                }
                for (interval, (_, probability)) in zip(bins.symbols(cdf).intervals, exact) {
                    let bits = Double(interval.cost) / 256 + (interval == .escape ? 16 : 0)
                    excess += probability * (bits + log2(probability))
                    entropy -= probability * log2(probability)
                }
            }
            // Besides 1/1000 of the entropy, the rounding of costs to 1/256 bit.
            #expect(excess / 3 < 0.001 * entropy / 3 + 1 / 512, "scale \(scale)")
            excesses.append(excess / 3)
        }

        // Up to 8 pixels, where nearly all latents of images are.
        let mean = excesses[...90].reduce(0, +) / 91
        #expect(mean < 0.001)
    }

    @Test func costIsTheLogarithmOfTheFrequency() {
        let isExact = (1...65535).allSatisfy { frequency in
            let interval = Interval(start: 0, frequency: UInt16(frequency))
            return abs(Double(interval.cost) - 256 * (16 - log2(Double(frequency)))) < 0.501
        }
        #expect(isExact)
        #expect(Interval.escape.cost == 4096)
        #expect(Interval(start: 0, frequency: 32768).cost == 256)
    }

    @Test(arguments: InstructionSet.supported)
    func sequenceCostIsTheSumOfItsSymbols(isa: InstructionSet) {
        let seed: UInt64 = 77
        var generator = SeededGenerator(seed: seed)
        let symbols = Latents.random(count: 500, using: &generator).symbols(cdf, isa: isa)

        let sum = symbols.intervals.reduce(0) { $0 + UInt64($1.cost) }
        #expect(!symbols.escapes.isEmpty)
        #expect(symbols.cost == sum + UInt64(symbols.escapes.count) * 4096, "seed \(seed)")
    }

    // MARK: - What the tests compare with

    /// C(−W) … C(W + 1) as the format states them.
    private func definition(phase: Int, scale: Int) -> [Int] {
        let window = Int(tables.window[scale])
        let inverseScale = Int(tables.inverseScale[scale])
        let symbolCount = 2 * window + 2
        return (-window...window + 1).map { bin in
            if bin == -window { return 0 }
            if bin == window + 1 { return 65535 }
            let position = (32 * bin - 16 - phase) * inverseScale
            let step = (position >> 16) + 768
            let sigma: Int
            if step < 0 {
                sigma = 0
            } else if step >= 1536 {
                sigma = 65536
            } else {
                let (low, high) = (Int(tables.logistic[step]), Int(tables.logistic[step + 1]))
                sigma = low + (((high - low) * (position & 0xffff)) >> 16)
            }
            return ((sigma * (65536 - symbolCount)) >> 16) + bin + window
        }
    }

    /// The bins around 0 that have a probability above 2^-60, with it.
    private func exactLogistic(phase: Int, scale: Int) -> [(bin: Int, probability: Double)] {
        let deviation = ModelTables.scales[scale]
        func sigma(_ x: Double) -> Double { 1 / (1 + exp(-x)) }
        let reach = 4 * Int(tables.window[scale])
        return (-reach...reach).compactMap { bin in
            let middle = abs(Double(bin) - Double(phase) / 32)
            // On the lower side, where differences of σ keep their digits.
            let probability =
                sigma((0.5 - middle) / deviation) - sigma((-0.5 - middle) / deviation)
            return probability > 0x1p-60 ? (bin, probability) : nil
        }
    }
}

@Suite struct TableValidationTests {
    @Test func tablesOfTheFormatAreAccepted() throws {
        _ = try ModelTables().makeCDF()
    }

    @Test(arguments: [
        Fault("logistic", .count, 1536) { $0.logistic.removeLast() },
        Fault("logistic", .range, 0) { $0.logistic[0] = 1 },
        Fault("logistic", .range, 1536) { $0.logistic[1536] = 65535 },
        Fault("logistic", .range, 900) { $0.logistic[900] = 65537 },
        Fault("logistic", .decreasing, 769) { $0.logistic[769] = $0.logistic[768] - 1 },
        Fault("logistic", .decreasing, 1) { $0.logistic[1] = -1 },
        Fault("inverse_scale", .count, 129) { $0.inverseScale.append(1) },
        Fault("inverse_scale", .range, 3) { $0.inverseScale[3] = 0 },
        Fault("inverse_scale", .range, 0) { $0.inverseScale[0] = .max },
        Fault("inverse_scale", .range, 5) { $0.window[5] = 40 },
        Fault("window", .count, 0) { $0.window = [] },
        Fault("window", .range, 7) { $0.window[7] = 0 },
        Fault("window", .range, 127) { $0.window[127] = 4097 },
        Fault("window", .range, 9) { $0.window[9] = .min },
    ])
    func aBadTableIsNamed(fault: Fault) {
        var tables = ModelTables()
        fault.inject(&tables)

        #expect(throws: fault.error) { try tables.makeCDF() }
    }

    @Test func theLargestWindowIsAccepted() throws {
        var tables = ModelTables()
        tables.window[127] = Int32(LogisticCDF.maximumWindow)

        let cdf = try tables.makeCDF()

        #expect(cdf.interval(value: 4096, mean: 0, scale: 127) != nil)
        #expect(cdf.interval(value: 4097, mean: 0, scale: 127) == nil)
        #expect(cdf.symbol(slot: 65534, mean: 32767, scale: 127).value == Int16(5120))
    }

    struct Fault: Sendable, CustomTestStringConvertible {
        let error: LogisticCDF.TableError
        let inject: @Sendable (inout ModelTables) -> Void

        init(
            _ tensor: String,
            _ reason: LogisticCDF.TableError.Reason,
            _ index: Int,
            _ inject: @escaping @Sendable (inout ModelTables) -> Void
        ) {
            error = LogisticCDF.TableError(tensor: "cdf.\(tensor)", reason: reason, index: index)
            self.inject = inject
        }

        var testDescription: String { "\(error)" }
    }
}
