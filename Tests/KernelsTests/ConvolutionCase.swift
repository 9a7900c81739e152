import Kernels

/// A convolution with everything that it reads, to be run by any instruction set.
struct ConvolutionCase: Sendable {
    /// How weights, biases and factors, inputs and trunks are chosen.
    enum Fill: String, CaseIterable, Sendable {
        /// Anything in range, requantised with few saturations.
        case random
        /// Every input at its upper limit, every weight −127: the most negative sums.
        case lowest
        /// Every input at its upper limit, every weight 127; biases up to the limit of Int32.
        case highest
        /// Inputs, weights, biases, factors and trunk values each at a limit of their range.
        case limits
    }

    let layer: Convolution
    let height: Int
    let width: Int
    let images: Int
    /// `[images][height][width][inputChannels]`, before clamping to ±1023.
    let input: [Int16]
    /// `[images][height][width][outputChannels]`: the wide map before the call.
    let wide: [Int16]
    let description: String

    /// What a call leaves in its maps, `[images][height][width][outputChannels]`.
    struct Outcome: Equatable {
        var wide: [Int16]
        var activations: [UInt8]
    }

    init(
        kernelSize: Int,
        input kind: Convolution.Input,
        inputChannels: Int,
        outputChannels: Int,
        height: Int,
        width: Int,
        images: Int,
        epilogue: EpilogueKind,
        fill: Fill,
        shift: Int,
        seed: UInt64
    ) {
        var generator = SplitMix64(state: seed)
        let weightCount = outputChannels * inputChannels * kernelSize * kernelSize
        let inputLimit = kind == .latents ? 1023 : 255
        let biasLimit =
            Int(Int32.max) - inputLimit * 127 * inputChannels * kernelSize * kernelSize

        let weights: [Int8] = (0..<weightCount).map { _ in
            switch fill {
            case .random: Int8.random(in: -127...127, using: &generator)
            case .lowest: -127
            case .highest: 127
            case .limits: [-127, -1, 0, 1, 127].randomElement(using: &generator) ?? 0
            }
        }
        let bias: [Int32] = (0..<outputChannels).map { _ in
            switch fill {
            case .random: Int32.random(in: -100_000...100_000, using: &generator)
            case .lowest: 0
            case .highest: Int32(Int.random(in: 0...biasLimit, using: &generator))
            case .limits:
                Int32([-biasLimit, -1, 0, 1, biasLimit].randomElement(using: &generator) ?? 0)
            }
        }
        func factors() -> [Int16] {
            (0..<outputChannels).map { _ in
                fill == .random
                    ? Int16.random(in: 0...Int16.max, using: &generator)
                    : [0, 1, 16384, 32766, 32767].randomElement(using: &generator) ?? 0
            }
        }
        layer = Convolution(
            kernelSize: kernelSize,
            input: kind,
            inputChannels: inputChannels,
            outputChannels: outputChannels,
            weights: weights,
            bias: bias,
            shift: shift,
            multiplier: factors(),
            epilogue: epilogue.epilogue(rescale: factors())
        )

        let pixels = height * width * images
        input = (0..<(pixels * inputChannels)).map { _ in
            switch (fill, kind) {
            case (.random, .latents): Int16.random(in: -1100...1100, using: &generator)
            case (.random, .activations): Int16.random(in: 0...255, using: &generator)
            case (.limits, .latents):
                [.min, -1024, -1023, -1, 0, 1, 1023, 1024, .max]
                    .randomElement(using: &generator) ?? 0
            case (.limits, .activations):
                [0, 1, 127, 128, 254, 255].randomElement(using: &generator) ?? 0
            case (_, .latents): 1023
            case (_, .activations): 255
            }
        }
        wide = (0..<(pixels * outputChannels)).map { _ in
            fill == .random
                ? Int16.random(in: -3000...3000, using: &generator)
                : [.min, -32767, -1, 0, 1, 32766, .max].randomElement(using: &generator) ?? 0
        }
        self.height = height
        self.width = width
        self.images = images
        description =
            "\(kernelSize)×\(kernelSize) \(kind == .latents ? "latents" : "activations") "
            + "\(inputChannels)→\(outputChannels) \(height)×\(width) ×\(images) "
            + "\(epilogue.rawValue) \(fill.rawValue) shift \(shift) seed \(seed)"
    }

    /// Runs the case with an instruction set.
    ///
    /// The maps have space for one image more than there is, which must stay untouched.
    func outcome(_ isa: InstructionSet) -> Outcome {
        func map(_ role: FeatureMap.Role, channels: Int) -> FeatureMap {
            FeatureMap(
                role,
                isa: isa,
                images: images + 1,
                height: height,
                width: width,
                channels: channels
            )
        }
        let source: FeatureMap
        switch layer.input {
        case .latents:
            source = map(.latents, channels: layer.inputChannels)
            source.load(
                input,
                latentChannels: layer.inputChannels,
                selection: Array(0..<layer.inputChannels),
                images: images
            )
        case .activations:
            source = map(.activations, channels: layer.inputChannels)
            source.setActivations(input.map { UInt8($0) })
        }
        let trunk = map(.wide, channels: layer.outputChannels)
        for (index, value) in wide.enumerated() {
            let (pixel, channel) = index.quotientAndRemainder(dividingBy: layer.outputChannels)
            trunk.wideValues[pixel * trunk.paddedChannels + channel] = value
        }
        let activations = map(.activations, channels: layer.outputChannels)

        PackedConvolution(layer, isa: isa)
            .run(images: images, input: source, wide: trunk, activations: activations)

        let pixels = (images + 1) * height * width
        return Outcome(
            wide: (0..<(pixels * layer.outputChannels)).map { index in
                let (pixel, channel) = index.quotientAndRemainder(dividingBy: layer.outputChannels)
                return trunk.wideValues[pixel * trunk.paddedChannels + channel]
            },
            activations: activations.activationValues(images: images + 1)
        )
    }
}

/// The epilogues in all their forms.
enum EpilogueKind: String, CaseIterable, Sendable {
    case activation
    case wide
    case wideAdding
    case trunk
    case trunkStoring
    case trunkAdding
    case trunkAddingStoring

    func epilogue(rescale: [Int16]) -> Convolution.Epilogue {
        switch self {
        case .activation: .activation
        case .wide: .wide(adding: false)
        case .wideAdding: .wide(adding: true)
        case .trunk: .trunk(rescale: rescale, adding: false, storing: false)
        case .trunkStoring: .trunk(rescale: rescale, adding: false, storing: true)
        case .trunkAdding: .trunk(rescale: rescale, adding: true, storing: false)
        case .trunkAddingStoring: .trunk(rescale: rescale, adding: true, storing: true)
        }
    }
}

/// A small deterministic generator (Steele, Lea, Flood 2014).
struct SplitMix64: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
