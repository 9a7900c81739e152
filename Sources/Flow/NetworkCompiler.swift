import Kernels

/// Turns the operations of a network into kernel calls.
///
/// A layer is: convolution of latents or activations; requantisation; for Int16 results perhaps
/// the addition of the trunk (the last Int16 value that became activations) or of a shortcut (an
/// Int16 value that became none); and, unless the network ends here or this is a shortcut, the
/// rescaling of that to activations. The last sum may be rounded. Any number of later steps may
/// convolve or join activations; their map is used again once nothing reads them any more.
struct NetworkCompiler {
    private typealias Layer = CompiledNetwork.Layer
    private typealias MapName = CompiledNetwork.MapName

    private let network: Network
    private let isa: InstructionSet
    /// Channels of every value.
    private let channels: [Int]
    /// The last operation that reads each value, or −1.
    private let lastUse: [Int]
    /// Where the latents and the activations made so far are, or were.
    private var maps: [Int: CompiledNetwork.MapName]
    /// The value in the trunk.
    private var trunk: Int?
    /// The wide maps of the shortcuts.
    private var shortcuts: [Int: CompiledNetwork.MapName] = [:]
    /// The operation to look at.
    private var next = 0

    /// Compiles a network.
    ///
    /// - Parameters:
    ///   - network: The network.
    ///   - isa: A supported instruction set.
    /// - Returns: The steps and the map of the result, or nil when the operations are not layers
    ///   and concatenations.
    static func compile(
        _ network: Network,
        isa: InstructionSet
    ) -> (steps: [CompiledNetwork.Step], result: CompiledNetwork.MapName)? {
        var compiler = NetworkCompiler(network, isa)
        var steps: [CompiledNetwork.Step] = []
        var result: CompiledNetwork.MapName?
        while compiler.next < network.operations.count {
            if let join = compiler.join() {
                steps.append(join)
            } else if let map = result, let bits = compiler.finalRounding() {
                steps.append(.round(map, bits: bits))
            } else if let layer = compiler.layer() {
                steps.append(.layer(layer))
                result = layer.wide
            } else {
                return nil
            }
        }
        return result.map { (steps, $0) }
    }

    private init(_ network: Network, _ isa: InstructionSet) {
        self.network = network
        self.isa = isa
        self.channels = network.channelsOfValues
        var lastUse = [Int](repeating: -1, count: channels.count)
        for (index, operation) in network.operations.enumerated() {
            for value in operation.inputs { lastUse[value] = index }
        }
        self.lastUse = lastUse
        self.maps = [0: .latents(channels: network.inputChannels)]
    }

    /// Takes a concatenation, if the next operation is one.
    private mutating func join() -> CompiledNetwork.Step? {
        guard case .concat(let inputs) = network.operations[next] else { return nil }
        let parts = inputs.compactMap { maps[$0] }
        let result = place(next + 1, from: next)
        next += 1
        return .join(parts: parts, result: result)
    }

    /// Takes the rounding of the result, if it is the last operation; its bits.
    private mutating func finalRounding() -> Int? {
        guard case .round(next, let bits) = network.operations[next],
            next == network.operations.count - 1
        else { return nil }
        next += 1
        return bits
    }

    /// Takes the operations of a layer, if the next ones are one.
    private mutating func layer() -> CompiledNetwork.Layer? {
        // Value n is the output of operation n − 1, so `next` is the value made last.
        let first = next
        let operations = network.operations
        guard case .convolution(let convolution, let source) = operations[first],
            let input = maps[source], first + 1 < operations.count,
            case .requantise(first + 1, let shift, let multiplier, let type) = operations[first + 1]
        else { return nil }
        next += 2
        let outputs = convolution.outputChannels
        var wide = MapName(role: .wide, channels: outputs, slot: 0)
        guard let epilogue = type == .uint8 ? .activation : wideEpilogue(&wide)
        else { return nil }
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
            outputChannels: outputs,
            weights: convolution.weights,
            bias: convolution.bias,
            shift: shift,
            multiplier: multiplier,
            epilogue: epilogue
        )
        return Layer(
            kernel: PackedConvolution(fused, isa: isa),
            input: input,
            wide: usesWide ? wide : nil,
            activations: usesActivations ? place(next, from: first) : nil
        )
    }

    /// Takes what follows a requantisation to Int16, the value `next`.
    ///
    /// `wide` is the map of the trunk; it becomes that of the shortcut which the layer is or adds.
    private mutating func wideEpilogue(_ wide: inout MapName) -> Kernels.Convolution.Epilogue? {
        let operations = network.operations
        guard next < operations.count else { return .wide(adding: false) }
        if case .add(let first, let second) = operations[next] {
            guard first != second, first == next || second == next else { return nil }
            let other = first == next ? second : first
            next += 1
            if let shortcut = shortcuts[other] {
                wide = shortcut
                return lastUse[other] == next - 1 && isResult(next) ? .wide(adding: true) : nil
            }
            guard other == trunk else { return nil }
            return next < operations.count ? rescaled(adding: true) : .wide(adding: true)
        }
        if case .rescale(next, _) = operations[next] { return rescaled(adding: false) }
        wide = MapName(role: .wide, channels: wide.channels, slot: shortcuts.count + 1)
        shortcuts[next] = wide
        return .wide(adding: false)
    }

    /// Takes the rescaling of the value `next`, the new trunk.
    private mutating func rescaled(adding: Bool) -> Kernels.Convolution.Epilogue? {
        guard case .rescale(next, let rescale) = network.operations[next] else { return nil }
        let storing = lastUse[next] > next
        trunk = next
        next += 1
        return .trunk(rescale: rescale, adding: adding, storing: storing)
    }

    /// Whether a value is the network's result or becomes it by rounding.
    private func isResult(_ value: Int) -> Bool {
        guard value < network.operations.count else { return true }
        guard case .round(value, _) = network.operations[value] else { return false }
        return value == network.operations.count - 1
    }

    /// Gives activations a map that holds none which operation `first` or a later one reads.
    private mutating func place(_ value: Int, from first: Int) -> CompiledNetwork.MapName {
        let needed = Set(maps.filter { lastUse[$0.key] >= first }.values)
        var slot = 0
        while needed.contains(MapName(role: .activations, channels: channels[value], slot: slot)) {
            slot += 1
        }
        let map = MapName(role: .activations, channels: channels[value], slot: slot)
        maps[value] = map
        return map
    }
}

extension Network {
    /// Channels of every value, the input first.
    var channelsOfValues: [Int] {
        operations.reduce(into: [inputChannels]) { channels, operation in
            switch operation {
            case .convolution(let convolution, _): channels.append(convolution.outputChannels)
            case .requantise(let input, _, _, _), .rescale(let input, _), .add(let input, _),
                .round(let input, _):
                channels.append(channels[input])
            case .concat(let inputs): channels.append(inputs.reduce(0) { $0 + channels[$1] })
            }
        }
    }
}
