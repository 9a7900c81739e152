/// The flow of a model file as its JSON text says it, before tensors are looked up.
///
/// The types mirror the JSON; `ModelFile.md` §3 says what each field means. Shapes and ranges are
/// checked where `FlowModel` resolves the names.
struct FlowDescription: Decodable {
    let channels: Int
    let colour: ColourTransform
    let correctsScales: Bool
    let correctsMeans: Bool
    let mirrors: Bool
    let levels: [LevelDescription]

    init(from decoder: any Decoder) throws {
        let fields = try decoder.fields([
            "channels", "colour", "correctsScales", "correctsMeans", "mirrors", "levels",
        ])
        self.channels = try fields.decode("channels")
        let colour: String = try fields.decode("colour")
        guard let transform = ColourTransform(rawValue: colour) else {
            throw fields.fault("colour", "\"\(colour)\" is not a colour transform of this version.")
        }
        self.colour = transform
        self.correctsScales = try fields.decodeIfPresent("correctsScales") ?? false
        self.correctsMeans = try fields.decodeIfPresent("correctsMeans") ?? false
        self.mirrors = try fields.decodeIfPresent("mirrors") ?? false
        self.levels = try fields.decode("levels")
    }
}

/// One level: couplings, channel order, and the priors of the channels that leave.
struct LevelDescription: Decodable {
    let steps: [StepDescription]
    let order: [Int]?
    let keep: Int
    let groups: [GroupDescription]

    init(from decoder: any Decoder) throws {
        let fields = try decoder.fields(["steps", "order", "keep", "groups"])
        self.steps = try fields.decode("steps")
        self.order = try fields.decodeIfPresent("order")
        self.keep = try fields.decode("keep")
        self.groups = try fields.decode("groups")
    }
}

/// One coupling.
struct StepDescription: Decodable {
    let context: [Int]
    let target: [Int]
    let network: NetworkDescription

    init(from decoder: any Decoder) throws {
        let fields = try decoder.fields(["context", "target", "network"])
        self.context = try fields.decode("context")
        self.target = try fields.decode("target")
        self.network = try fields.decode("network")
    }
}

/// One group of factored-out channels.
struct GroupDescription: Decodable {
    enum Prior {
        case network(NetworkDescription)
        /// The name of an `I16` tensor.
        case constant(String)
    }

    let channels: Int
    let prior: Prior

    init(from decoder: any Decoder) throws {
        let fields = try decoder.fields(["channels", "network", "static"])
        self.channels = try fields.decode("channels")
        let network: NetworkDescription? = try fields.decodeIfPresent("network")
        let constant: String? = try fields.decodeIfPresent("static")
        switch (network, constant) {
        case (let network?, nil): self.prior = .network(network)
        case (nil, let constant?): self.prior = .constant(constant)
        default: throw fields.fault("network", "a group has either \"network\" or \"static\".")
        }
    }
}

/// One network: a list of operations on named values.
struct NetworkDescription: Decodable {
    let ops: [OperationDescription]

    init(from decoder: any Decoder) throws {
        self.ops = try decoder.fields(["ops"]).decode("ops")
    }
}

/// One operation; the tensors are named, not resolved.
struct OperationDescription: Decodable {
    enum Kind {
        case convolution(weight: String, bias: String)
        case requantise(shift: Int, multiplier: String, type: ValueType)
        case rescale(multiplier: String)
        case add
        case round(bits: Int)
        case concat
    }

    let kind: Kind
    /// The values that it reads: two for `add`, any number for `concat`, one for the others.
    let inputs: [String]
    let output: String

    init(from decoder: any Decoder) throws {
        let named = try decoder.container(keyedBy: FieldKey.self)
        let operation = try named.decode(String.self, forKey: FieldKey(stringValue: "op"))
        let own: Set<String> =
            switch operation {
            case "convolution": ["input", "weight", "bias"]
            case "requantise": ["input", "shift", "multiplier", "type"]
            case "rescale": ["input", "multiplier"]
            case "add": ["input", "other"]
            case "round": ["input", "bits"]
            case "concat": ["inputs"]
            default: Set(named.allKeys.map(\.stringValue))
            }
        let fields = try decoder.fields(own.union(["op", "output"]))
        switch operation {
        case "convolution":
            self.kind = .convolution(
                weight: try fields.decode("weight"),
                bias: try fields.decode("bias")
            )
        case "requantise":
            let text: String = try fields.decode("type")
            guard let type = ValueType(rawValue: text), type != .int32 else {
                throw fields.fault("type", "\"\(text)\" is neither \"i16\" nor \"u8\".")
            }
            self.kind = .requantise(
                shift: try fields.decode("shift"),
                multiplier: try fields.decode("multiplier"),
                type: type
            )
        case "rescale":
            self.kind = .rescale(multiplier: try fields.decode("multiplier"))
        case "add":
            self.kind = .add
        case "round":
            self.kind = .round(bits: try fields.decode("bits"))
        case "concat":
            self.kind = .concat
        default:
            throw fields.fault(
                "op",
                "operation \"\(operation)\" is not known to this version; use a newer one."
            )
        }
        self.inputs =
            switch operation {
            case "add": [try fields.decode("input"), try fields.decode("other")]
            case "concat": try fields.decode("inputs")
            default: [try fields.decode("input")]
            }
        self.output = try fields.decode("output")
    }
}
