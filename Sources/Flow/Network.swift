/// The element type of a value inside a network.
package enum ValueType: String, Sendable {
    /// Activations, 0…255.
    case uint8 = "u8"
    /// Latents (clamped to ±1023 at the input), trunk values and results.
    case int16 = "i16"
    /// Exact sums of a convolution.
    case int32 = "i32"
}

/// A convolution with stride 1 and a border of zeros.
package struct Convolution: Sendable {
    /// The name of the weight tensor, for messages.
    package let name: String
    /// The side of the window: 1 or 3; the border is `kernelSize / 2` wide.
    package let kernelSize: Int
    /// The number of input channels I.
    package let inputChannels: Int
    /// The number of output channels O.
    package let outputChannels: Int
    /// Weights −127…127, `[O][I][kernelSize][kernelSize]`, last index fastest.
    package let weights: [Int8]
    /// Biases, `[O]`.
    package let bias: [Int32]

    /// The multiply-accumulates of one output position.
    package var macs: Int { weights.count }
}

/// One step of a network; values are numbered, see ``Network``.
package enum Operation: Sendable {
    /// s32 = Σ weight · input + bias; exact.
    case convolution(Convolution, input: Int)
    /// From s32: `(sat16(v >> shift) · multiplier[c] + 2^14) >> 15`, clamped to 0…255 for `.uint8`.
    case requantise(input: Int, shift: Int, multiplier: [Int16], type: ValueType)
    /// From i16: `(v · multiplier[c] + 2^14) >> 15`, clamped to 0…255.
    case rescale(input: Int, multiplier: [Int16])
    /// The saturating i16 sum of two values.
    case add(input: Int, other: Int)
    /// From i16: `(v + 2^(bits − 1)) >> bits`, i16.
    case round(input: Int, bits: Int)
    /// The channels of several u8 values, one value after the other.
    case concat(inputs: [Int])

    /// The numbers of the values that it reads.
    var inputs: [Int] {
        switch self {
        case .convolution(_, let input), .requantise(let input, _, _, _), .rescale(let input, _),
            .round(let input, _):
            [input]
        case .add(let input, let other): [input, other]
        case .concat(let inputs): inputs
        }
    }
}

/// A network of integer operations, checked: every type and channel number fits, no sum overflows.
///
/// Value 0 is the input (latents, i16, clamped to ±``latentBound``); value n + 1 is the output of
/// operation n. The last value is the result and is i16.
package struct Network: Sendable {
    /// The largest magnitude of a network's input.
    package static let latentBound: Int32 = 1023
    /// The most operations in one network.
    static let maximumOperations = 4096
    /// The most channels that `concat` may make; without a limit a short list could double them
    /// without end.
    static let maximumJoinedChannels = 4096

    /// Channels of the input.
    package let inputChannels: Int
    /// Channels of the result.
    package let outputChannels: Int
    /// The operations in order.
    package let operations: [Operation]
    /// How far the result looks: a position depends on inputs at most this many rows or columns away.
    package let reach: Int

    /// The multiply-accumulates of one position of the result.
    package var macs: Int {
        operations.reduce(0) { sum, operation in
            guard case .convolution(let convolution, _) = operation else { return sum }
            return sum + convolution.macs
        }
    }
}

// MARK: - Resolving a description

extension Network {
    /// What is known of a value while the list is checked.
    private struct Value {
        let type: ValueType
        let channels: Int
        let reach: Int
    }

