import Foundation

/// A safetensors file: named integer tensors and text metadata, checked completely.
///
/// Layout: header length (UInt64 little-endian), JSON header, tensor bytes. Only the integer types
/// that the flow needs are accepted, every byte behind the header belongs to exactly one tensor.
/// Specification: the safetensors README, "Format"; the limits are ours (see `ModelFile.md` §1).
struct TensorFile {
    /// The largest file read, in bytes.
    static let maximumFileBytes = 256 << 20
    /// The largest JSON header read, in bytes.
    static let maximumHeaderBytes = 16 << 20
    /// The most tensors in one file.
    static let maximumTensors = 1 << 16
    /// The most dimensions of one tensor.
    static let maximumRank = 8

    /// The text of `__metadata__`.
    let metadata: [String: String]
    private let entries: [String: Entry]
    private let bytes: [UInt8]
    private let dataStart: Int

    /// Reads and checks the header of a file.
    ///
    /// - Parameter bytes: The whole file.
    /// - Throws: `ModelError` for anything that the format does not allow.
    init(_ bytes: [UInt8]) throws(ModelError) {
        guard bytes.count <= Self.maximumFileBytes else {
            throw ModelError(
                .tooLarge,
                "\(bytes.count) bytes; a model has at most \(Self.maximumFileBytes)."
            )
        }
        guard bytes.count >= 8 else {
            throw ModelError(.truncated, "only \(bytes.count) bytes; fetch the file again.")
        }
        let length = (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[$1]) << UInt64(8 * $1) }
        guard length <= UInt64(Self.maximumHeaderBytes) else {
            throw ModelError(
                .tooLarge,
                "a header of \(length) bytes; this is not a safetensors file of integer tensors."
            )
        }
        let dataStart = 8 + Int(length)
        guard dataStart <= bytes.count else {
            throw ModelError(
                .truncated,
                "the header ends at byte \(dataStart), the file at \(bytes.count)."
            )
        }

        let header = try Self.readHeader(bytes[8..<dataStart])
        try Self.checkLayout(header.entries, dataBytes: bytes.count - dataStart)
        self.metadata = header.metadata
        self.entries = header.entries
        self.bytes = bytes
        self.dataStart = dataStart
    }

    /// Returns the shape of a tensor; throws if there is no such tensor.
    func shape(of name: String) throws(ModelError) -> [Int] {
        try entry(name).shape
    }

    /// Returns the values of an `I8` tensor, last index fastest; throws if there is none.
    func int8(_ name: String) throws(ModelError) -> [Int8] {
        try values(name, type: .int8)
    }

    /// Returns the values of an `I16` tensor, last index fastest; throws if there is none.
    func int16(_ name: String) throws(ModelError) -> [Int16] {
        try values(name, type: .int16)
    }

    /// Returns the values of an `I32` tensor, last index fastest; throws if there is none.
    func int32(_ name: String) throws(ModelError) -> [Int32] {
        try values(name, type: .int32)
    }

    private func entry(_ name: String) throws(ModelError) -> Entry {
        guard let entry = entries[name] else {
            throw ModelError(.missing, at: name, "there is no such tensor; export the model again.")
        }
        return entry
    }

    private func values<Value: FixedWidthInteger>(
        _ name: String,
        type: ElementType
    ) throws(ModelError) -> [Value] {
        let entry = try entry(name)
        guard entry.type == type else {
            throw ModelError(
                .mismatch,
                at: name,
                "is \(entry.type.rawValue), must be \(type.rawValue); export the model again."
            )
        }
        let start = dataStart + entry.start
        return bytes.withUnsafeBytes { raw in
            (0..<entry.elements).map { index in
                Value(
                    littleEndian: raw.loadUnaligned(
                        fromByteOffset: start + index * MemoryLayout<Value>.size,
                        as: Value.self
                    )
                )
            }
        }
    }
}

// MARK: - Header

