import EntropyCoding
import Kernels
import TestSupport
import Testing

@Suite struct RANSTests {
    let cdf: LogisticCDF

    init() throws {
        cdf = try ModelTables.cdf.get()
    }

    @Test(
        arguments: [[0], [1], [31], [32], [33], [64, 1, 0, 65], [5, 7], [3, 33, 2000]],
        InstructionSet.supported
    )
    func passesComeBackAndTheStreamIsTheDefinition(sizes: [Int], isa: InstructionSet) throws {
        for seed in 1...8 as ClosedRange<UInt64> {
            var generator = SeededGenerator(seed: seed)
            let passes = sizes.map { Latents.random(count: $0, using: &generator) }

            let bytes = encode(passes, cdf, isa: isa)

            let isDefinition = bytes == definition(passes)
            #expect(isDefinition, "seed \(seed)")
            let values = try decode(bytes, like: passes, cdf, isa: isa)
            let isEqual = values == passes.map(\.values)
            #expect(isEqual, "seed \(seed)")
        }
    }

    @Test(arguments: InstructionSet.supported)
    func anEmptyBlockIsAnEmptyStream(isa: InstructionSet) throws {
        #expect(encode([], cdf, isa: isa).isEmpty)
        #expect(encode([Latents(), Latents()], cdf, isa: isa).isEmpty)
        #expect(try decode([], like: [Latents()], cdf, isa: isa) == [[]])
    }

    @Test(arguments: InstructionSet.supported)
    func aStreamOfEscapesTakesTwoWordsEach(isa: InstructionSet) throws {
        var escapes = Latents()
        for value in stride(from: -32768, through: 32767, by: 655) {
            escapes.append(value, mean: value < 0 ? 20000 : -20000, scale: 3)
        }

        let bytes = encode([escapes], cdf, isa: isa)

        #expect(escapes.symbols(cdf, isa: isa).escapes == escapes.values)
        #expect(bytes.count == 4 * 32 + 4 * escapes.values.count)
        #expect(try decode(bytes, like: [escapes], cdf, isa: isa) == [escapes.values])
    }

    @Test(arguments: InstructionSet.supported)
    func aPassMayBePushedInParts(isa: InstructionSet) {
        let seed: UInt64 = 4
        var generator = SeededGenerator(seed: seed)
        let pass = Latents.random(count: 200, using: &generator)
        let cuts = [0, 17, 17, 64, 131, 200]

        var encoder = RANSEncoder(capacity: 400, isa: isa)
        for (start, end) in zip(cuts, cuts.dropFirst()).reversed() {
            encoder.push(pass[start..<end].symbols(cdf, isa: isa), at: start)
        }
        let bytes = encoder.finish(lanes: 32)

        let isEqual = bytes == encode([pass], cdf, isa: isa)
        #expect(isEqual, "seed \(seed)")
    }

    @Test func sizeOfTheStreamIsItsCost() {
        let seed: UInt64 = 12
        var generator = SeededGenerator(seed: seed)
        let pass = Latents.random(count: 20000, using: &generator)

        let bits = Double(encode([pass], cdf).count * 8)
        let cost = Double(pass.symbols(cdf).cost) / 256

        // The states carry 16 to 32 bits per lane; renormalisation loses 0.005 bit per symbol.
        #expect(bits > cost)
        #expect(bits < cost + 0.006 * 20000 + 32 * 32, "seed \(seed)")
    }

