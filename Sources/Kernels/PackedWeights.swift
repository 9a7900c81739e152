/// The weights, biases, multipliers and rescale factors of a convolution, in aligned memory.
///
/// Weights are `[block][tap row][group][vector][lane][4 bytes]`: in the order of reading. A group is
/// four bytes of input, neighbours in memory; a row of taps is a whole number of them.
final class PackedWeights: Sendable {
    /// Output channels that are summed together.
    struct Block {
        /// The first of them.
        let channel: Int
        /// Accumulator vectors.
        let vectors: Int
        /// Bytes from `base` to the block's weights.
        let weightOffset: Int
    }

    let blocks: [Block]

    // Written by init only; read by any thread.
    nonisolated(unsafe) let base: UnsafeRawPointer
    /// In the order of the accumulators.
    nonisolated(unsafe) let bias: UnsafePointer<Int32>
    /// In the order of the channels.
    nonisolated(unsafe) let multiplier: UnsafePointer<Int16>
    /// In the order of the channels; zero without a rescaling epilogue.
    nonisolated(unsafe) let rescale: UnsafePointer<Int16>

    init(_ layer: Convolution, isa: InstructionSet) {
        let layout = Layout(isa)
        let outputs = layer.outputChannels.roundedUp(toMultipleOf: Layout.channelAlignment)
        let inputs: Int
        let elementSize: Int
        switch layer.input {
        case .latents:
            inputs = layer.inputChannels.roundedUp(toMultipleOf: layout.latentAlignment)
            elementSize = layout.latentSize
        case .activations:
            inputs = layer.inputChannels.roundedUp(toMultipleOf: Layout.channelAlignment)
            elementSize = layout.activationSize
        }
        let taps = layer.kernelSize * layer.kernelSize
        let weightSize = outputs * inputs * taps * elementSize
        let biasSize = outputs * MemoryLayout<Int32>.size
        let factorSize = outputs * MemoryLayout<Int16>.size
        let size = weightSize + biasSize + 2 * factorSize
        let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: size)
        let bias = (memory + weightSize).assumingMemoryBound(to: Int32.self)
        let multiplier = (memory + weightSize + biasSize).assumingMemoryBound(to: Int16.self)
        let rescale = multiplier + outputs

        for channel in 0..<layer.outputChannels {
            multiplier[channel] = layer.multiplier[channel]
            if case .trunk(let factors, _, _) = layer.epilogue {
                rescale[channel] = factors[channel]
            }
        }

        var blocks: [Block] = []
        var channel = 0
        var offset = 0
        let rowGroups = layer.kernelSize * inputs * elementSize / Layout.groupSize
        for vectors in layout.blocks(paddedOutputChannels: outputs) {
            blocks.append(Block(channel: channel, vectors: vectors, weightOffset: offset))
            for vector in 0..<vectors {
                for lane in 0..<layout.lanes {
                    let output =
                        channel + layout.channel(vector: vector, lane: lane, vectors: vectors)
                    guard output < layer.outputChannels else { continue }
                    bias[channel + vector * layout.lanes + lane] = layer.bias[output]
                    for tap in 0..<taps {
                        let row = tap / layer.kernelSize
                        let column = tap % layer.kernelSize
                        for input in 0..<layer.inputChannels {
                            let weight = layer.weights[
                                (output * layer.inputChannels + input) * taps + tap
                            ]
                            let byte = (column * inputs + input) * elementSize
                            let group = row * rowGroups + byte / Layout.groupSize
                            let place =
                                ((group * vectors + vector) * layout.lanes + lane)
                                * Layout.groupSize + byte % Layout.groupSize + offset
                            if elementSize == 1 {
                                memory.storeBytes(of: weight, toByteOffset: place, as: Int8.self)
                            } else {
                                memory.storeBytes(
                                    of: Int16(weight),
                                    toByteOffset: place,
                                    as: Int16.self
                                )
                            }
                        }
                    }
                }
            }
            channel += vectors * layout.lanes
            offset += vectors * layout.lanes * inputs * taps * elementSize
        }
        self.blocks = blocks
        self.base = UnsafeRawPointer(memory)
        self.bias = UnsafePointer(bias)
        self.multiplier = UnsafePointer(multiplier)
        self.rescale = UnsafePointer(rescale)
    }

    deinit {
        base.deallocate()
    }
}
