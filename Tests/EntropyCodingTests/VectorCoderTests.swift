import CKernelABI
import EntropyCoding
import Kernels
import TestSupport
import Testing

/// Every instruction set against the scalar loops.
@Suite struct VectorCoderTests {
    let cdf: LogisticCDF

    init() throws {
        cdf = try ModelTables.cdf.get()
    }

    @Test(arguments: InstructionSet.supported)
    func anyNumberOfSymbolsGivesTheSameBytesAndComesBack(isa: InstructionSet) {
        for count in 0...100 {
            var generator = SeededGenerator(seed: UInt64(count))
            for wildness in [0, 10] {
                let passes = [count, 40, count / 3].map {
                    Latents.random(count: $0, wildness: wildness, using: &generator)
                }
                compare(passes, cdf, isa, "\(count) symbols, wildness \(wildness)")
            }
        }
    }

    @Test(arguments: InstructionSet.supported)
    func everyScaleAndPhaseGivesTheSameBytesAndComesBack(isa: InstructionSet) {
        for scale in 0..<128 {
            var generator = SeededGenerator(seed: UInt64(scale))
            var latents = Latents.random(count: 3000, wildness: 0, using: &generator)
            for index in latents.values.indices {
                let centre = (Int(latents.means[index]) + 16) >> 5
                let mean = 32 * centre + index % 32 - 16
                // Half of them anywhere in the window, mostly in slots that few symbols own.
                let reach = Int(ModelTables.shared.window[scale])
                let far = Int.random(in: -reach...reach, using: &generator)
                latents.values[index] = Int16(centre + (index % 2 == 0 ? far : far % 4))
                latents.means[index] = Int16(mean)
                latents.scales[index] = UInt8(scale)
            }
            compare([latents], cdf, isa, "scale \(scale)")
        }
    }

    @Test(arguments: [1, Int32(LogisticCDF.maximumWindow)], InstructionSet.supported)
    func windowsAtTheirLimitsGiveTheSameBytes(window: Int32, isa: InstructionSet) throws {
        var tables = ModelTables()
        for scale in 120..<128 { tables.window[scale] = window }
        let cdf = try tables.makeCDF()
        var generator = SeededGenerator(seed: UInt64(window))
        var latents = Latents()
        for _ in 0..<20000 {
            let mean = Int.random(in: -32768...32767, using: &generator)
            let reach = Int(window) + (Int.random(in: 0..<500, using: &generator) == 0 ? 1 : 0)
            let value = (mean + 16) >> 5 + Int.random(in: -reach...reach, using: &generator)
            latents.append(value, mean: mean, scale: Int.random(in: 120..<128, using: &generator))
        }

        compare([latents], cdf, isa, "window \(window)")
    }

    @Test(arguments: InstructionSet.supported)
    func anEscapeInAnyLaneGivesTheSameBytesAndComesBack(isa: InstructionSet) {
        for lane in 0..<32 {
            var generator = SeededGenerator(seed: UInt64(lane))
            var latents = Latents.random(count: 200, wildness: 0, using: &generator)
            for index in [lane, 96 + lane, 96 + (lane + 1) % 32] {
                latents.values[index] = latents.means[index] < 0 ? 32000 : -32000
            }
            compare([latents], cdf, isa, "lane \(lane)")
        }
    }

    @Test(arguments: InstructionSet.supported)
    func partsOfAPassMayBeginInAnyLane(isa: InstructionSet) {
        for cut in 0...70 {
            var generator = SeededGenerator(seed: UInt64(cut))
            let latents = Latents.random(count: 150, wildness: 5, using: &generator)
            func stream(_ isa: InstructionSet) -> [UInt8] {
                var encoder = RANSEncoder(capacity: 300, isa: isa)
                encoder.push(latents[cut + 40..<150].symbols(cdf, isa: isa), at: cut + 40)
                encoder.push(latents[cut..<cut + 40].symbols(cdf, isa: isa), at: cut)
                encoder.push(latents[0..<cut].symbols(cdf, isa: isa), at: 0)
                return encoder.finish(lanes: 32)
            }
            let isEqual = stream(isa) == stream(.reference)
            #expect(isEqual, "cut at \(cut)")
        }
    }

    @Test(arguments: InstructionSet.supported)
    func damageHasTheSameOutcome(isa: InstructionSet) {
        var generator = SeededGenerator(seed: 31)
        let passes = [100, 700].map {
            Latents.random(count: $0, wildness: 2, using: &generator)
        }
        let bytes = encode(passes, cdf)
        for _ in 0..<1500 {
            var damaged = bytes
            for _ in 0..<Int.random(in: 0...2, using: &generator) {
                let offset = Int.random(in: 0..<damaged.count, using: &generator)
                damaged[offset] = UInt8.random(in: 0...255, using: &generator)
            }
            if Bool.random(using: &generator) {
                damaged.removeLast(Int.random(in: 0..<damaged.count, using: &generator))
            }
            let isEqual = outcome(damaged, passes, isa) == outcome(damaged, passes, .reference)
            #expect(isEqual, "\(damaged.count) bytes")
        }
    }

