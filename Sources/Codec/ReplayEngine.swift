package import Flow
package import Kernels

/// An engine that gives again what another engine made of one block, without computing anything.
///
/// A ``BlockCodec`` on it does all of its work but the flow, which is how entropy coding is timed.
package struct ReplayEngine: FlowEngine {
    /// What an engine gives to `pass`, in the order of the symbols.
    private struct Pass: Sendable {
        let values: [Int16]
        let means: [Int16]
        let scales: [UInt8]
    }

    package let model: FlowModel
    package let isa: InstructionSet
    private let images: [PlanarImage]
    /// In decode order.
    private let passes: [Pass]

    /// Runs an engine on a block and keeps what it gives.
    package init(recording engine: any FlowEngine, images: [PlanarImage]) {
        var passes: [Int: Pass] = [:]
        engine.forward(images) { index, values, means, scales in
            passes[index] = Pass(
                values: Array(values),
                means: Array(means),
                scales: Array(scales)
            )
        }
        self.model = engine.model
        self.isa = engine.isa
        self.images = images
        self.passes = passes.sorted { $0.key < $1.key }.map(\.value)
    }

    package func forward(_ images: [PlanarImage], pass: ForwardPass) {
        precondition(images.count == self.images.count, "the block is the recorded one")
        for (index, recorded) in passes.enumerated() {
            recorded.values.withUnsafeBufferPointer { values in
                recorded.means.withUnsafeBufferPointer { means in
                    recorded.scales.withUnsafeBufferPointer { scales in
                        pass(index, values, means, scales)
                    }
                }
            }
        }
    }

    package func inverse<Failure: Error>(
        count: Int,
        width: Int,
        height: Int,
        pass: InversePass<Failure>
    ) throws(Failure) -> [PlanarImage] {
        precondition(count == images.count, "the block is the recorded one")
        for (index, recorded) in passes.enumerated() {
            var decoded = [Int16](repeating: 0, count: recorded.values.count)
            try decoded.withUnsafeMutableBufferPointer { values throws(Failure) in
                try recorded.means.withUnsafeBufferPointer { means throws(Failure) in
                    try recorded.scales.withUnsafeBufferPointer { scales throws(Failure) in
                        try pass(index, means, scales, values)
                    }
                }
            }
        }
        return images
    }

    /// Runs the inverse of an engine on the recorded latents.
    ///
    /// - Returns: The images that were recorded, if the engine is right.
    func invert(on engine: any FlowEngine) -> [PlanarImage] {
        engine.inverse(count: images.count, width: images[0].width, height: images[0].height) {
            index,
            _,
            _,
            values in
            _ = values.update(fromContentsOf: passes[index].values)
        }
    }
}