extension TensorFile {
    /// The element types of a model file.
    enum ElementType: String, Decodable {
        case int8 = "I8"
        case int16 = "I16"
        case int32 = "I32"

        /// The size of one element.
        var bytes: Int {
            switch self {
            case .int8: 1
            case .int16: 2
            case .int32: 4
            }
        }
    }

    /// One tensor of the header.
    private struct Entry: Decodable {
        let type: ElementType
        let shape: [Int]
        /// First byte, and the byte behind the last one, counted from the end of the header.
        let start: Int
        let end: Int

        /// The number of elements; `checkLayout` has shown that the product does not overflow.
        var elements: Int { shape.reduce(1, *) }

        init(from decoder: any Decoder) throws {
            let fields = try decoder.fields(["dtype", "shape", "data_offsets"])
            guard let type = ElementType(rawValue: try fields.decode("dtype")) else {
                throw fields.fault("dtype", "only I8, I16 and I32 are known.")
            }
            self.type = type
            self.shape = try fields.decode("shape")
            let offsets: [Int] = try fields.decode("data_offsets")
            guard offsets.count == 2 else { throw fields.fault("data_offsets", "must be a pair.") }
            self.start = offsets[0]
            self.end = offsets[1]
        }
    }

    private struct Header: Decodable {
        var metadata: [String: String] = [:]
        var entries: [String: Entry] = [:]

        init(from decoder: any Decoder) throws {
            let fields = try decoder.container(keyedBy: FieldKey.self)
            for key in fields.allKeys {
                if key.stringValue == "__metadata__" {
                    self.metadata = try fields.decode([String: String].self, forKey: key)
                } else {
                    self.entries[key.stringValue] = try fields.decode(Entry.self, forKey: key)
                }
            }
        }
    }

    private static func readHeader(_ json: ArraySlice<UInt8>) throws(ModelError) -> Header {
        guard json.first == UInt8(ascii: "{"), !json.contains(0) else {
            throw ModelError(
                .malformed,
                "the header is not UTF-8 JSON; this is no safetensors file."
            )
        }
        let header = try decodeJSON(Header.self, from: Data(json))
        guard header.entries.count <= maximumTensors else {
            throw ModelError(
                .tooLarge,
                "\(header.entries.count) tensors; a model has at most \(maximumTensors)."
            )
        }
        return header
    }

    /// Checks that the tensors tile the data section: contiguous, in bounds, nothing left over.
    private static func checkLayout(
        _ entries: [String: Entry],
        dataBytes: Int
    ) throws(ModelError) {
        var end = 0
        for (name, entry) in entries.sorted(by: {
            ($0.value.start, $0.key) < ($1.value.start, $1.key)
        }) {
            guard !entry.shape.isEmpty, entry.shape.count <= maximumRank else {
                throw ModelError(
                    .malformed,
                    at: name,
                    "has \(entry.shape.count) dimensions, not 1…\(maximumRank)."
                )
            }
            var size = entry.type.bytes
            for side in entry.shape {
                guard side > 0, side <= maximumFileBytes / size else {
                    throw ModelError(
                        .malformed,
                        at: name,
                        "shape \(entry.shape) is empty or above the file's limit."
                    )
                }
                size *= side
            }
            guard entry.start == end, entry.end >= entry.start, entry.end - entry.start == size
            else {
                throw ModelError(
                    .malformed,
                    at: name,
                    """
                    covers bytes \(entry.start)..<\(entry.end), expected \(end)..<\(end + size): \
                    tensors follow one another without gap or overlap.
                    """
                )
            }
            end = entry.end
            guard end <= dataBytes else {
                throw ModelError(
                    .truncated,
                    at: name,
                    "ends at byte \(end) of \(dataBytes); fetch the file again."
                )
            }
        }
        guard end == dataBytes else {
            throw ModelError(.malformed, "\(dataBytes - end) bytes follow the last tensor.")
        }
    }
}
