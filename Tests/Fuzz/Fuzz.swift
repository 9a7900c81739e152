import Foundation

/// A parser of bytes from outside, and what must hold for every input: no trap, no hang, memory within
/// libFuzzer's limit, and a round trip where the input is accepted.
enum Target: String, CaseIterable {
    /// The shard file: `ShardReader`, `ShardDecoder`.
    case shard
    /// The model file: safetensors, its JSON description, and the networks that it describes.
    case model
    /// Manifests and the bodies of requests and answers.
    case message
    /// PNG and PNM.
    case image
    /// The payload of a block: rANS and the inverse flow.
    case payload

    func run(_ bytes: [UInt8]) {
        switch self {
        case .shard: fuzzShard(bytes)
        case .model: fuzzModel(bytes)
        case .message: fuzzMessage(bytes)
        case .image: fuzzImage(bytes)
        case .payload: fuzzPayload(bytes)
        }
    }

    /// The one that `FLOWPACK_FUZZ_TARGET` names.
    static let chosen: Target = {
        let name = ProcessInfo.processInfo.environment["FLOWPACK_FUZZ_TARGET"] ?? ""
        guard let target = Target(rawValue: name) else {
            fatalError("FLOWPACK_FUZZ_TARGET is one of \(allCases.map(\.rawValue))")
        }
        return target
    }()
}

/// What libFuzzer calls with every input.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    Target.chosen.run([UInt8](UnsafeBufferPointer(start: start, count: count)))
    return 0
}

/// Reads numbers and the rest from an input that is not a format of its own.
struct InputReader {
    private(set) var rest: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) {
        rest = bytes[...]
    }

    /// The next byte; 0 behind the end.
    mutating func byte() -> UInt8 {
        rest.popFirst() ?? 0
    }

    /// The next number of a range.
    mutating func number(in range: ClosedRange<Int>) -> Int {
        range.lowerBound + (Int(byte()) << 8 | Int(byte())) % range.count
    }
}
