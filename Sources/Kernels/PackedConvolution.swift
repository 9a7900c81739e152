internal import CKernelABI

/// A convolution with its weights in the order in which one instruction set reads them.
///
/// Made once, when a model is loaded; may run on many threads at once, each with its own maps.
package final class PackedConvolution: Sendable {
    package let layer: Convolution
    package let isa: InstructionSet
    private let packing: Packing

    /// The two kinds of kernels.
    private enum Packing {
        /// Lanes are output channels.
        case blocks(PackedWeights)
        /// Lanes are input channels.
        case narrow(NarrowConvolution)
    }

    /// Packs a convolution for an instruction set.
    ///
    /// - Precondition: The instruction set is supported.
    package init(_ layer: Convolution, isa: InstructionSet) {
        precondition(InstructionSet.supported.contains(isa), "the instruction set is supported")
        self.layer = layer
        self.isa = isa
        if let narrow = NarrowConvolution(layer, isa: isa) {
            packing = .narrow(narrow)
        } else {
            packing = .blocks(PackedWeights(layer, isa: isa))
        }
    }

    /// Computes the layer for the first `count` images of its maps.
    ///
    /// - Parameters:
    ///   - count: Images.
    ///   - input: Latents or activations, as the layer says.
    ///   - wide: The trunk or the result; needed where the epilogue adds to it or stores it.
    ///   - activations: The activations to write, another map than `input`; needed unless the
    ///     epilogue is `wide`.
    /// - Precondition: The maps have the layer's roles and channels, this instruction set, one
    ///   height and width, and space for the images.
    package func run(
        images count: Int,
        input: FeatureMap,
        wide: FeatureMap? = nil,
        activations: FeatureMap? = nil
    ) {
        let epilogue = layer.epilogue.kernelEpilogue
        check(input, count, role: layer.input.role, channels: layer.inputChannels, like: input)
        if epilogue.adds || epilogue.stores {
            guard let wide else { preconditionFailure("the epilogue needs a wide map") }
            check(wide, count, role: .wide, channels: layer.outputChannels, like: input)
        }
        if epilogue.activates {
            guard let activations else { preconditionFailure("the epilogue needs activations") }
            precondition(activations !== input, "a convolution does not overwrite its input")
            check(
                activations,
                count,
                role: .activations,
                channels: layer.outputChannels,
                like: input
            )
        }
        guard isa != .reference else {
            ReferenceConvolution.run(
                layer,
                images: count,
                input: input,
                wide: wide,
                activations: activations
            )
            return
        }

        // Never read or written where the epilogue does not ask for it.
        let wide = wide ?? input
        let activations = activations ?? input
        switch packing {
        case .blocks(let weights): run(weights, images: count, input, wide, activations)
        case .narrow(let convolution): convolution.run(images: count, input: input, wide: wide)
        }
    }

    private func run(
        _ weights: PackedWeights,
        images count: Int,
        _ input: FeatureMap,
        _ wide: FeatureMap,
        _ activations: FeatureMap
    ) {
        var call = KernelCall()
        call.input = UnsafeRawPointer(input.base)
        call.inputPixelStride = input.pixelStride
        call.activationPixelStride = activations.pixelStride
        call.widePixelStride = wide.pixelStride
        call.height = input.height
        call.width = input.width
        call.kernelSize = layer.kernelSize
        call.shift = Int32(layer.shift)
        call.inputIsBytes = layer.input == .activations && Layout(isa).activationSize == 1
        call.epilogue = layer.epilogue.kernelEpilogue
        call.highPlane = input.highPlane
        call.tileDepth = Layout.tileDepth(rowBytes: layer.kernelSize * input.pixelStride)

        let pixels = count * input.height * input.width
        withUnsafeTemporaryAllocation(byteCount: Int(KernelResultsSize), alignment: 64) { results in
            call.results = results.baseAddress
            for first in stride(from: 0, to: pixels, by: Self.pixelsPerPass) {
                call.firstPixel = first
                call.endPixel = min(first + Self.pixelsPerPass, pixels)
                for block in weights.blocks {
                    call.vectors = block.vectors
                    call.weights = weights.base + block.weightOffset
                    call.bias = weights.bias + block.channel
                    call.multiplier = weights.multiplier + block.channel
                    call.rescale = weights.rescale + block.channel
                    call.wide = wide.base + block.channel * MemoryLayout<Int16>.size
                    call.activations =
                        activations.base + block.channel * Layout(isa).activationSize
                    isa.convolve(&call)
                }
            }
        }
    }

    /// Pixels after which the next block of output channels has its turn.
    ///
    /// Few enough that it finds the input in the cache; a multiple of every tile's pixels.
    private static let pixelsPerPass = 768

    private func check(
        _ map: FeatureMap,
        _ count: Int,
        role: FeatureMap.Role,
        channels: Int,
        like input: FeatureMap
    ) {
        precondition(map.role == role, "the map has the role that the layer needs")
        precondition(map.isa == isa, "the map is laid out for this instruction set")
        precondition(map.channels == channels, "the map has the layer's channels")
        precondition((1...map.images).contains(count), "the images fit the map")
        precondition(
            map.height == input.height && map.width == input.width,
            "the maps have one size"
        )
    }
}

extension Convolution.Input {
    /// The role of the map that is read.
    var role: FeatureMap.Role {
        switch self {
        case .latents: .latents
        case .activations: .activations
        }
    }
}

extension Convolution.Epilogue {
    /// The steps that the kernels take.
    fileprivate var kernelEpilogue: KernelEpilogue {
        switch self {
        case .activation:
            KernelEpilogue(adds: false, stores: false, activates: true, rescales: false)
        case .wide(let adding):
            KernelEpilogue(adds: adding, stores: true, activates: false, rescales: false)
        case .trunk(_, let adding, let storing):
            KernelEpilogue(adds: adding, stores: storing, activates: true, rescales: true)
        }
    }
}
