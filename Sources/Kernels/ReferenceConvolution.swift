/// The convolution as it is defined: plain loops, one multiplication after the other.
enum ReferenceConvolution {
    /// Computes a layer for the first `count` images of its maps, which are laid out for
    /// `InstructionSet.reference` and checked by `PackedConvolution.run`.
    static func run(
        _ layer: Convolution,
        images count: Int,
        input: FeatureMap,
        wide: FeatureMap?,
        activations: FeatureMap?
    ) {
        for image in 0..<count {
            for y in 0..<input.height {
                for x in 0..<input.width {
                    let position = input.position(image: image, y: y, x: x)
                    let pixel = (image * input.height + y) * input.width + x
                    for channel in 0..<layer.outputChannels {
                        let sum = accumulate(layer, input, image: image, y: y, x: x, channel)
                        let value = requantise(
                            sum,
                            shift: layer.shift,
                            multiplier: layer.multiplier[channel]
                        )
                        let wideElement = wide.map {
                            $0.base.assumingMemoryBound(to: Int16.self)
                                + pixel * $0.paddedChannels + channel
                        }
                        let activation = activations.map {
                            $0.base.assumingMemoryBound(to: UInt8.self)
                                + position * $0.pixelStride + channel
                        }
                        finish(layer, channel, value, wide: wideElement, activation: activation)
                    }
                }
            }
        }
    }

    /// The sum of an output channel's bias and products over the window of a pixel.
    private static func accumulate(
        _ layer: Convolution,
        _ input: FeatureMap,
        image: Int,
        y: Int,
        x: Int,
        _ channel: Int
    ) -> Int32 {
        let size = layer.kernelSize
        var sum = layer.bias[channel]
        for row in 0..<size {
            for column in 0..<size {
                // The border lies inside the map: a tap outside of the image reads its zeros.
                let pixel =
                    input.base + input.pixelStride
                    * input.position(image: image, y: y + row - size / 2, x: x + column - size / 2)
                for inputChannel in 0..<layer.inputChannels {
                    let value =
                        switch layer.input {
                        case .latents:
                            Int32(
                                pixel.load(
                                    fromByteOffset: inputChannel * MemoryLayout<Int16>.size,
                                    as: Int16.self
                                )
                            )
                        case .activations:
                            Int32(pixel.load(fromByteOffset: inputChannel, as: UInt8.self))
                        }
                    let weight = layer.weights[
                        ((channel * layer.inputChannels + inputChannel) * size + row) * size
                            + column
                    ]
                    sum += value * Int32(weight)
                }
            }
        }
        return sum
    }

    /// The only rounding of a network: a shift that saturates to Int16, then a product with a
    /// fraction of 15 bits, rounded to nearest, halves up.
    static func requantise(_ sum: Int32, shift: Int, multiplier: Int16) -> Int16 {
        multiply(Int16(clamping: sum >> Int32(shift)), multiplier)
    }

    /// (value · factor + 2^14) >> 15, for a factor in 0…32767.
    static func multiply(_ value: Int16, _ factor: Int16) -> Int16 {
        Int16((Int32(value) * Int32(factor) + 1 << 14) >> 15)
    }

    /// Stores what the epilogue asks for.
    private static func finish(
        _ layer: Convolution,
        _ channel: Int,
        _ value: Int16,
        wide: UnsafeMutablePointer<Int16>?,
        activation: UnsafeMutablePointer<UInt8>?
    ) {
        switch layer.epilogue {
        case .activation:
            activation?.pointee = UInt8(clamping: value)
        case .wide(let adding):
            let old = adding ? wide?.pointee ?? 0 : 0
            wide?.pointee = saturatingAdd(old, value)
        case .trunk(let rescale, let adding, let storing):
            let old = adding ? wide?.pointee ?? 0 : 0
            let trunk = saturatingAdd(old, value)
            if storing { wide?.pointee = trunk }
            activation?.pointee = UInt8(clamping: multiply(trunk, rescale[channel]))
        }
    }

    /// The sum, or the nearest Int16 to it.
    static func saturatingAdd(_ a: Int16, _ b: Int16) -> Int16 {
        Int16(clamping: Int32(a) + Int32(b))
    }
}
