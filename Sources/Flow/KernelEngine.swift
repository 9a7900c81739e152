package import Kernels

/// The flow on the fast kernels of one instruction set; equal to ``ReferenceEngine`` bit for bit.
///
/// All images of a block go through each step together, in tiles whose scratch memory fits a cache.
/// Memory of a call, for P padded pixels of all images together and networks with at most B bytes of
/// scratch per position of a level that is W positions wide: at most 12 P bytes of latents, 15 P bytes
/// for the pass in hand, and about `max(8 MiB, 10 · reach · W · B)` of scratch for each size of tile
/// that the networks of a level use (one, when they are alike).
package struct KernelEngine: FlowEngine {
    package let model: FlowModel
    package let isa: InstructionSet
    private let limits: Tiling.Limits
    private let levels: [CompiledLevel]

    /// Prepares a model for an instruction set.
    ///
    /// - Parameters:
    ///   - model: The model to run.
    ///   - isa: A supported instruction set.
    ///   - limits: How much scratch memory a tile may take; the results do not depend on it.
    package init(model: FlowModel, isa: InstructionSet, limits: Tiling.Limits = Tiling.Limits()) {
        self.model = model
        self.isa = isa
        self.limits = limits
        self.levels = model.levels.map { CompiledLevel($0, isa: isa) }
    }

    /// The number of networks that have no fused form and run on the reference.
    package var unfusedNetworks: Int {
        levels.reduce(0) { $0 + $1.networks.count { !$0.isFused } }
    }

    package func forward(_ images: [PlanarImage], pass: ForwardPass) {
        let size = blockSize(images)
        var latents = LatentBuffer(
            count: images.count,
            height: model.padded(size.height) / 2,
            width: model.padded(size.width) / 2,
            channels: 4 * PlanarImage.channels
        )
        loadPixels(images, model.colour, latents)
        for (index, level) in levels.enumerated() {
            let pool = ScratchPool(isa: isa)
            for coupling in level.couplings {
                shift(latents, by: coupling, subtracting: false, pool)
            }
            for (number, group) in level.groups.enumerated() {
                let count = latents.positions * group.channels.count
                let values = Storage<Int16>(count: count)
                let means = Storage<Int16>(count: count)
                let scales = Storage<UInt8>(count: count)
                gather(latents, group.channels, values.start)
                makePrior(group, latents, means, scales, pool)
                pass(
                    model.firstPass(ofLevel: index) + number,
                    values.elements,
                    means.elements,
                    scales.elements
                )
            }
            guard !level.kept.isEmpty else { return }
            let next = LatentBuffer(
                count: latents.count,
                height: latents.height / 2,
                width: latents.width / 2,
                channels: 4 * level.kept.count
            )
            squeeze(latents, level.kept, next)
            latents = next
        }
    }

    package func inverse<Failure: Error>(
        count: Int,
        width: Int,
        height: Int,
        pass: InversePass<Failure>
    ) throws(Failure) -> [PlanarImage] {
        precondition(count > 0 && width > 0 && height > 0, "a block holds at least one pixel")
        var coarser = LatentBuffer(count: 0, height: 0, width: 0, channels: 0)
        for (index, level) in levels.enumerated().reversed() {
            let pool = ScratchPool(isa: isa)
            let latents = LatentBuffer(
                count: count,
                height: model.padded(height) >> (index + 1),
                width: model.padded(width) >> (index + 1),
                channels: level.channels
            )
            if !level.kept.isEmpty { unsqueeze(coarser, level.kept, latents) }
            for (number, group) in level.groups.enumerated() {
                let count = latents.positions * group.channels.count
                let values = Storage<Int16>(count: count)
                let means = Storage<Int16>(count: count)
                let scales = Storage<UInt8>(count: count)
                makePrior(group, latents, means, scales, pool)
                values.mutableElements.initialize(repeating: 0)
                try pass(
                    model.firstPass(ofLevel: index) + number,
                    means.elements,
                    scales.elements,
                    values.mutableElements
                )
                scatter(values.start, group.channels, latents)
            }
            for coupling in level.couplings.reversed() {
                shift(latents, by: coupling, subtracting: true, pool)
            }
            coarser = latents
        }
        return storePixels(coarser, model.colour, width: width, height: height)
    }

    /// Adds the translation of a coupling to its target channels, or subtracts it.
    private func shift(
        _ latents: borrowing LatentBuffer,
        by coupling: CompiledLevel.CompiledCoupling,
        subtracting: Bool,
        _ pool: ScratchPool
    ) {
        run(coupling.network, latents, coupling.context, pool) { result, stride, first, positions in
            let target = latents.start + first * latents.channels
            if subtracting {
                subtract(result, stride, coupling.target, target, latents.channels, positions)
            } else {
                add(result, stride, coupling.target, target, latents.channels, positions)
            }
        }
    }

    /// Writes mean and scale of every symbol of a group.
    private func makePrior(
        _ group: CompiledLevel.CompiledGroup,
        _ latents: borrowing LatentBuffer,
        _ means: borrowing Storage<Int16>,
        _ scales: borrowing Storage<UInt8>,
        _ pool: ScratchPool
    ) {
        let channels = group.channels.count
        switch group.prior {
        case .network(let network):
            run(network, latents, group.context, pool) { result, stride, first, positions in
                splitPrior(
                    result,
                    stride,
                    channels,
                    means.start + first * channels,
                    scales.start + first * channels,
                    positions
                )
            }
        case .constant(let values):
            values.withUnsafeBufferPointer { values in
                guard let start = values.baseAddress else { return }
                splitPrior(start, 0, channels, means.start, scales.start, latents.positions)
            }
        }
    }

    /// Runs a network over all positions, tile by tile.
    ///
    /// The body takes the results of positions that follow one another: pointer, distance of two
    /// positions, number of the first position, and how many there are.
    private func run(
        _ network: CompiledNetwork,
        _ latents: borrowing LatentBuffer,
        _ context: [Int],
        _ pool: ScratchPool,
        body: (UnsafePointer<Int16>, Int, Int, Int) -> Void
    ) {
        let tiling = Tiling(
            count: latents.count,
            height: latents.height,
            bytesPerRow: network.bytesPerPosition * latents.width,
            reach: network.reach,
            limits: limits
        )
        let scratch = pool.scratch(
            images: tiling.images,
            height: tiling.height,
            width: latents.width
        )
        for tile in tiling.tiles {
            let firstRow = tile.image * latents.height + tile.firstRow
            let result = network.run(
                latents.start + firstRow * latents.width * latents.channels,
                latentChannels: latents.channels,
                selection: context,
                images: tile.images,
                scratch: scratch
            )
            guard let values = UnsafePointer(result.wideValues.baseAddress) else { continue }
            let skipped = (tile.rows.lowerBound - tile.firstRow) * latents.width
            body(
                values + skipped * result.paddedChannels,
                result.paddedChannels,
                firstRow * latents.width + skipped,
                tile.images * tile.rows.count * latents.width
            )
        }
    }
}

