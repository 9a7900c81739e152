package import Kernels

/// The flow as the specification has it: whole tensors, one operation after another, plain loops.
///
/// This is the definition (`ModelFile.md` §4–5); every other engine equals it bit for bit.
package struct ReferenceEngine: FlowEngine {
    package let model: FlowModel
    package let isa = InstructionSet.reference

    /// Makes an engine for a model.
    package init(model: FlowModel) {
        self.model = model
    }

    package func forward(_ images: [PlanarImage], pass: ForwardPass) {
        forward(images, observe: { _, _ in }, pass: pass)
    }

    /// Gives every intermediate value of `forward` too.
    ///
    /// - Parameters:
    ///   - images: At least one image, all of one size.
    ///   - observe: Called with `levelL.squeezed`, `levelL.coupled` (after the final order), and the
    ///     outputs of operations: `levelL.stepS.opK` of couplings and `levelL.priorG.opK` of priors.
    ///   - pass: As for the protocol's function.
    package func forward(
        _ images: [PlanarImage],
        observe: (_ name: String, _ value: IntegerTensor) -> Void,
        pass: (
            _ index: Int,
            _ values: UnsafeBufferPointer<Int16>,
            _ means: UnsafeBufferPointer<Int16>,
            _ scales: UnsafeBufferPointer<UInt8>
        ) -> Void
    ) {
        var latents = model.latents(images)
        for (index, level) in model.levels.enumerated() {
            latents = latents.squeezed()
            observe("level\(index).squeezed", latents)
            for (step, coupling) in level.couplings.enumerated() {
                latents.shift(coupling, by: { $0 &+ $1 }) {
                    observe("level\(index).step\(step).op\($0)", $1)
                }
            }
            latents = latents.selecting(level.order)
            observe("level\(index).coupled", latents)
            for (number, group) in level.groups.enumerated() {
                let prior = group.reference(latents.selecting(Array(0..<group.first))) {
                    observe("level\(index).prior\(number).op\($0)", $1)
                }
                let values = latents.selecting(Array(group.first..<group.first + group.channels))
                values.values.map { Int16($0) }.withUnsafeBufferPointer { values in
                    prior.means.withUnsafeBufferPointer { means in
                        prior.scales.withUnsafeBufferPointer { scales in
                            pass(model.firstPass(ofLevel: index) + number, values, means, scales)
                        }
                    }
                }
            }
            latents = latents.selecting(Array(0..<level.keep))
        }
    }

    package func inverse<Failure: Error>(
        count: Int,
        width: Int,
        height: Int,
        pass: InversePass<Failure>
    ) throws(Failure) -> [PlanarImage] {
        precondition(count > 0 && width > 0 && height > 0, "a block holds at least one pixel")
        let depth = model.levels.count
        var latents = IntegerTensor(
            count: count,
            height: model.padded(height) >> depth,
            width: model.padded(width) >> depth,
            channels: 0
        )
        for (index, level) in model.levels.enumerated().reversed() {
            for (number, group) in level.groups.enumerated() {
                let prior = group.reference(latents)
                var values = [Int16](repeating: 0, count: latents.positions * group.channels)
                try fill(&values, model.firstPass(ofLevel: index) + number, prior, pass)
                latents = latents.joining(
                    IntegerTensor(
                        count: count,
                        height: latents.height,
                        width: latents.width,
                        channels: group.channels,
                        values: values.map { Int32($0) }
                    )
                )
            }
            latents = latents.selecting(inverted(level.order))
            for coupling in level.couplings.reversed() {
                latents.shift(coupling, by: { $0 &- $1 })
            }
            latents = latents.unsqueezed()
        }
        return model.images(latents, width: width, height: height)
    }

    /// Calls `pass` for the values of one pass.
    private func fill<Failure: Error>(
        _ values: inout [Int16],
        _ index: Int,
        _ prior: (means: [Int16], scales: [UInt8]),
        _ pass: (
            _ index: Int,
            _ means: UnsafeBufferPointer<Int16>,
            _ scales: UnsafeBufferPointer<UInt8>,
            _ values: UnsafeMutableBufferPointer<Int16>
        ) throws(Failure) -> Void
    ) throws(Failure) {
        try prior.means.withUnsafeBufferPointer { means throws(Failure) in
            try prior.scales.withUnsafeBufferPointer { scales throws(Failure) in
                try values.withUnsafeMutableBufferPointer { values throws(Failure) in
                    try pass(index, means, scales, values)
                }
            }
        }
    }
}

