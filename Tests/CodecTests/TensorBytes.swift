import Foundation
import Testing

/// The tensors of a safetensors file, as bytes: little-endian, row-major.
struct TensorBytes {
    private struct Entry: Decodable {
        let shape: [Int]
        let offsets: [Int]

        enum CodingKeys: String, CodingKey {
            case shape
            case offsets = "data_offsets"
        }
    }

    private let entries: [String: Entry]
    private let data: ArraySlice<UInt8>

    init(_ file: [UInt8]) throws {
        let size = file[..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
        let header = try JSONSerialization.jsonObject(with: Data(file[8..<8 + size]))
        var tensors = header as? [String: Any] ?? [:]
        tensors["__metadata__"] = nil
        entries = try JSONDecoder().decode(
            [String: Entry].self,
            from: JSONSerialization.data(withJSONObject: tensors)
        )
        data = file[(8 + size)...]
    }

    func tensor(_ name: String) throws -> (shape: [Int], bytes: [UInt8]) {
        let entry = try #require(entries[name])
        let start = data.startIndex
        return (entry.shape, Array(data[start + entry.offsets[0]..<start + entry.offsets[1]]))
    }
}
