import Kernels

// No more than Embedded Swift has, for ops/checks/neon.

extension ConvolutionCase {
    /// Every form of convolution, at odd sizes and at the limits of its numbers.
    ///
    /// Each combination of kernel, input, epilogue and fill is there; sizes, channels and shifts take
    /// turns in it.
    static let all: [ConvolutionCase] = {
        let sizes = [
            (1, 1, 1), (1, 7, 2), (3, 5, 1), (4, 4, 2), (2, 2, 5), (1, 1, 4), (5, 9, 1), (17, 3, 1),
            (7, 1, 3), (1, 13, 1), (6, 4, 1),
        ]
        let outputs = [16, 32, 48, 3, 64, 80, 12, 33, 96, 5]
        let shifts = [7, 0, 20, 9, 4, 31, 12]
        var cases: [ConvolutionCase] = []
        for kernelSize in [1, 3] {
            for input in [Convolution.Input.latents, .activations] {
                for epilogue in EpilogueKind.allCases {
                    for fill in ConvolutionCase.Fill.allCases {
                        let index = cases.count
                        let (height, width, images) = sizes[index % sizes.count]
                        let inputs = input == .latents ? [2, 9, 18, 36, 1] : [16, 32, 48, 64, 80]
                        cases.append(
                            ConvolutionCase(
                                kernelSize: kernelSize,
                                input: input,
                                inputChannels: inputs[index % inputs.count],
                                outputChannels: outputs[index / 2 % outputs.count],
                                height: height,
                                width: width,
                                images: images,
                                epilogue: epilogue,
                                fill: fill,
                                shift: shifts[index % shifts.count],
                                seed: UInt64(index)
                            )
                        )
                    }
                }
            }
        }
        // More pixels than a pass has, so that one starts within the second image.
        cases.append(
            ConvolutionCase(
                kernelSize: 3,
                input: .latents,
                inputChannels: 1,
                outputChannels: 80,
                height: 20,
                width: 20,
                images: 2,
                epilogue: .trunkAddingStoring,
                fill: .random,
                shift: 6,
                seed: UInt64(cases.count)
            )
        )
        // Each number of results that narrow kernels pad and one more; inputs of one piece, of
        // parts of pieces and of many; more than one pass.
        let narrow = [(4, 9), (7, 7), (30, 33), (1, 2), (3, 400)]
        for outputs in 1...7 {
            for (index, (height, width)) in narrow.enumerated() {
                let input: Convolution.Input = (outputs + index) % 2 == 0 ? .latents : .activations
                let inputs = input == .latents ? [3, 6, 9, 20, 2] : [16, 48, 80, 9, 33]
                cases.append(
                    ConvolutionCase(
                        kernelSize: index == 1 ? 1 : 3,
                        input: input,
                        inputChannels: inputs[(index + outputs) % inputs.count],
                        outputChannels: outputs,
                        height: height,
                        width: width,
                        images: index == 4 ? 1 : 2,
                        epilogue: index % 2 == 0 ? .wideAdding : .wide,
                        fill: outputs % 3 == 0 ? .limits : .random,
                        shift: 7,
                        seed: UInt64(cases.count)
                    )
                )
            }
        }
        return cases
    }()

    /// What the reference computes for them.
    private static let referenceOutcomes = all.map { $0.outcome(.reference) }

    /// The cases of which an instruction set computes something else than the reference.
    static func differing(_ isa: InstructionSet) -> [ConvolutionCase] {
        zip(all, referenceOutcomes).filter { $0.outcome(isa) != $1 }.map { $0.0 }
    }

    /// FNV-1a of all that the reference computes.
    static var referenceChecksum: UInt64 {
        var checksum: UInt64 = 0xcbf2_9ce4_8422_2325
        func add(_ value: UInt16) {
            checksum = (checksum ^ UInt64(value)) &* 0x100_0000_01b3
        }
        for outcome in referenceOutcomes {
            for value in outcome.wide { add(UInt16(bitPattern: value)) }
            for value in outcome.activations { add(UInt16(value)) }
        }
        return checksum
    }

    /// What ``referenceChecksum`` is on every processor.
    static let goldenChecksum: UInt64 = 0x537d_3701_fd45_42d0
}
