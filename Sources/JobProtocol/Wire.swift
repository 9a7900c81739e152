import Foundation

/// JSON as it goes over the wire: UTF-8, keys sorted, absent values left out.
package enum Wire {
    /// Returns the JSON text of a value; with line breaks when `isPretty`, for files that people
    /// read.
    package static func encode(_ value: some Encodable, isPretty: Bool = false) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if isPretty {
            encoder.outputFormatting.insert(.prettyPrinted)
        }
        do {
            return [UInt8](try encoder.encode(value))
        } catch {
            // Only a number that is not finite or a value without JSON form can end here, and
            // the protocol's types have neither once they are read or checked.
            preconditionFailure("a protocol value has a JSON form: \(error)")
        }
    }

    /// Reads a value from JSON text.
    ///
    /// - Throws: What is wrong and under which key.
    package static func decode<Value: Decodable>(
        _ type: Value.Type,
        from bytes: [UInt8]
    ) throws(WireError) -> Value {
        do {
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch let error as DecodingError {
            throw WireError(error)
        } catch {
            throw WireError(path: "", reason: "\(error)")
        }
    }
}

/// JSON text that is not the value that was asked for.
package struct WireError: Error, Equatable {
    /// The keys that lead to the place, joined by dots; empty for the whole text.
    package let path: String
    package let reason: String

    init(path: String, reason: String) {
        self.path = path
        self.reason = reason
    }

    init(_ error: DecodingError) {
        let (context, missing): (DecodingError.Context, (any CodingKey)?) =
            switch error {
            case .typeMismatch(_, let context), .valueNotFound(_, let context),
                .dataCorrupted(let context):
                (context, nil)
            case .keyNotFound(let key, let context): (context, key)
            @unknown default:
                (DecodingError.Context(codingPath: [], debugDescription: "\(error)"), nil)
            }
        path = (context.codingPath + (missing.map { [$0] } ?? []))
            .map(\.stringValue).joined(separator: ".")
        reason = missing == nil ? context.debugDescription : "The key is missing."
    }
}
