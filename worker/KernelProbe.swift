import Archive
import Kernels
import Raster

/// A small network with numbers from a formula, whose result every instruction set must give.
enum KernelProbe {
    /// SHA-256 of the result, computed by the reference.
    static let golden = "e0efaff5d993690d4eff5da0b064aa7e38eb545e6c6442ed4601ffe4b3e668f1"

    private static let images = 2
    private static let height = 9
    private static let width = 13
    private static let latentChannels = 6
    private static let channels = 20
    private static let resultChannels = 10

    /// Numbers without a pattern that a kernel could hide behind (Numerical Recipes' generator).
    private struct Sequence {
        var state: UInt32

        mutating func next(_ range: ClosedRange<Int>) -> Int {
            state = state &* 1_664_525 &+ 1_013_904_223
            return range.lowerBound + Int(state >> 8) % range.count
        }
    }

    private static func layer(
        _ sequence: inout Sequence,
        size: Int,
        _ input: Convolution.Input,
        _ inputs: Int,
        _ outputs: Int,
        shift: Int,
        _ epilogue: Convolution.Epilogue,
        isa: InstructionSet
    ) -> PackedConvolution {
        let weights = (0..<(outputs * inputs * size * size)).map { _ in
            Int8(sequence.next(-127...127))
        }
        let bias = (0..<outputs).map { _ in Int32(sequence.next(-20_000...20_000)) }
        let multiplier = (0..<outputs).map { _ in Int16(sequence.next(0...32_767)) }
        return PackedConvolution(
            Convolution(
                kernelSize: size,
                input: input,
                inputChannels: inputs,
                outputChannels: outputs,
                weights: weights,
                bias: bias,
                shift: shift,
                multiplier: multiplier,
                epilogue: epilogue
            ),
            isa: isa
        )
    }

    /// SHA-256 of the network's result on an instruction set, in hexadecimal digits.
    static func digest(_ isa: InstructionSet) -> String {
        var sequence = Sequence(state: 1)
        let rescale = (0..<channels).map { _ in Int16(sequence.next(0...32_767)) }
        let first = layer(
            &sequence,
            size: 3,
            .latents,
            latentChannels,
            channels,
            shift: 6,
            .trunk(rescale: rescale, adding: false, storing: true),
            isa: isa
        )
        let inner = layer(
            &sequence,
            size: 3,
            .activations,
            channels,
            channels,
            shift: 9,
            .activation,
            isa: isa
        )
        let outer = layer(
            &sequence,
            size: 1,
            .activations,
            channels,
            channels,
            shift: 7,
            .trunk(rescale: rescale, adding: true, storing: false),
            isa: isa
        )
        let last = layer(
            &sequence,
            size: 3,
            .activations,
            channels,
            resultChannels,
            shift: 8,
            .wide(adding: false),
            isa: isa
        )
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
        let latents = map(.latents, latentChannels)
        let values = (0..<(images * height * width * latentChannels)).map { _ in
            Int16(sequence.next(-1_500...1_500))
        }
        values.withUnsafeBufferPointer { buffer in
            guard let start = buffer.baseAddress else { return }
            latents.load(
                start,
                latentChannels: latentChannels,
                selection: Array(0..<latentChannels),
                images: images
            )
        }
        let (a, b) = (map(.activations, channels), map(.activations, channels))
        let (trunk, result) = (map(.wide, channels), map(.wide, resultChannels))
        first.run(images: images, input: latents, wide: trunk, activations: a)
        inner.run(images: images, input: a, activations: b)
        outer.run(images: images, input: b, wide: trunk, activations: a)
        last.run(images: images, input: a, wide: result)

        var bytes: [UInt8] = []
        for pixel in 0..<(images * height * width) {
            for channel in 0..<resultChannels {
                let value = result.wideValues[pixel * result.paddedChannels + channel]
                bytes += [UInt8(truncatingIfNeeded: value), UInt8(truncatingIfNeeded: value >> 8)]
            }
        }
        return Digest(of: bytes).hex
    }

    /// A small image with flat parts, edges and noise.
    static var image: Image {
        var sequence = Sequence(state: 2)
        let (width, height) = (19, 11)
        let samples = (0..<(3 * width * height)).map { index in
            let x = index % width
            return UInt8(
                x < 6 ? 40 : x < 12 ? 8 * x + sequence.next(0...7) : sequence.next(0...255)
            )
        }
        return Image(width: width, height: height, channels: 3, samples: samples)
    }
}
