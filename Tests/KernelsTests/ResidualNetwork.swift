import Kernels

/// A residual network of one block with random parameters: 9 of 12 latent channels to 3 results.
struct ResidualNetwork {
    private let height: Int
    private let width: Int
    private let latents: FeatureMap
    private let activations: FeatureMap
    private let hidden: FeatureMap
    private let trunk: FeatureMap
    private let result: FeatureMap
    private let first: PackedConvolution
    private let inner: PackedConvolution
    private let outer: PackedConvolution
    private let last: PackedConvolution

    init(isa: InstructionSet, images: Int, height: Int, width: Int, seed: UInt64) {
        var generator = SplitMix64(state: seed)
        func layer(
            _ input: Convolution.Input,
            _ inputs: Int,
            _ outputs: Int,
            shift: Int,
            _ epilogue: Convolution.Epilogue
        ) -> PackedConvolution {
            PackedConvolution(
                Convolution(
                    kernelSize: 3,
                    input: input,
                    inputChannels: inputs,
                    outputChannels: outputs,
                    weights: (0..<(outputs * inputs * 9)).map { _ in
                        Int8.random(in: -127...127, using: &generator)
                    },
                    bias: (0..<outputs).map { _ in
                        Int32.random(in: -1000...1000, using: &generator)
                    },
                    shift: shift,
                    multiplier: (0..<outputs).map { _ in
                        Int16.random(in: 20_000...32_767, using: &generator)
                    },
                    epilogue: epilogue
                ),
                isa: isa
            )
        }
        func map(_ role: FeatureMap.Role, _ channels: Int) -> FeatureMap {
            FeatureMap(
                role,
                isa: isa,
                images: images,
                height: height,
                width: width,
                channels: channels
            )
        }
        let rescale = [Int16](repeating: 16_384, count: 24)
        self.height = height
        self.width = width
        latents = map(.latents, 9)
        activations = map(.activations, 24)
        hidden = map(.activations, 20)
        trunk = map(.wide, 24)
        result = map(.wide, 3)
        first = layer(
            .latents,
            9,
            24,
            shift: 9,
            .trunk(rescale: rescale, adding: false, storing: true)
        )
        inner = layer(.activations, 24, 20, shift: 9, .activation)
        outer = layer(
            .activations,
            20,
            24,
            shift: 9,
            .trunk(rescale: rescale, adding: true, storing: false)
        )
        last = layer(.activations, 24, 3, shift: 6, .wide(adding: false))
    }

    /// The results for latents `[images][height][width][12]`, as `[images][height][width][3]`.
    func run(_ values: [Int16], images: Int) -> [Int16] {
        latents.load(
            values,
            latentChannels: 12,
            selection: [0, 1, 2, 6, 7, 8, 9, 10, 11],
            images: images
        )
        first.run(images: images, input: latents, wide: trunk, activations: activations)
        inner.run(images: images, input: activations, activations: hidden)
        outer.run(images: images, input: hidden, wide: trunk, activations: activations)
        last.run(images: images, input: activations, wide: result)
        return (0..<(images * height * width)).flatMap { pixel in
            (0..<3).map { result.wideValues[pixel * result.paddedChannels + $0] }
        }
    }
}
