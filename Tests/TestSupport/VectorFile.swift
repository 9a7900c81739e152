import Foundation

/// A safetensors file of test vectors (`Fixtures/vectors/README.md`), read without ceremony.
package struct VectorFile {
    /// One tensor, whatever its type in the file.
    package struct Tensor: Equatable, Sendable {
        /// The sides, outermost first.
        package let shape: [Int]
        /// The values, last index fastest.
        package let values: [Int32]
    }

    private struct Entry: Decodable {
        let dtype: String
        let shape: [Int]
        let offsets: [Int]

        private enum CodingKeys: String, CodingKey {
            case dtype, shape
            case offsets = "data_offsets"
        }
    }

    private enum Item: Decodable {
        case metadata([String: String])
        case tensor(Entry)

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let entry = try? container.decode(Entry.self) {
                self = .tensor(entry)
            } else {
                self = .metadata(try container.decode([String: String].self))
            }
        }
    }

    /// The text of `__metadata__`.
    package private(set) var metadata: [String: String] = [:]
    /// The tensors by name.
    package private(set) var tensors: [String: Tensor] = [:]

    /// Reads a file.
    ///
    /// - Parameter bytes: The whole file, which is taken to be sound.
    /// - Throws: The error of the JSON decoder.
    package init(_ bytes: [UInt8]) throws {
        let length = (0..<8).reduce(0) { $0 | Int(bytes[$1]) << (8 * $1) }
        let data = Array(bytes[(8 + length)...])
        let items = try JSONDecoder().decode(
            [String: Item].self,
            from: Data(bytes[8..<8 + length])
        )
        for (name, item) in items {
            switch item {
            case .metadata(let texts): self.metadata = texts
            case .tensor(let entry):
                self.tensors[name] = Tensor(
                    shape: entry.shape,
                    values: Self.values(
                        data[entry.offsets[0]..<entry.offsets[1]],
                        entry.dtype
                    )
                )
            }
        }
    }

    private static func values(_ bytes: ArraySlice<UInt8>, _ type: String) -> [Int32] {
        func read<Value: FixedWidthInteger>(_ type: Value.Type) -> [Int32] {
            bytes.withUnsafeBytes { raw in
                stride(from: 0, to: raw.count, by: MemoryLayout<Value>.size).map {
                    Int32(Value(littleEndian: raw.loadUnaligned(fromByteOffset: $0, as: type)))
                }
            }
        }
        switch type {
        case "U8": return read(UInt8.self)
        case "I8": return read(Int8.self)
        case "I16": return read(Int16.self)
        default: return read(Int32.self)
        }
    }
}