    /// These bytes are the format: if they change, streams that exist can no longer be read.
    @Test(arguments: InstructionSet.supported)
    func theGoldenStreamNeverChanges(isa: InstructionSet) throws {
        var first = Latents()
        for index in 0..<35 {
            first.append(
                (index * index) % 23 - 11,
                mean: (index * 13) % 64 - 32,
                scale: 3 * index + 20
            )
        }
        var second = Latents()
        second.append(-32768, mean: 0, scale: 0)
        second.append(1000, mean: 32000, scale: 90)
        second.append(32767, mean: -7, scale: 127)
        second.append(0, mean: 0, scale: 64)

        let golden = [
            "ffff1501ffff5114ffff880107009318feff0100ffff0100d7fe8e00ffff0100",
            "ffff0100197a030096100b0053035800d8024b00b616110011930600a9fb7300",
            "c60740002cb10c004f0c40006fc214007f6f1200853a1e00482c2c00f02f3200",
            "4d3a3200845e2d0030773200f0933d00fd5e4b00b0835300bb6e64005a8f7700",
            "f5ff3182f6ff737bf9ff4c780000f7ff0000f8ff00000700000000800000ff7f",
            "0000",
        ].joined()
        #expect(hexadecimal(encode([first, second], cdf, isa: isa)) == golden)
        #expect(
            try decode(bytes(golden), like: [first, second], cdf, isa: isa)
                == [first.values, second.values]
        )
    }

    // MARK: - Damage

    @Test(arguments: InstructionSet.supported)
    func aStreamCutAnywhereIsAnError(isa: InstructionSet) {
        var generator = SeededGenerator(seed: 21)
        let passes = [40, 90].map { Latents.random(count: $0, using: &generator) }
        let bytes = encode(passes, cdf, isa: isa)

        for count in bytes.indices {
            #expect(throws: BitstreamError.self) {
                try decode(Array(bytes[..<count]), like: passes, cdf, isa: isa)
            }
        }
    }

    @Test(arguments: InstructionSet.supported)
    func aChangedByteIsAnErrorOrOtherLatents(isa: InstructionSet) {
        var generator = SeededGenerator(seed: 22)
        let passes = [40, 90].map { Latents.random(count: $0, using: &generator) }
        let bytes = encode(passes, cdf, isa: isa)

        var errors = 0
        for offset in bytes.indices {
            for mask in [0x01, 0x80, 0xff] as [UInt8] {
                var changed = bytes
                changed[offset] ^= mask
                do throws(BitstreamError) {
                    let values = try decode(changed, like: passes, cdf, isa: isa)
                    #expect(values != passes.map(\.values), "offset \(offset), mask \(mask)")
                } catch {
                    errors += 1
                    #expect((0...bytes.count).contains(error.byteOffset))
                }
            }
        }
        #expect(errors > bytes.count * 3 * 9 / 10)
    }

    @Test(arguments: InstructionSet.supported)
    func noiseNeverTraps(isa: InstructionSet) {
        for seed in 100..<160 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            let count = Int.random(in: 0...400, using: &generator)
            let passes = [50, 64].map { Latents.random(count: $0, using: &generator) }
            var noise = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
            // Most lanes shall be valid, so that decoding gets far.
            for lane in 0..<min(32, count / 4) {
                noise[4 * lane + 3] |= 0x80
            }

            #expect(throws: BitstreamError.self, "seed \(seed)") {
                try decode(noise, like: passes, cdf, isa: isa)
            }
        }
    }

    @Test(arguments: InstructionSet.supported)
    func errorsNameTheReasonAndThePlace(isa: InstructionSet) {
        var one = Latents()
        one.append(0, mean: 0, scale: 40)
        let bytes = encode([one], cdf, isa: isa)
        #expect(bytes.count == 4)

        func error(_ bytes: [UInt8]) -> BitstreamError? {
            #expect(throws: BitstreamError.self) { try decode(bytes, like: [one], cdf, isa: isa) }
        }
        #expect(error([]) == BitstreamError(.truncated, byteOffset: 0))
        #expect(error(Array(bytes[..<3])) == BitstreamError(.truncated, byteOffset: 3))
        #expect(error(bytes + [0]) == BitstreamError(.truncated, byteOffset: 5))
        #expect(error(bytes + [0, 0]) == BitstreamError(.trailingBytes, byteOffset: 4))
        #expect(error([0xff, 0xff, 0, 0]) == BitstreamError(.invalidState, byteOffset: 0))
        #expect(error([0, 0, 0, 0x80]) == BitstreamError(.finalStateMismatch, byteOffset: 0))
        #expect(
            error([0xff, 0xff, 1, 0]) == BitstreamError(.truncated, byteOffset: 4)
        )
    }

    // MARK: - What the tests compare with

    /// The stream as the format states it, one operation after another on plain integers.
    private func definition(_ passes: [Latents]) -> [UInt8] {
        var states = [Int](repeating: 65536, count: 32)
        var words: [Int] = []
        func push(_ interval: Interval, _ lane: Int) {
            let frequency = Int(interval.frequency)
            if states[lane] >= frequency << 16 {
                words.insert(states[lane] & 0xffff, at: 0)
                states[lane] >>= 16
            }
            let (quotient, remainder) = states[lane].quotientAndRemainder(dividingBy: frequency)
            states[lane] = quotient << 16 + remainder + Int(interval.start)
        }
        for pass in passes.reversed() {
            for index in pass.values.indices.reversed() {
                let interval = cdf.interval(
                    value: pass.values[index],
                    mean: pass.means[index],
                    scale: pass.scales[index]
                )
                if interval == nil {
                    let bits = UInt16(bitPattern: pass.values[index])
                    push(Interval(start: bits, frequency: 1), index % 32)
                }
                push(interval ?? Interval(start: 65535, frequency: 1), index % 32)
            }
        }
        let lanes = min(32, passes.map(\.values.count).max() ?? 0)
        return states[..<lanes].flatMap { state in
            [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: state >> $0) }
        } + words.flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }
    }
}

private func hexadecimal(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef")
    return String(bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
}

private func bytes(_ hexadecimal: String) -> [UInt8] {
    let digits = hexadecimal.compactMap { $0.hexDigitValue }
    return stride(from: 0, to: digits.count, by: 2).map {
        UInt8(digits[$0] << 4 | digits[$0 + 1])
    }
}