    /// Resolves the names of a description and checks every rule of `ModelFile.md` §4.
    ///
    /// - Parameters:
    ///   - description: The operation list.
    ///   - inputChannels: Channels of the latents that the network reads.
    ///   - outputChannels: Channels that the result must have.
    ///   - file: The tensors.
    ///   - path: The path of the network in the flow description, for messages.
    /// - Throws: `ModelError` with the path of the operation or the name of the tensor.
    init(
        _ description: NetworkDescription,
        inputChannels: Int,
        outputChannels: Int,
        file: TensorFile,
        path: String
    ) throws(ModelError) {
        guard (1...Self.maximumOperations).contains(description.ops.count) else {
            throw ModelError(
                .outOfRange,
                at: "\(path).ops",
                "\(description.ops.count) operations, not 1…\(Self.maximumOperations)."
            )
        }
        var values = [Value(type: .int16, channels: inputChannels, reach: 0)]
        var numbers = ["latents": 0]
        var operations: [Operation] = []
        for (index, op) in description.ops.enumerated() {
            let place = "\(path).ops.\(index)"
            var inputs: [Int] = []
            for name in op.inputs {
                guard let number = numbers[name] else {
                    throw ModelError(
                        .missing,
                        at: place,
                        "reads \"\(name)\", which no operation before it makes."
                    )
                }
                inputs.append(number)
            }
            let resolved: (operation: Operation, value: Value) =
                switch op.kind {
                case .convolution(let weight, let bias):
                    try Self.convolution(
                        inputs[0],
                        values[inputs[0]],
                        weight: weight,
                        bias: bias,
                        file: file,
                        place: place
                    )
                case .requantise(let shift, let multiplier, let type):
                    try Self.requantise(
                        inputs[0],
                        values[inputs[0]],
                        shift: shift,
                        multiplier: multiplier,
                        type: type,
                        file: file,
                        place: place
                    )
                case .rescale(let multiplier):
                    try Self.rescale(
                        inputs[0],
                        values[inputs[0]],
                        multiplier: multiplier,
                        file: file,
                        place: place
                    )
                case .add:
                    try Self.add(inputs[0], inputs[1], values, place: place)
                case .round(let bits):
                    try Self.round(inputs[0], values[inputs[0]], bits: bits, place: place)
                case .concat:
                    try Self.concat(inputs, values, place: place)
                }
            guard numbers.updateValue(values.count, forKey: op.output) == nil else {
                throw ModelError(.malformed, at: place, "makes \"\(op.output)\" a second time.")
            }
            operations.append(resolved.operation)
            values.append(resolved.value)
        }

        let result = values[values.count - 1]
        guard result.type == .int16, result.channels == outputChannels else {
            throw ModelError(
                .mismatch,
                at: path,
                """
                the result has \(result.channels) channels of \(result.type.rawValue), \
                expected \(outputChannels) of i16.
                """
            )
        }
        self.inputChannels = inputChannels
        self.outputChannels = outputChannels
        self.operations = operations
        self.reach = result.reach
    }

    private static func convolution(
        _ input: Int,
        _ value: Value,
        weight: String,
        bias: String,
        file: TensorFile,
        place: String
    ) throws(ModelError) -> (Operation, Value) {
        guard value.type == .uint8 || input == 0 else {
            throw ModelError(
                .mismatch,
                at: place,
                "convolves \(value.type.rawValue); only u8 values and the latents can be convolved."
            )
        }
        let shape = try file.shape(of: weight)
        guard shape.count == 4, shape[1] == value.channels, shape[2] == shape[3],
            shape[2] == 1 || shape[2] == 3
        else {
            throw ModelError(
                .mismatch,
                at: weight,
                "shape \(shape), expected [O, \(value.channels), k, k] with k = 1 or 3."
            )
        }
        let outputs = shape[0]
        guard try file.shape(of: bias) == [outputs] else {
            throw ModelError(
                .mismatch,
                at: bias,
                "shape \(try file.shape(of: bias)), expected [\(outputs)]."
            )
        }
        let convolution = Convolution(
            name: weight,
            kernelSize: shape[2],
            inputChannels: shape[1],
            outputChannels: outputs,
            weights: try file.int8(weight),
            bias: try file.int32(bias)
        )
        try checkSums(convolution, bias: bias, inputBound: input == 0 ? Int(latentBound) : 255)
        return (
            .convolution(convolution, input: input),
            Value(type: .int32, channels: outputs, reach: value.reach + shape[2] / 2)
        )
    }

    /// Checks that no input can make a sum leave Int32, in whatever order it is formed.
    private static func checkSums(
        _ convolution: Convolution,
        bias: String,
        inputBound: Int
    ) throws(ModelError) {
        let taps = convolution.weights.count / convolution.outputChannels
        for output in 0..<convolution.outputChannels {
            var magnitude = 0
            for weight in convolution.weights[output * taps..<(output + 1) * taps] {
                guard weight != -128 else {
                    throw ModelError(
                        .outOfRange,
                        at: convolution.name,
                        "weight −128; weights are −127…127."
                    )
                }
                magnitude += abs(Int(weight))
            }
            guard inputBound * magnitude + abs(Int(convolution.bias[output])) <= Int32.max else {
                throw ModelError(
                    .outOfRange,
                    at: bias,
                    "the sum of output channel \(output) can leave 32 bits; scale the layer down."
                )
            }
        }
    }

