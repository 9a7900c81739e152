import Flow
import TestSupport
import Testing

/// The smallest model that has every part: a coupling, a static prior and a network prior.
private func smallestModel() -> ModelBuilder {
    var shape = ModelBuilder.Shape()
    shape.levels = 1
    shape.couplings = 1
    shape.channels = 1
    shape.priorChannels = 1
    return ModelBuilder(shape, seed: 1)
}

struct ModelTests {
    @Test func aSoundModelIsRead() throws {
        var shape = ModelBuilder.Shape()
        shape.order = .permuted
        var builder = ModelBuilder(shape, seed: 2)
        builder.metadata["flowpack.provenance"] = #"{"licence":"CC0"}"#

        let model = try FlowModel(bytes: builder.bytes())

        #expect(model.profile == "test")
        #expect(model.provenance == #"{"licence":"CC0"}"#)
        #expect(model.colour == .ycocgR)
        #expect(model.paddingMultiple == 4)
        #expect(model.levels.map(\.channels) == [12, 24])
        #expect(model.levels.map(\.keep) == [6, 0])
        #expect(model.levels[0].groups.map(\.first) == [6, 8])
        #expect(model.levels[0].couplings[0].network.reach == 4)
        #expect(model.logistic.count == 1537 && model.logistic[768] == 32768)
        #expect(model.inverseScale[0] == 2_621_440 && model.window[127] == 640)
    }

    @Test func macsAreCountedPerByte() throws {
        let model = try FlowModel(bytes: smallestModel().bytes())

        // Coupling 9 → 1 → 1 → 1 → 3 and prior 4 → 1 → 1 → 1 → 16, 3×3 all; 12 bytes per position.
        let coupling = 9 * (9 + 1 + 1 + 3)
        let prior = 9 * (4 + 1 + 1 + 16)
        #expect(model.macsPerByte == Double(coupling + prior) / 12)
        #expect(model.macs(width: 3, height: 1) == 2 * (coupling + prior))
    }

    @Test func theIdentifierChangesWithEveryByte() throws {
        let model = try FlowModel(bytes: smallestModel().bytes())
        #expect(model.id.count == 64 && model.id.allSatisfy { "0123456789abcdef".contains($0) })
        var builder = smallestModel()
        builder.metadata["flowpack.provenance"] = "{ }"
        #expect(try FlowModel(bytes: builder.bytes()).id != model.id)
    }
}

struct ModelErrorTests {
    /// A fault of the flow description: text to replace, and what the reader must say.
    struct DescriptionFault: Sendable, CustomTestStringConvertible {
        let old: String
        let new: String
        let reason: ModelError.Reason
        let place: String
        var testDescription: String { "\(new) instead of \(old)" }

        init(_ old: String, _ new: String, _ reason: ModelError.Reason, _ place: String) {
            self.old = old
            self.new = new
            self.reason = reason
            self.place = place
        }
    }

