import Foundation

/// Makes model files with random weights, small enough for tests.
///
/// The parts (`flow`, `tensors`, `metadata`) can be changed before `bytes()` to make faulty files.
package struct ModelBuilder {
    /// The shape of the model to make.
    package struct Shape: Sendable {
        /// Which channels a coupling shifts.
        package enum Order: String, CaseIterable, Sendable {
            /// Step k shifts sub-pixel 3 − k mod 4 from the other three.
            case lifting
            /// A quarter of the channels after a random permutation.
            case permuted
        }

        /// How the layers of a network are connected.
        package enum Connections: String, CaseIterable, Sendable {
            /// Blocks that add to a trunk.
            case residual
            /// Layers whose results join everything before them.
            case dense
        }

        package var levels = 2
        package var couplings = 2
        package var connections = Connections.residual
        /// Channels of the trunk in the networks of couplings and of priors; channels that each
        /// layer of a dense network adds.
        package var channels = 8
        package var priorChannels = 8
        /// Channels inside a residual block, when not those of the trunk.
        package var hiddenChannels: Int?
        /// Whether a convolution of the latents is added to the result of residual networks, and
        /// the sum rounded by 4 bits.
        package var shortcuts = false
        /// Residual blocks or dense layers of each network.
        package var blocks = 1
        /// Groups of the channels that leave at each level, 1 or 2.
        package var groups = 2
        package var order = Order.lifting
        package var colour = "ycocg-r"
        package var correctsScales = false
        package var correctsMeans = false
        package var mirrors = false

        package init() {}
    }

    /// One tensor; `values` fit the type.
    package struct Tensor: Sendable {
        package var name: String
        /// `I8`, `I16` or `I32`.
        package var type: String
        package var shape: [Int]
        package var values: [Int]

        package init(name: String, type: String, shape: [Int], values: [Int]) {
            self.name = name
            self.type = type
            self.shape = shape
            self.values = values
        }
    }

    /// The flow description, JSON text.
    package var flow: String
    /// The tensors in file order.
    package var tensors: [Tensor] = []
    /// The metadata besides the flow description.
    package var metadata = [
        "flowpack.format": "1", "flowpack.profile": "test", "flowpack.provenance": "{}",
    ]

    private var generator: SeededGenerator

    /// Makes a random model.
    ///
    /// - Parameters:
    ///   - shape: The shape of the model.
    ///   - seed: The seed of the weights.
    package init(_ shape: Shape = Shape(), seed: UInt64) {
        self.generator = SeededGenerator(seed: seed)
        self.flow = ""
        var levels: [String] = []
        var channels = 12
        for level in 0..<shape.levels {
            let isLast = level == shape.levels - 1
            levels.append(makeLevel(level, channels: channels, isLast: isLast, shape))
            channels = 4 * (channels / 2)
        }
        let corrects = shape.correctsScales ? #""correctsScales":true,"# : ""
        let means = shape.correctsMeans ? #""correctsMeans":true,"# : ""
        let mirrors = shape.mirrors ? #""mirrors":true,"# : ""
        self.flow =
            #"{"channels":3,"colour":"\#(shape.colour)",\#(corrects)\#(means)\#(mirrors)"#
            + #""levels":[\#(levels.joined(separator: ","))]}"#
        makeTables()
    }

    /// Returns the bytes of the model file.
    package func bytes() -> [UInt8] {
        var metadata = metadata
        metadata["flowpack.flow"] = flow
        let pairs = metadata.sorted { $0.key < $1.key }.map {
            "\(Self.quoted($0.key)):\(Self.quoted($0.value))"
        }
        var entries = [#""__metadata__":{\#(pairs.joined(separator: ","))}"#]
        var data: [UInt8] = []
        for tensor in tensors {
            let start = data.count
            let size = ["I8": 1, "I16": 2, "I32": 4][tensor.type] ?? 8
            for value in tensor.values {
                data += (0..<size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
            }
            entries.append(
                """
                \(Self.quoted(tensor.name)):{"dtype":"\(tensor.type)","shape":\(tensor.shape),\
                "data_offsets":[\(start),\(data.count)]}
                """
            )
        }
        return Self.file(header: "{\(entries.joined(separator: ","))}", data: data)
    }

    /// Returns a safetensors file of a header text and data.
    package static func file(header: String, data: [UInt8]) -> [UInt8] {
        let text = Array(header.utf8)
        return (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) } + text + data
    }

    /// Changes one tensor.
    ///
    /// - Parameters:
    ///   - name: The name of a tensor that is there.
    ///   - change: Gets the tensor.
    package mutating func change(_ name: String, _ change: (inout Tensor) -> Void) {
        guard let index = tensors.firstIndex(where: { $0.name == name }) else {
            preconditionFailure("no tensor \(name)")
        }
        change(&tensors[index])
    }

    private static func quoted(_ text: String) -> String {
        let escaped = text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
        return "\"\(escaped)\""
    }
}

// MARK: - Parts

extension ModelBuilder {
    private mutating func makeLevel(
        _ level: Int,
        channels: Int,
        isLast: Bool,
        _ shape: Shape
    ) -> String {
        let quarter = channels / 4
        var steps: [String] = []
        for step in 0..<shape.couplings {
            let target: [Int]
            let context: [Int]
            switch shape.order {
            case .lifting:
                let first = (3 - step % 4) * quarter
                target = Array(first..<first + quarter)
                context = (0..<channels).filter { !target.contains($0) }
            case .permuted:
                let permutation = (0..<channels).shuffled(using: &generator)
                target = Array(permutation[..<quarter])
                context = Array(permutation[quarter...])
            }
            let network = makeNetwork(
                "l\(level).s\(step)",
                from: context.count,
                to: quarter,
                through: shape.channels,
                shape
            )
            steps.append(#"{"context":\#(context),"target":\#(target),"network":\#(network)}"#)
        }
        let keep = isLast ? 0 : channels / 2
        let order = (0..<channels).shuffled(using: &generator)
        let leaving = channels - keep
        let sizes = shape.groups == 1 ? [leaving] : [leaving / 3, leaving - leaving / 3]
        var groups: [String] = []
        var first = keep
        for (group, size) in sizes.enumerated() {
            let name = "l\(level).g\(group)"
            if first == 0 {
                let means = (0..<size).map { _ in Int.random(in: -200...200, using: &generator) }
                let scales = (0..<size).map { _ in Int.random(in: 60...110, using: &generator) }
                tensors.append(
                    Tensor(
                        name: "\(name).static",
                        type: "I16",
                        shape: [2 * size],
                        values: means + scales
                    )
                )
                groups.append(#"{"channels":\#(size),"static":"\#(name).static"}"#)
            } else {
                let network = makeNetwork(
                    name,
                    from: first,
                    to: 2 * size,
                    through: shape.priorChannels,
                    shape
                )
                groups.append(#"{"channels":\#(size),"network":\#(network)}"#)
            }
            first += size
        }
        let permutation = shape.order == .permuted ? #""order":\#(order),"# : ""
        return """
            {"steps":[\(steps.joined(separator: ","))],\(permutation)"keep":\(keep),\
            "groups":[\(groups.joined(separator: ","))]}
            """
    }

    /// Makes a network and its tensors; returns its JSON.
    private mutating func makeNetwork(
        _ name: String,
        from inputs: Int,
        to outputs: Int,
        through channels: Int,
        _ shape: Shape
    ) -> String {
        let hidden = shape.hiddenChannels ?? channels
        var ops: [String] = []
        var value = "latents"
        var count = 0
        func emit(_ op: String, _ input: String, _ rest: String) -> String {
            count += 1
            ops.append(#"{"op":"\#(op)","input":"\#(input)","output":"v\#(count)",\#(rest)}"#)
            return "v\(count)"
        }
        func concat(_ inputs: [String]) -> String {
            count += 1
            ops.append(#"{"op":"concat","inputs":\#(inputs),"output":"v\#(count)"}"#)
            return "v\(count)"
        }
        func layer(
            _ layer: String,
            _ input: String,
            _ inputs: Int,
            _ outputs: Int,
            kernel: Int,
            type: String
        ) -> String {
            let tensor = "\(name).\(layer)"
            let sum = emit(
                "convolution",
                input,
                #""weight":"\#(tensor).weight","bias":"\#(tensor).bias""#
            )
            addLayer(tensor, inputs, outputs, kernel: kernel)
            return emit(
                "requantise",
                sum,
                #""shift":\#(Int.random(in: 5...8, using: &generator)),"#
                    + #""multiplier":"\#(tensor).multiplier","type":"\#(type)""#
            )
        }
        func rescale(_ layer: String, _ input: String) -> String {
            add("\(name).\(layer).rescale", "I16", [channels], 8000...32767)
            return emit("rescale", input, #""multiplier":"\#(name).\#(layer).rescale""#)
        }
        if shape.connections == .dense {
            var joined = inputs
            value = layer("entry", value, inputs, inputs, kernel: 1, type: "u8")
            for block in 0..<shape.blocks {
                let middle = layer("d\(block).a", value, joined, joined, kernel: 1, type: "u8")
                let added = layer("d\(block).b", middle, joined, channels, kernel: 3, type: "u8")
                value = concat([value, added])
                joined += channels
            }
            _ = layer("last", value, joined, outputs, kernel: 3, type: "i16")
            return #"{"ops":[\#(ops.joined(separator: ","))]}"#
        }
        let shortcut =
            shape.shortcuts
            ? layer("shortcut", value, inputs, outputs, kernel: 3, type: "i16") : nil
        value = layer("first", value, inputs, channels, kernel: 3, type: "i16")
        for block in 0..<shape.blocks {
            let activations = rescale("b\(block)", value)
            let middle = layer(
                "b\(block).a",
                activations,
                channels,
                hidden,
                kernel: 3,
                type: "u8"
            )
            let kernel = block % 2 == 0 ? 3 : 1
            let branch = layer(
                "b\(block).b",
                middle,
                hidden,
                channels,
                kernel: kernel,
                type: "i16"
            )
            value = emit("add", value, #""other":"\#(branch)""#)
        }
        value = rescale("last", value)
        value = layer("last", value, channels, outputs, kernel: 3, type: "i16")
        if let shortcut {
            value = emit("add", shortcut, #""other":"\#(value)""#)
            _ = emit("round", value, #""bits":4"#)
        }
        return #"{"ops":[\#(ops.joined(separator: ","))]}"#
    }

    private mutating func addLayer(_ name: String, _ inputs: Int, _ outputs: Int, kernel: Int) {
        add("\(name).weight", "I8", [outputs, inputs, kernel, kernel], -127...127)
        add("\(name).bias", "I32", [outputs], -20_000...20_000)
        add("\(name).multiplier", "I16", [outputs], 500...9000)
    }

    private mutating func add(
        _ name: String,
        _ type: String,
        _ shape: [Int],
        _ range: ClosedRange<Int>
    ) {
        let values = (0..<shape.reduce(1, *)).map { _ in Int.random(in: range, using: &generator) }
        tensors.append(Tensor(name: name, type: type, shape: shape, values: values))
    }

    /// Adds the CDF tables, by the formulas of the model file format.
    private mutating func makeTables() {
        var logistic = (0...1536).map { Int((65536 / (1 + exp(-Double($0 - 768) / 64))).rounded()) }
        logistic[0] = 0
        logistic[1536] = 65536
        let scales = (0..<128).map { 0.05 * pow(64 / 0.05, Double($0) / 127) }
        tensors += [
            Tensor(name: "cdf.logistic", type: "I32", shape: [1537], values: logistic),
            Tensor(
                name: "cdf.inverse_scale",
                type: "I32",
                shape: [128],
                values: scales.map { Int((65536 * 64 / (32 * $0)).rounded()) }
            ),
            Tensor(
                name: "cdf.window",
                type: "I32",
                shape: [128],
                values: scales.map { max(4, Int((10 * $0).rounded(.up))) }
            ),
        ]
    }
}
