import Kernels

/// A network ready to run on an instruction set.
///
/// Chains of convolution, requantisation, and what follows from it become one kernel call each.
/// A list that is no such chain runs operation by operation on the reference: as exact, but slow.
struct CompiledNetwork: Sendable {
    /// A map of the scratch memory; two activation maps of equal width alternate.
    struct MapName: Hashable, Sendable {
        let role: FeatureMap.Role
        let channels: Int
        let slot: Int
    }

    /// One kernel call.
    struct Layer: Sendable {
        let kernel: PackedConvolution
        let input: MapName
        let wide: MapName?
        let activations: MapName?
    }

    private let network: Network
    private let layers: [Layer]?
    private let isa: InstructionSet

    /// Whether every operation runs in a kernel.
    var isFused: Bool { layers != nil }
    /// How many rows or columns away the network looks.
    var reach: Int { network.reach }
    /// An upper bound of the scratch memory per position, in bytes.
    let bytesPerPosition: Int

    /// Compiles a network.
    init(_ network: Network, isa: InstructionSet) {
        self.network = network
        self.isa = isa
        let layers = network.layers(isa: isa)
        self.layers = layers
        if let layers {
            let names = Set(
                layers.flatMap { [$0.input, $0.wide, $0.activations].compactMap(\.self) }
            )
            self.bytesPerPosition = names.reduce(0) { $0 + 2 * (($1.channels + 15) & ~15) }
        } else {
            // Every value of the list as Int32.
            self.bytesPerPosition = network.channelsOfValues.reduce(0) { $0 + 4 * $1 }
        }
    }

    /// Runs the network on a tile.
    ///
    /// - Parameters:
    ///   - latents: The tile's first position, `[image][y][x][latentChannels]`.
    ///   - latentChannels: Channels of a position in memory.
    ///   - selection: The channels that the network reads.
    ///   - images: The number of images in this tile.
    ///   - scratch: Maps of the tile's size, of one engine call.
    /// - Returns: The map of `scratch` with the results, Int16 `[image][y][x][paddedChannels]`.
    func run(
        _ latents: UnsafePointer<Int16>,
        latentChannels: Int,
        selection: [Int],
        images: Int,
        scratch: Scratch
    ) -> FeatureMap {
        guard let layers else {
            return runReference(
                latents,
                latentChannels: latentChannels,
                selection: selection,
                images: images,
                scratch: scratch
            )
        }
        scratch.map(layers[0].input).load(
            latents,
            latentChannels: latentChannels,
            selection: selection,
            images: images
        )
        for layer in layers {
            layer.kernel.run(
                images: images,
                input: scratch.map(layer.input),
                wide: layer.wide.map(scratch.map),
                activations: layer.activations.map(scratch.map)
            )
        }
        guard let result = layers[layers.count - 1].wide else {
            preconditionFailure("a chain ends in Int16 results")
        }
        return scratch.map(result)
    }

    private func runReference(
        _ latents: UnsafePointer<Int16>,
        latentChannels: Int,
        selection: [Int],
        images: Int,
        scratch: Scratch
    ) -> FeatureMap {
        let positions = images * scratch.height * scratch.width
        var input: [Int32] = []
        input.reserveCapacity(positions * selection.count)
        for position in 0..<positions {
            for channel in selection {
                input.append(Int32(latents[position * latentChannels + channel]))
            }
        }
        let result = network.reference(
            IntegerTensor(
                count: images,
                height: scratch.height,
                width: scratch.width,
                channels: selection.count,
                values: input
            )
        )
        let map = scratch.map(MapName(role: .wide, channels: result.channels, slot: 0))
        let (target, stride) = (map.wideValues, map.paddedChannels)
        for position in 0..<positions {
            for channel in 0..<result.channels {
                target[position * stride + channel] = Int16(result[position, channel])
            }
        }
        return map
    }
}

/// The maps of one engine call at one tile size; they are made when first asked for.
final class Scratch {
    let isa: InstructionSet
    /// Images that a map can hold, rows and columns of each.
    let images: Int
    let height: Int
    let width: Int
    private var maps: [CompiledNetwork.MapName: FeatureMap] = [:]

    init(isa: InstructionSet, images: Int, height: Int, width: Int) {
        self.isa = isa
        self.images = images
        self.height = height
        self.width = width
    }

    /// Returns the map of a name; the content is what was last written to it.
    func map(_ name: CompiledNetwork.MapName) -> FeatureMap {
        if let map = maps[name] { return map }
        let map = FeatureMap(
            name.role,
            isa: isa,
            images: images,
            height: height,
            width: width,
            channels: name.channels
        )
        maps[name] = map
        return map
    }
}