    static let level = "flowpack.flow.levels.0"
    static let network = "\(level).steps.0.network"
    static let descriptionFaults = [
        DescriptionFault(
            #""channels":3,"#,
            #""channels":4,"#,
            .unsupported,
            "flowpack.flow.channels"
        ),
        DescriptionFault(
            #""channels":3,"#,
            #""channels":9223372036854775807,"#,
            .unsupported,
            "flowpack.flow.channels"
        ),
        DescriptionFault("ycocg-r", "lab", .unsupported, "flowpack.flow.colour"),
        DescriptionFault(#""colour""#, #""color""#, .unsupported, "flowpack.flow.color"),
        DescriptionFault(#""levels":["#, #""levels":7,"x":["#, .unsupported, "flowpack.flow.x"),
        DescriptionFault(#"{"channels""#, #"{{"channels""#, .malformed, "flowpack.flow"),
        DescriptionFault(#""keep":0"#, #""keep":4"#, .mismatch, "\(level).keep"),
        DescriptionFault(#""keep":0"#, #""keep":"0""#, .malformed, "\(level).keep"),
        DescriptionFault(#""keep":0,"#, "", .missing, "\(level).keep"),
        DescriptionFault(#""keep":0,"#, #""keep":0,"order":[0,1],"#, .mismatch, "\(level).order"),
        DescriptionFault(
            #""keep":0,"#,
            #""keep":0,"order":[0,0,2,3,4,5,6,7,8,9,10,11],"#,
            .mismatch,
            "\(level).order"
        ),
        DescriptionFault(
            #""target":[9, 10, 11]"#,
            #""target":[9, 10, 12]"#,
            .mismatch,
            "\(level).steps.0"
        ),
        DescriptionFault(
            #""target":[9, 10, 11]"#,
            #""target":[9, 10, 0]"#,
            .mismatch,
            "\(level).steps.0"
        ),
        DescriptionFault(
            #""target":[9, 10, 11]"#,
            #""target":[9, 10, -1]"#,
            .mismatch,
            "\(level).steps.0"
        ),
        DescriptionFault(#""target":[9, 10, 11]"#, #""target":[]"#, .mismatch, "\(level).steps.0"),
        DescriptionFault(#""target":[9, 10, 11]"#, #""target":[9, 10]"#, .mismatch, network),
        DescriptionFault(
            #"{"channels":8"#,
            #"{"channels":7"#,
            .mismatch,
            "\(level).groups.1.network"
        ),
        DescriptionFault(#"{"channels":4"#, #"{"channels":3"#, .mismatch, "l0.g0.static"),
        DescriptionFault(
            #"{"channels":4,"static":"l0.g0.static"}"#,
            #"{"channels":2,"network":{"ops":[]}}"#,
            .mismatch,
            "\(level).groups.0"
        ),
        DescriptionFault(
            #"{"channels":4,"static":"l0.g0.static"}"#,
            #"{"channels":4}"#,
            .unsupported,
            "\(level).groups.0.network"
        ),
        DescriptionFault(
            #"{"channels":4,"static":"l0.g0.static"}"#,
            #"{"channels":13,"static":"x"}"#,
            .mismatch,
            "\(level).groups.0"
        ),
        DescriptionFault(
            #""op":"convolution""#,
            #""op":"deconvolution""#,
            .unsupported,
            "\(network).ops.0.op"
        ),
        DescriptionFault(
            #""op":"convolution""#,
            #""op":"convolution","stride":2"#,
            .unsupported,
            "\(network).ops.0.stride"
        ),
        DescriptionFault(
            #""weight":"l0.s0.first.weight""#,
            #""weight":"nowhere""#,
            .missing,
            "nowhere"
        ),
        DescriptionFault(
            #""weight":"l0.s0.first.weight""#,
            #""weight":"l0.s0.first.bias""#,
            .mismatch,
            "l0.s0.first.bias"
        ),
        DescriptionFault(#""input":"v1""#, #""input":"v9""#, .missing, "\(network).ops.1"),
        DescriptionFault(#""output":"v2""#, #""output":"v1""#, .malformed, "\(network).ops.1"),
        // Puts a digit before the one that is there.
        DescriptionFault(#""shift":"#, #""shift":3"#, .outOfRange, "\(network).ops.1.shift"),
        DescriptionFault(#""type":"i16""#, #""type":"i32""#, .unsupported, "\(network).ops.1.type"),
        DescriptionFault(#""type":"i16""#, #""type":"u8""#, .mismatch, "\(network).ops.2"),
        DescriptionFault(#""other":"v7""#, #""other":"v3""#, .mismatch, "\(network).ops.7"),
        DescriptionFault(#""input":"v3""#, #""input":"v2""#, .mismatch, "\(network).ops.3"),
    ]

    @Test(arguments: descriptionFaults)
    func faultyDescriptionsAreNamed(fault: DescriptionFault) throws {
        var builder = smallestModel()
        let range = try #require(builder.flow.firstRange(of: fault.old), "\(builder.flow)")
        builder.flow.replaceSubrange(range, with: fault.new)

        let error = try #require(throws: ModelError.self) { try FlowModel(bytes: builder.bytes()) }

        #expect(error.reason == fault.reason, "\(error)")
        #expect(error.place == fault.place, "\(error)")
        #expect(!error.message.isEmpty)
    }

    static let concatFaults = [
        DescriptionFault(#""v2", "v6""#, #""v2""#, .outOfRange, "\(network).ops.6.inputs"),
        DescriptionFault(#""v2", "v6""#, "", .outOfRange, "\(network).ops.6.inputs"),
        DescriptionFault(#""v2", "v6""#, #""v2", "latents""#, .mismatch, "\(network).ops.6"),
        DescriptionFault(#""v2", "v6""#, #""v2", "v5""#, .mismatch, "\(network).ops.6"),
        DescriptionFault(#""v2", "v6""#, #""v2", "v7""#, .missing, "\(network).ops.6"),
        DescriptionFault(#""v2", "v6""#, #""v2", "v6", "v6""#, .mismatch, "l0.s0.last.weight"),
        DescriptionFault(#""inputs":["#, #""input":["#, .unsupported, "\(network).ops.6.input"),
        DescriptionFault(#"["v2", "v6"]"#, #""v2""#, .malformed, "\(network).ops.6.inputs"),
        DescriptionFault(
            #""v2", "v6""#,
            #""v2""# + String(repeating: #","v2""#, count: 4096),
            .tooLarge,
            "\(network).ops.6"
        ),
    ]

    @Test(arguments: concatFaults)
    func faultyConcatenationsAreNamed(fault: DescriptionFault) throws {
        var shape = ModelBuilder.Shape()
        shape.levels = 1
        shape.couplings = 1
        shape.connections = .dense
        var builder = ModelBuilder(shape, seed: 3)
        let range = try #require(builder.flow.firstRange(of: fault.old), "\(builder.flow)")
        builder.flow.replaceSubrange(range, with: fault.new)

        let error = try #require(throws: ModelError.self) { try FlowModel(bytes: builder.bytes()) }

        #expect(error.reason == fault.reason, "\(error)")
        #expect(error.place == fault.place, "\(error)")
    }

    @Test(arguments: [
        DescriptionFault(#""bits":4"#, #""bits":0"#, .outOfRange, "\(network).ops.14.bits"),
        DescriptionFault(#""bits":4"#, #""bits":16"#, .outOfRange, "\(network).ops.14.bits"),
        DescriptionFault(
            #""round","input":"v14""#,
            #""round","input":"v12""#,
            .mismatch,
            "\(network).ops.14"
        ),
    ])
    func faultyRoundingsAreNamed(fault: DescriptionFault) throws {
        var shape = ModelBuilder.Shape()
        shape.levels = 1
        shape.couplings = 1
        shape.shortcuts = true
        var builder = ModelBuilder(shape, seed: 3)
        let range = try #require(builder.flow.firstRange(of: fault.old), "\(builder.flow)")
        builder.flow.replaceSubrange(range, with: fault.new)

        let error = try #require(throws: ModelError.self) { try FlowModel(bytes: builder.bytes()) }

        #expect(error.reason == fault.reason, "\(error)")
        #expect(error.place == fault.place, "\(error)")
    }

    @Test(arguments: [
        ("l0.s0.first.weight", 3, -128, ModelError.Reason.outOfRange, "l0.s0.first.weight"),
        ("l0.s0.first.bias", 0, 2_147_483_647, .outOfRange, "l0.s0.first.bias"),
        ("l0.s0.first.bias", 0, -2_147_483_648, .outOfRange, "l0.s0.first.bias"),
        ("l0.s0.first.multiplier", 0, -1, .outOfRange, "l0.s0.first.multiplier"),
        ("l0.s0.b0.rescale", 0, -32768, .outOfRange, "l0.s0.b0.rescale"),
        ("cdf.logistic", 0, 1, .outOfRange, "cdf.logistic"),
        ("cdf.logistic", 1536, 65535, .outOfRange, "cdf.logistic"),
        ("cdf.logistic", 700, 60000, .outOfRange, "cdf.logistic"),
        ("cdf.inverse_scale", 5, 0, .outOfRange, "cdf.inverse_scale"),
        ("cdf.inverse_scale", 5, 2_000_000_000, .outOfRange, "cdf.inverse_scale"),
        ("cdf.window", 9, 0, .outOfRange, "cdf.window"),
        ("cdf.window", 9, 4097, .outOfRange, "cdf.window"),
        ("cdf.window", 0, 4096, .outOfRange, "cdf.inverse_scale"),
    ])
    func numbersOutsideTheirRangesAreNamed(
        tensor: String,
        index: Int,
        value: Int,
        reason: ModelError.Reason,
        place: String
    ) throws {
        var builder = smallestModel()
        builder.change(tensor) { $0.values[index] = value }

        let error = try #require(throws: ModelError.self) { try FlowModel(bytes: builder.bytes()) }

        #expect(error.reason == reason && error.place == place, "\(error)")
    }

    @Test(arguments: ["cdf.logistic", "cdf.inverse_scale", "cdf.window", "l0.s0.last.multiplier"])
    func shapesMustFit(tensor: String) throws {
        var builder = smallestModel()
        builder.change(tensor) {
            $0.values.append(0)
            $0.shape[0] += 1
        }

        let error = try #require(throws: ModelError.self) { try FlowModel(bytes: builder.bytes()) }

        #expect(error.reason == .mismatch && error.place == tensor, "\(error)")
    }

    @Test(arguments: ["flowpack.format", "flowpack.profile", "flowpack.provenance"])
    func metadataIsNeeded(name: String) throws {
        var builder = smallestModel()
        builder.metadata[name] = nil
        let error = try #require(throws: ModelError.self) { try FlowModel(bytes: builder.bytes()) }
        #expect(error.reason == .missing && error.place == name)
    }

    @Test func otherVersionsAreRefused() throws {
        var builder = smallestModel()
        builder.metadata["flowpack.format"] = "2"
        let error = try #require(throws: ModelError.self) { try FlowModel(bytes: builder.bytes()) }
        #expect(error.reason == .unsupported && error.place == "flowpack.format")
    }
}

struct TensorFileTests {
    private static func entry(_ type: String, _ shape: String, _ offsets: String) -> String {
        #"{"dtype":"\#(type)","shape":\#(shape),"data_offsets":\#(offsets)}"#
    }

    @Test(arguments: [
        (#"[]"#, 0, ModelError.Reason.malformed),
        (#"{"a":"#, 0, .malformed),
        (#"{"a":{}}"#, 0, .missing),
        (#"{"a":"# + String(repeating: "[", count: 100_000), 0, .malformed),
        ("{\"a\":" + String(repeating: "{\"a\":", count: 100_000), 0, .malformed),
        ("{\u{0}}", 0, .malformed),
        (#"{"a":\#(entry("F32", "[1]", "[0,4]"))}"#, 4, .unsupported),
        (#"{"a":\#(entry("I8", "[4]", "[0,4,8]"))}"#, 4, .unsupported),
        (#"{"a":\#(entry("I8", "[]", "[0,1]"))}"#, 1, .malformed),
        (#"{"a":\#(entry("I8", "[0]", "[0,0]"))}"#, 0, .malformed),
        (#"{"a":\#(entry("I8", "[-4]", "[0,4]"))}"#, 4, .malformed),
        (#"{"a":\#(entry("I8", "[1,1,1,1,1,1,1,1,4]", "[0,4]"))}"#, 4, .malformed),
        (#"{"a":\#(entry("I8", "[4294967296,4294967296]", "[0,0]"))}"#, 4, .malformed),
        (#"{"a":\#(entry("I8", "[9223372036854775807]", "[0,4]"))}"#, 4, .malformed),
        (#"{"a":\#(entry("I16", "[4]", "[0,4]"))}"#, 4, .malformed),
        (#"{"a":\#(entry("I8", "[4]", "[1,5]"))}"#, 5, .malformed),
        (#"{"a":\#(entry("I8", "[4]", "[0,-9223372036854775808]"))}"#, 4, .malformed),
        (
            #"{"a":\#(entry("I8", "[4]", "[0,4]")),"b":\#(entry("I8", "[4]", "[2,6]"))}"#, 6,
            .malformed
        ),
        (
            #"{"a":\#(entry("I8", "[4]", "[0,4]")),"b":\#(entry("I8", "[4]", "[6,10]"))}"#, 10,
            .malformed
        ),
        (#"{"a":\#(entry("I8", "[4]", "[0,4]"))}"#, 5, .malformed),
        (#"{"a":\#(entry("I8", "[4]", "[0,4]"))}"#, 3, .truncated),
        (#"{"__metadata__":{"a":1}}"#, 0, .malformed),
    ])
    func faultyHeadersAreRefused(header: String, dataBytes: Int, reason: ModelError.Reason) throws {
        let bytes = ModelBuilder.file(header: header, data: Array(repeating: 1, count: dataBytes))
        let error = try #require(throws: ModelError.self) { try FlowModel(bytes: bytes) }
        #expect(error.reason == reason, "\(error)")
    }

    @Test func headerLengthsAreChecked() {
        for (length, reason) in [
            (UInt64(1), ModelError.Reason.truncated), (1 << 24, .truncated),
            (1 << 24 + 1, .tooLarge),
            (.max, .tooLarge), (1 << 63, .tooLarge),
        ] {
            let bytes = (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) }
            let error = #expect(throws: ModelError.self) { try FlowModel(bytes: bytes) }
            #expect(error?.reason == reason)
        }
    }

    @Test func everyTruncationIsRefused() {
        // Each byte of the header, then samples of the tensors.
        let bytes = smallestModel().bytes()
        let dataStart = 8 + Int(bytes[0]) + Int(bytes[1]) << 8 + Int(bytes[2]) << 16
        let counts = Array(0..<dataStart) + stride(from: dataStart, to: bytes.count, by: 97)
        for count in counts {
            let error = #expect(throws: ModelError.self) {
                try FlowModel(bytes: Array(bytes[..<count]))
            }
            guard error?.reason == .truncated else {
                Issue.record("\(count) of \(bytes.count) bytes: \(String(describing: error))")
                return
            }
        }
    }

    @Test func everyTruncatedHeaderIsRefused() {
        let bytes = smallestModel().bytes()
        let header = bytes[8..<8 + Int(bytes[0]) + Int(bytes[1]) << 8 + Int(bytes[2]) << 16]
        for count in stride(from: 0, to: header.count, by: 41) {
            let text = String(decoding: header.prefix(count), as: UTF8.self)
            #expect(throws: ModelError.self, "\(count) bytes") {
                try FlowModel(bytes: ModelBuilder.file(header: text, data: []))
            }
        }
    }

    @Test func flippedBitsNeverTrap() {
        let bytes = smallestModel().bytes()
        var generator = SeededGenerator(seed: 4)
        var refused = 0
        for _ in 0..<300 {
            // The header with the flow description in it, and the first tensors.
            var damaged = bytes
            let byte = Int.random(in: 0..<6000, using: &generator)
            damaged[byte] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            do {
                _ = try FlowModel(bytes: damaged)
            } catch {
                refused += 1
            }
        }
        #expect(refused > 150, "seed 4")
    }
}