    /// Quotients that are whole, just below and just above, from small to large, of every frequency.
    @Test(arguments: InstructionSet.supported)
    func everyDivisionIsExact(isa: InstructionSet) throws {
        guard let coder = VectorCoder(isa) else { return }
        var generator = SeededGenerator(seed: 9)
        var wrong: [Int] = []
        for frequency in 1...65535 {
            let start = Int.random(in: 0...65535 - frequency, using: &generator)
            let interval = UInt32(frequency << 16 | start)
            var states = (0..<32).map { lane in
                let quotient =
                    lane < 24
                    ? 65536 >> (lane / 3 * 2) : Int.random(in: 1...65536, using: &generator)
                return UInt32(clamping: max(65536, quotient * frequency + lane % 3 - 1))
            }
            let expected = states.map { state in
                let x = Int(state) >> 16 >= frequency ? Int(state) >> 16 : Int(state)
                return UInt32((x / frequency) << 16 + x % frequency + start)
            }
            var words = [UInt16](repeating: 0, count: 64)
            var (count, firstWord) = (32, 64)
            coder.encode(
                [UInt32](repeating: interval, count: 32),
                count: &count,
                firstLane: 0,
                states: &states,
                words: &words,
                firstWord: &firstWord
            )
            // Up to 16 words before the first one may be overwritten.
            let isOverrun = words[..<(firstWord - 16)].contains { $0 != 0 }
            if count != 0 || states != expected || isOverrun { wrong.append(frequency) }
        }
        #expect(wrong.isEmpty)
    }

    @Test(arguments: InstructionSet.supported)
    func everyFrequencyHasItsCost(isa: InstructionSet) {
        guard let coder = VectorCoder(isa) else { return }
        let wrong = (1...65533).filter { frequency in
            // A row of the bins −1, 0 and 1, and latents in the first of them.
            let edges = [0, UInt16(frequency), UInt16(frequency + 1), 65535]
            let interval = Interval(start: 0, frequency: UInt16(frequency))
            return withRow(edges) { distributions in
                var found = [Interval](repeating: .escape, count: 16)
                let (count, cost, escapes) = coder.findIntervals(
                    [Int16](repeating: -1, count: 16),
                    distributions,
                    costs: BitCost.steps,
                    intervals: &found
                )
                return count != 16 || cost != 16 * interval.cost || escapes != 0
                    || found != [Interval](repeating: interval, count: 16)
            }
        }
        #expect(wrong.isEmpty)
    }

    // MARK: - What the tests compare with

    /// Gives `body` 16 latents with mean 0, whose row has the window 1 and these edges.
    private func withRow<Result>(_ edges: [UInt16], _ body: (Distributions) -> Result) -> Result {
        edges.withUnsafeBufferPointer { edges in
            withUnsafeTemporaryAllocation(of: Int32.self, capacity: 32) { ones in
                ones.initialize(repeating: 1)
                return withUnsafeTemporaryAllocation(of: Int16.self, capacity: 16) { zeros in
                    zeros.initialize(repeating: 0)
                    return body(
                        Distributions(
                            rows: DistributionRows(
                                edges: edges.baseAddress.unsafelyUnwrapped,
                                centres: UnsafePointer(ones.baseAddress.unsafelyUnwrapped),
                                windows: UnsafePointer(ones.baseAddress.unsafelyUnwrapped),
                                quantiles: UnsafePointer(ones.baseAddress.unsafelyUnwrapped)
                            ),
                            means: UnsafePointer(zeros.baseAddress.unsafelyUnwrapped),
                            scales: UnsafeRawPointer(zeros.baseAddress.unsafelyUnwrapped)
                                .assumingMemoryBound(to: UInt8.self),
                            count: 16
                        )
                    )
                }
            }
        }
    }

    private func compare(
        _ passes: [Latents],
        _ cdf: LogisticCDF,
        _ isa: InstructionSet,
        _ comment: Comment
    ) {
        for pass in passes {
            let isEqual = pass.symbols(cdf, isa: isa) == pass.symbols(cdf)
            #expect(isEqual, comment)
        }
        let bytes = encode(passes, cdf)
        let isEqual = encode(passes, cdf, isa: isa) == bytes
        #expect(isEqual, comment)
        let isRestored = (try? decode(bytes, like: passes, cdf, isa: isa)) == passes.map(\.values)
        #expect(isRestored, comment)
    }

    private func outcome(
        _ bytes: [UInt8],
        _ passes: [Latents],
        _ isa: InstructionSet
    ) -> Result<[[Int16]], BitstreamError> {
        Result { () throws(BitstreamError) in try decode(bytes, like: passes, cdf, isa: isa) }
    }
}
