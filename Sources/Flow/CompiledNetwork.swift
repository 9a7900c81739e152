import Kernels

/// A network ready to run on an instruction set.
///
/// Chains of convolution, requantisation, and what follows from it become one kernel call each
/// (``NetworkCompiler``). A list that is not made of such chains runs operation by operation on
/// the reference: as exact, but slow.
struct CompiledNetwork: Sendable {
    /// A map of the scratch memory; equally wide maps that are needed at once differ in their slot.
    struct MapName: Hashable, Sendable {
        let role: FeatureMap.Role
        let channels: Int
        let slot: Int
    }

    /// One thing to do.
    enum Step: Sendable {
        case layer(Layer)
        /// Copies activations side by side. The parts' channels need not fill whole vectors, so a
        /// kernel cannot leave its results at their place; a copy costs little beside a convolution.
        case join(parts: [MapName], result: MapName)
        /// Rounds a wide map in its place.
        case round(MapName, bits: Int)
    }

    /// One kernel call.
    struct Layer: Sendable {
        let kernel: PackedConvolution
        let input: MapName
        let wide: MapName?
        let activations: MapName?
    }

    private let network: Network
    private let fused: (steps: [Step], result: MapName)?
    private let isa: InstructionSet

    /// Whether every convolution runs in a kernel.
    var isFused: Bool { fused != nil }
    /// How many rows or columns away the network looks.
    var reach: Int { network.reach }
    /// An upper bound of the scratch memory per position, in bytes.
    let bytesPerPosition: Int

    /// Compiles a network.
    init(_ network: Network, isa: InstructionSet) {
        self.network = network
        self.isa = isa
        self.fused = NetworkCompiler.compile(network, isa: isa)
        if let fused {
            let names = Set(fused.steps.flatMap(\.maps))
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
        guard let fused else {
            return runReference(
                latents,
                latentChannels: latentChannels,
                selection: selection,
                images: images,
                scratch: scratch
            )
        }
        scratch.map(.latents(channels: network.inputChannels)).load(
            latents,
            latentChannels: latentChannels,
            selection: selection,
            images: images
        )
        for step in fused.steps {
            switch step {
            case .layer(let layer):
                layer.kernel.run(
                    images: images,
                    input: scratch.map(layer.input),
                    wide: layer.wide.map(scratch.map),
                    activations: layer.activations.map(scratch.map)
                )
            case .join(let parts, let result):
                scratch.map(result).join(parts.map(scratch.map), images: images)
            case .round(let map, let bits):
                scratch.map(map).round(bits: bits, images: images)
            }
        }
        return scratch.map(fused.result)
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

extension CompiledNetwork.MapName {
    /// The map of a network's input.
    static func latents(channels: Int) -> Self {
        Self(role: .latents, channels: channels, slot: 0)
    }
}

extension CompiledNetwork.Step {
    /// The maps that the step reads and writes.
    fileprivate var maps: [CompiledNetwork.MapName] {
        switch self {
        case .layer(let layer): [layer.input, layer.wide, layer.activations].compactMap(\.self)
        case .join(let parts, let result): parts + [result]
        case .round(let map, _): [map]
        }
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
