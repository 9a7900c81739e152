import Kernels
import Testing

@Test func supportedSetsAscendAndStartWithTheReference() {
    let supported = InstructionSet.supported
    #expect(supported.first == .reference)
    #expect(supported == InstructionSet.allCases.filter(supported.contains))
    #expect(supported.last == .best)
}

@Test(arguments: InstructionSet.supported)
func aSupportedSetCanBeForced(_ isa: InstructionSet) throws {
    #expect(try InstructionSet.selected(environment: ["FLOWPACK_ISA": isa.rawValue]) == isa)
}

@Test func theBestSetIsSelectedUnlessOneIsForced() throws {
    #expect(try InstructionSet.selected(environment: [:]) == .best)
    #expect(try InstructionSet.selected(environment: ["FLOWPACK_ISA": ""]) == .best)
}

@Test func anUnknownSetIsAnErrorThatListsTheAvailableOnes() {
    let error = #expect(throws: InstructionSetError.self) {
        try InstructionSet.selected(environment: ["FLOWPACK_ISA": "AVX-9"])
    }
    #expect(error?.reason == .unknown)
    let names = InstructionSet.supported.map(\.rawValue).joined(separator: ", ")
    #expect(
        error?.description == "FLOWPACK_ISA=AVX-9 is not an instruction set; available: \(names)"
    )
}

@Test(arguments: InstructionSet.allCases.filter { !InstructionSet.supported.contains($0) })
func aSetThatTheProcessorLacksIsAnError(_ isa: InstructionSet) {
    let error = #expect(throws: InstructionSetError.self) {
        try InstructionSet.selected(environment: ["FLOWPACK_ISA": isa.rawValue])
    }
    #expect(error?.reason == .unavailable)
}

@Test(arguments: InstructionSet.supported)
func theVerifierIsTheFastestOtherSet(_ isa: InstructionSet) {
    let others = InstructionSet.supported.filter { $0 != isa }
    #expect(isa.verifier == others.last ?? .reference)
}

@Test(arguments: InstructionSet.supported.filter { $0 != .reference })
func aConvolutionIsMeasured(_ isa: InstructionSet) {
    let shape = KernelBenchmark.Shape(
        kernelSize: 3,
        inputChannels: 16,
        outputChannels: 16,
        height: 4,
        width: 4,
        images: 1
    )
    let rate = KernelBenchmark.measure(shape, isa: isa, seconds: 0)
    let peak = KernelBenchmark.peakGMACsPerSecond(isa, seconds: 0)

    #expect(shape.macs == 9 * 16 * 16 * 16)
    #expect(rate.medianGMACsPerSecond > 0)
    #expect(rate.bestGMACsPerSecond >= rate.medianGMACsPerSecond)
    #expect(peak > 0)
}
