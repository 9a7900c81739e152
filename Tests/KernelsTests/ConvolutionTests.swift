import Kernels
import Testing

@Test(arguments: InstructionSet.supported.filter { $0 != .reference })
func everyInstructionSetEqualsTheReference(_ isa: InstructionSet) {
    let different = ConvolutionCase.differing(isa).map(\.description)
    #expect(different == [])
}

@Test func theReferenceComputesTheSameOnEveryProcessor() {
    #expect(ConvolutionCase.referenceChecksum == ConvolutionCase.goldenChecksum)
}

@Test func aResidualNetworkEqualsTheReferenceAtEveryBatchSize() {
    for isa in InstructionSet.supported where isa != .reference {
        let network = ResidualNetwork(isa: isa, images: 5, height: 5, width: 3, seed: 7)
        let reference = ResidualNetwork(isa: .reference, images: 5, height: 5, width: 3, seed: 7)
        for images in [5, 2, 1, 4] {
            let latents = (0..<(images * 5 * 3 * 12)).map { Int16($0 * 37 % 509 - 254) }
            let isEqual =
                network.run(latents, images: images) == reference.run(latents, images: images)
            #expect(isEqual, "\(isa): \(images) images")
        }
    }
}

@Test func aResultDoesNotDependOnTheOtherImagesOfItsBatch() {
    let isa = InstructionSet.best
    let network = ResidualNetwork(isa: isa, images: 4, height: 3, width: 5, seed: 8)
    let imageSize = 3 * 5 * 12
    let latents = (0..<(4 * imageSize)).map { Int16($0 * 53 % 707 - 353) }
    let together = network.run(latents, images: 4)

    var alone: [Int16] = []
    for image in 0..<4 {
        let start = image * imageSize
        alone += network.run(Array(latents[start..<(start + imageSize)]), images: 1)
    }

    let isEqual = together == alone
    #expect(isEqual)
    let isAlive = Set(together).count > 20
    #expect(isAlive, "the network's results vary")
}

@Test func theReferenceComputesAWindowWithItsBorder() {
    // Given the 2×2 image 1 2 / 3 4 and the kernel 1 2 3 / 4 5 6 / 7 8 9, unscaled but for ½,
    let input = FeatureMap(
        .activations,
        isa: .reference,
        images: 1,
        height: 2,
        width: 2,
        channels: 1
    )
    input.setActivations([1, 2, 3, 4])
    let result = FeatureMap(.wide, isa: .reference, images: 1, height: 2, width: 2, channels: 1)
    let layer = Convolution(
        kernelSize: 3,
        input: .activations,
        inputChannels: 1,
        outputChannels: 1,
        weights: [1, 2, 3, 4, 5, 6, 7, 8, 9],
        bias: [10],
        shift: 0,
        multiplier: [16384],
        epilogue: .wide(adding: false)
    )

    PackedConvolution(layer, isa: .reference).run(images: 1, input: input, wide: result)

    // then each sum is that of the taps inside the image, and halves are rounded up.
    // 10 + 5·1+6·2+8·3+9·4, 10 + 4·1+5·2+7·3+8·4, 10 + 2·1+3·2+5·3+6·4, 10 + 1·1+2·2+4·3+5·4
    let sums: [Int16] = [87, 77, 57, 47]
    let values = (0..<4).map { result.wideValues[$0 * result.paddedChannels] }
    #expect(values == sums.map { ($0 + 1) / 2 })
}

@Test(
    arguments: InstructionSet.supported,
    [Array(0..<9), Array(0..<6) + Array(9..<12), [11, 0, 1, 5], [7], Array(2..<40)]
)
func latentsAreSelectedAndClampedAndStayInsideOfTheBorder(
    _ isa: InstructionSet,
    _ selection: [Int]
) {
    // Given two images of Int16 of any size, and a kernel that sums each channel's window,
    let (height, width, images) = (3, 11, 2)
    let latentChannels = selection.count > 12 ? 40 : 12
    var generator = SplitMix64(state: UInt64(selection.count))
    let latents = (0..<(images * height * width * latentChannels)).map { _ in
        Int16.random(in: -2000...2000, using: &generator)
    }
    let channels = selection.count
    let layer = Convolution(
        kernelSize: 3,
        input: .latents,
        inputChannels: channels,
        outputChannels: channels,
        weights: (0..<(channels * channels * 9)).map { $0 / 9 % (channels + 1) == 0 ? 1 : 0 },
        bias: [Int32](repeating: 0, count: channels),
        shift: 0,
        multiplier: [Int16](repeating: .max, count: channels),
        epilogue: .wide(adding: false)
    )
    func map(_ role: FeatureMap.Role) -> FeatureMap {
        FeatureMap(
            role,
            isa: isa,
            images: images,
            height: height,
            width: width,
            channels: channels
        )
    }
    let (input, wide) = (map(.latents), map(.wide))

    input.load(latents, latentChannels: latentChannels, selection: selection, images: images)
    PackedConvolution(layer, isa: isa).run(images: images, input: input, wide: wide)

    // then results are the sums of what is inside the image.
    var differing = 0
    for pixel in 0..<(images * height * width) {
        let (x, row) = (pixel % width, pixel / width)
        let top = row - row % height
        for (channel, selected) in selection.enumerated() {
            var sum: Int16 = 0
            for other in max(top, row - 1)...min(top + height - 1, row + 1) {
                for column in max(0, x - 1)...min(width - 1, x + 1) {
                    let latent = latents[(other * width + column) * latentChannels + selected]
                    sum += min(max(latent, -1023), 1023)
                }
            }
            differing += wide.wideValues[pixel * wide.paddedChannels + channel] == sum ? 0 : 1
        }
    }
    #expect(differing == 0)
}

/// One requantisation, worked out by hand.
struct Requantisation: Sendable {
    let sum: Int32
    let shift: Int
    let multiplier: Int16
    let result: Int16

    init(_ sum: Int32, _ shift: Int, _ multiplier: Int16, _ result: Int16) {
        (self.sum, self.shift, self.multiplier, self.result) = (sum, shift, multiplier, result)
    }
}

@Test(arguments: [
    Requantisation(0, 0, 32767, 0),
    Requantisation(1, 0, 16384, 1),
    Requantisation(-1, 0, 16384, 0),
    Requantisation(-3, 0, 16384, -1),
    Requantisation(-1, 1, 32767, -1),
    Requantisation(.max, 0, 32767, 32766),
    Requantisation(.min, 0, 32767, -32767),
    Requantisation(.max, 31, 32767, 0),
    Requantisation(.min, 31, 32767, -1),
    Requantisation(.max, 16, 32767, 32766),
    Requantisation(.min, 16, 16384, -16384),
    Requantisation(40_000, 0, 1, 1),
    Requantisation(-40_000, 0, 0, 0),
])
func everyInstructionSetRequantisesAsSpecified(_ step: Requantisation) {
    let layer = Convolution(
        kernelSize: 1,
        input: .activations,
        inputChannels: 1,
        outputChannels: 1,
        weights: [0],
        bias: [step.sum],
        shift: step.shift,
        multiplier: [step.multiplier],
        epilogue: .wide(adding: false)
    )
    for isa in InstructionSet.supported {
        let input = FeatureMap(
            .activations,
            isa: isa,
            images: 1,
            height: 1,
            width: 1,
            channels: 1
        )
        let wide = FeatureMap(.wide, isa: isa, images: 1, height: 1, width: 1, channels: 1)
        PackedConvolution(layer, isa: isa).run(images: 1, input: input, wide: wide)
        #expect(wide.wideValues[0] == step.result, "\(isa)")
    }
}