/// Returns the permutation that undoes another.
private func inverted(_ order: [Int]) -> [Int] {
    var result = order
    for (new, old) in order.enumerated() { result[old] = new }
    return result
}

extension IntegerTensor {
    /// Replaces the target channels of a coupling by `combine(latent, translation)`, wrapped to 16 bits.
    fileprivate mutating func shift(
        _ coupling: Coupling,
        by combine: (Int32, Int32) -> Int32,
        observe: (_ operation: Int, _ output: IntegerTensor) -> Void = { _, _ in }
    ) {
        let translation = coupling.network.reference(selecting(coupling.context), observe: observe)
        for position in 0..<positions {
            for (index, target) in coupling.target.enumerated() {
                let shifted = combine(self[position, target], translation[position, index])
                self[position, target] = Int32(Int16(truncatingIfNeeded: shifted))
            }
        }
    }
}

extension PriorGroup {
    /// Computes the prior of every symbol of the group.
    ///
    /// - Parameters:
    ///   - context: The channels before the group in the level's final order.
    ///   - observe: Called with the number and the output of every operation of the network.
    /// - Returns: Means in 1/32 pixel and scale indices 0…127, `[image][y][x][channel]`.
    package func reference(
        _ context: IntegerTensor,
        observe: (_ operation: Int, _ output: IntegerTensor) -> Void = { _, _ in }
    ) -> (means: [Int16], scales: [UInt8]) {
        let positions = context.positions
        let parameters: IntegerTensor
        switch prior {
        case .network(let network):
            parameters = network.reference(context, observe: observe)
        case .constant(let values):
            parameters = IntegerTensor(
                count: context.count,
                height: context.height,
                width: context.width,
                channels: 2 * channels
            ).mapValues { _, channel in Int32(values[channel]) }
        }
        var means: [Int16] = []
        var scales: [UInt8] = []
        for position in 0..<positions {
            for channel in 0..<channels {
                means.append(Int16(parameters[position, channel]))
                let scale = parameters[position, channels + channel]
                scales.append(UInt8(min(max(scale, 0), Int32(FlowModel.maximumScale))))
            }
        }
        return (means, scales)
    }
}

extension FlowModel {
    /// Returns the latents of padded images, three channels.
    fileprivate func latents(_ images: [PlanarImage]) -> IntegerTensor {
        let size = blockSize(images)
        var result = IntegerTensor(
            count: images.count,
            height: padded(size.height),
            width: padded(size.width),
            channels: PlanarImage.channels
        )
        for (index, image) in images.enumerated() {
            for y in 0..<result.height {
                for x in 0..<result.width {
                    // Padding repeats the last row and the last column.
                    let sample = min(y, size.height - 1) * size.width + min(x, size.width - 1)
                    let plane = size.width * size.height
                    let latents = colour.forward(
                        image.samples[sample],
                        image.samples[plane + sample],
                        image.samples[2 * plane + sample]
                    )
                    let position = result.position(index, y, x)
                    result[position, 0] = Int32(latents.0)
                    result[position, 1] = Int32(latents.1)
                    result[position, 2] = Int32(latents.2)
                }
            }
        }
        return result
    }

    /// Returns the images of three channels of latents, without the padding.
    fileprivate func images(_ latents: IntegerTensor, width: Int, height: Int) -> [PlanarImage] {
        (0..<latents.count).map { image in
            var samples = [UInt8](repeating: 0, count: PlanarImage.channels * width * height)
            for y in 0..<height {
                for x in 0..<width {
                    let position = latents.position(image, y, x)
                    let pixel = colour.inverse(
                        Int16(latents[position, 0]),
                        Int16(latents[position, 1]),
                        Int16(latents[position, 2])
                    )
                    let sample = y * width + x
                    samples[sample] = pixel.0
                    samples[width * height + sample] = pixel.1
                    samples[2 * width * height + sample] = pixel.2
                }
            }
            return PlanarImage(width: width, height: height, samples: samples)
        }
    }
}