    private static func requantise(
        _ input: Int,
        _ value: Value,
        shift: Int,
        multiplier: String,
        type: ValueType,
        file: TensorFile,
        place: String
    ) throws(ModelError) -> (Operation, Value) {
        guard value.type == .int32 else {
            throw ModelError(
                .mismatch,
                at: place,
                "requantises \(value.type.rawValue); it takes i32 only."
            )
        }
        guard (0...31).contains(shift) else {
            throw ModelError(.outOfRange, at: "\(place).shift", "\(shift), not 0…31.")
        }
        let factors = try multipliers(multiplier, channels: value.channels, file: file)
        return (
            .requantise(input: input, shift: shift, multiplier: factors, type: type),
            Value(type: type, channels: value.channels, reach: value.reach)
        )
    }

    private static func rescale(
        _ input: Int,
        _ value: Value,
        multiplier: String,
        file: TensorFile,
        place: String
    ) throws(ModelError) -> (Operation, Value) {
        guard value.type == .int16 else {
            throw ModelError(
                .mismatch,
                at: place,
                "rescales \(value.type.rawValue); it takes i16 only."
            )
        }
        let factors = try multipliers(multiplier, channels: value.channels, file: file)
        return (
            .rescale(input: input, multiplier: factors),
            Value(type: .uint8, channels: value.channels, reach: value.reach)
        )
    }

    private static func add(
        _ input: Int,
        _ other: Int,
        _ values: [Value],
        place: String
    ) throws(ModelError) -> (Operation, Value) {
        let (first, second) = (values[input], values[other])
        guard first.type == .int16, second.type == .int16, first.channels == second.channels else {
            throw ModelError(
                .mismatch,
                at: place,
                """
                adds \(first.channels) × \(first.type.rawValue) and \(second.channels) × \
                \(second.type.rawValue); both must be i16 with equally many channels.
                """
            )
        }
        return (
            .add(input: input, other: other),
            Value(
                type: .int16,
                channels: first.channels,
                reach: max(first.reach, second.reach)
            )
        )
    }

    private static func round(
        _ input: Int,
        _ value: Value,
        bits: Int,
        place: String
    ) throws(ModelError) -> (Operation, Value) {
        guard value.type == .int16 else {
            throw ModelError(
                .mismatch,
                at: place,
                "rounds \(value.type.rawValue); it takes i16 only."
            )
        }
        guard (1...15).contains(bits) else {
            throw ModelError(.outOfRange, at: "\(place).bits", "\(bits), not 1…15.")
        }
        return (.round(input: input, bits: bits), value)
    }

    private static func concat(
        _ inputs: [Int],
        _ values: [Value],
        place: String
    ) throws(ModelError) -> (Operation, Value) {
        guard inputs.count >= 2 else {
            throw ModelError(
                .outOfRange,
                at: "\(place).inputs",
                "joins \(inputs.count) values; it takes two or more."
            )
        }
        if let wrong = inputs.first(where: { values[$0].type != .uint8 }) {
            throw ModelError(
                .mismatch,
                at: place,
                "joins \(values[wrong].type.rawValue); it takes u8 only."
            )
        }
        let channels = inputs.reduce(0) { $0 + values[$1].channels }
        guard channels <= maximumJoinedChannels else {
            throw ModelError(
                .tooLarge,
                at: place,
                "makes \(channels) channels; a value has at most \(maximumJoinedChannels)."
            )
        }
        let reach = inputs.reduce(0) { max($0, values[$1].reach) }
        return (
            .concat(inputs: inputs),
            Value(type: .uint8, channels: channels, reach: reach)
        )
    }

    private static func multipliers(
        _ name: String,
        channels: Int,
        file: TensorFile
    ) throws(ModelError) -> [Int16] {
        let values = try file.int16(name)
        guard try file.shape(of: name) == [channels] else {
            throw ModelError(
                .mismatch,
                at: name,
                "shape \(try file.shape(of: name)), expected [\(channels)]."
            )
        }
        guard values.allSatisfy({ $0 >= 0 }) else {
            throw ModelError(.outOfRange, at: name, "a multiplier is negative; they are 0…32767.")
        }
        return values
    }
}