/// The scratch memory of one level in one engine call, shared by the networks with equal tiles.
final class ScratchPool {
    private let isa: InstructionSet
    private var sets: [[Int]: Scratch] = [:]

    init(isa: InstructionSet) {
        self.isa = isa
    }

    /// Returns the maps for a size of tile.
    func scratch(images: Int, height: Int, width: Int) -> Scratch {
        if let set = sets[[images, height, width]] { return set }
        let set = Scratch(isa: isa, images: images, height: height, width: width)
        sets[[images, height, width]] = set
        return set
    }
}

// MARK: - Compiling

extension Network {
    /// Channels of every value, the input first.
    var channelsOfValues: [Int] {
        operations.reduce(into: [inputChannels]) { channels, operation in
            switch operation {
            case .convolution(let convolution, _): channels.append(convolution.outputChannels)
            case .requantise(let input, _, _, _), .rescale(let input, _), .add(let input, _):
                channels.append(channels[input])
            }
        }
    }

    /// Returns the kernel calls of the network, or nil when its operations are no chain of layers.
    ///
    /// A layer is: convolution of what the layer before made; requantisation; for Int16 results
    /// perhaps the addition of the trunk (the last Int16 value); and, unless the network ends here,
    /// the rescaling of that to activations. No value may be read from further back.
    func layers(isa: InstructionSet) -> [CompiledNetwork.Layer]? {
        var layers: [CompiledNetwork.Layer] = []
        var next = 0
        var input = CompiledNetwork.MapName(role: .latents, channels: inputChannels, slot: 0)
        var trunk: Int?
        while next < operations.count {
            guard let layer = layer(at: &next, trunk: &trunk, input: input, isa: isa) else {
                return nil
            }
            layers.append(layer)
            guard let activations = layer.activations else { break }
            input = activations
        }
        return next == operations.count && layers.last?.wide != nil ? layers : nil
    }

    /// Returns the layer that starts at operation `next`, and moves on behind it.
    private func layer(
        at next: inout Int,
        trunk: inout Int?,
        input: CompiledNetwork.MapName,
        isa: InstructionSet
    ) -> CompiledNetwork.Layer? {
        // Value n is the output of operation n − 1: each operation reads the value before it.
        guard case .convolution(let convolution, let source) = operations[next], source == next,
            next + 1 < operations.count,
            case .requantise(let sums, let shift, let multiplier, let type) = operations[next + 1],
            sums == next + 1
        else { return nil }
        next += 2
        let channels = convolution.outputChannels
        let activations = CompiledNetwork.MapName(
            role: .activations,
            channels: channels,
            slot: input.role == .activations ? 1 - input.slot : 0
        )
        let wide = CompiledNetwork.MapName(role: .wide, channels: channels, slot: 0)
        func make(_ epilogue: Kernels.Convolution.Epilogue) -> CompiledNetwork.Layer {
            let (usesWide, usesActivations) =
                switch epilogue {
                case .activation: (false, true)
                case .wide: (true, false)
                case .trunk(_, let adding, let storing): (adding || storing, true)
                }
            let fused = Kernels.Convolution(
                kernelSize: convolution.kernelSize,
                input: input.role == .latents ? .latents : .activations,
                inputChannels: convolution.inputChannels,
                outputChannels: channels,
                weights: convolution.weights,
                bias: convolution.bias,
                shift: shift,
                multiplier: multiplier,
                epilogue: epilogue
            )
            return CompiledNetwork.Layer(
                kernel: PackedConvolution(fused, isa: isa),
                input: input,
                wide: usesWide ? wide : nil,
                activations: usesActivations ? activations : nil
            )
        }

        guard type == .int16 else { return make(.activation) }
        var adding = false
        if next < operations.count, case .add(let first, let second) = operations[next] {
            guard let stored = trunk,
                (first, second) == (stored, next) || (first, second) == (next, stored)
            else { return nil }
            adding = true
            next += 1
        }
        guard next < operations.count else { return make(.wide(adding: adding)) }
        guard case .rescale(let value, let rescale) = operations[next], value == next else {
            return nil
        }
        trunk = next
        next += 1
        let storing = operations[next...].contains { operation in
            if case .add(let first, let second) = operation {
                first == trunk || second == trunk
            } else {
                false
            }
        }
        return make(.trunk(rescale: rescale, adding: adding, storing: storing))
    }
}