/// A level with its networks packed and its final order folded into the channel lists.
private struct CompiledLevel: Sendable {
    struct CompiledCoupling: Sendable {
        let context: [Int]
        let target: [Int]
        let network: CompiledNetwork
    }

    struct CompiledGroup: Sendable {
        enum Prior: Sendable {
            case network(CompiledNetwork)
            case constant([Int16])
        }

        let context: [Int]
        let channels: [Int]
        let prior: Prior
    }

    let channels: Int
    let couplings: [CompiledCoupling]
    let kept: [Int]
    let groups: [CompiledGroup]

    init(_ level: Level, isa: InstructionSet) {
        self.channels = level.channels
        self.couplings = level.couplings.map { coupling in
            CompiledCoupling(
                context: coupling.context,
                target: coupling.target,
                network: CompiledNetwork(coupling.network, isa: isa)
            )
        }
        self.kept = Array(level.order[..<level.keep])
        self.groups = level.groups.map { group in
            let prior: CompiledGroup.Prior =
                switch group.prior {
                case .network(let network): .network(CompiledNetwork(network, isa: isa))
                case .constant(let values): .constant(values)
                }
            return CompiledGroup(
                context: Array(level.order[..<group.first]),
                channels: Array(level.order[group.first..<group.first + group.channels]),
                prior: prior
            )
        }
    }

    var networks: [CompiledNetwork] {
        couplings.map(\.network)
            + groups.compactMap { group in
                if case .network(let network) = group.prior { network } else { nil }
            }
    }
}
