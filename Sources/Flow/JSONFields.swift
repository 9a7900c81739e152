import Foundation

/// Decodes JSON text from a model file.
///
/// - Parameters:
///   - type: The type to decode.
///   - json: UTF-8 JSON text.
///   - root: The path of the text's root for messages; nil for the header itself.
/// - Returns: The decoded value.
/// - Throws: `ModelError` with the path of the field that is wrong.
func decodeJSON<Value: Decodable>(
    _ type: Value.Type,
    from json: Data,
    root: String? = nil
) throws(ModelError) -> Value {
    do {
        return try JSONDecoder().decode(type, from: json)
    } catch let error as DecodingError {
        throw ModelError(error, root: root)
    } catch {
        throw ModelError(.malformed, at: root, "is not JSON: \(error).")
    }
}

extension ModelError {
    fileprivate init(_ error: DecodingError, root: String?) {
        let (reason, context): (Reason, DecodingError.Context) =
            switch error {
            case .keyNotFound(let key, let context):
                (
                    .missing,
                    .init(
                        codingPath: context.codingPath + [key],
                        debugDescription: "is not there; export the model again."
                    )
                )
            case .typeMismatch(_, let context), .valueNotFound(_, let context):
                (.malformed, context)
            case .dataCorrupted(let context):
                (context.underlyingError is FieldFault ? .unsupported : .malformed, context)
            @unknown default:
                (.malformed, .init(codingPath: [], debugDescription: "\(error)"))
            }
        let path = context.codingPath.map { $0.intValue.map(String.init) ?? $0.stringValue }
        let place = ((root.map { [$0] } ?? []) + path).joined(separator: ".")
        self.init(reason, at: place.isEmpty ? nil : place, context.debugDescription)
    }
}

/// Marks a field whose JSON is sound but whose content this version does not accept.
private struct FieldFault: Error {}

/// A key of a JSON object, any text.
struct FieldKey: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }

    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
}

/// The fields of one JSON object, of which all names are known.
struct JSONFields {
    private let container: KeyedDecodingContainer<FieldKey>

    fileprivate init(_ container: KeyedDecodingContainer<FieldKey>) {
        self.container = container
    }

    /// Returns whether the object has a field.
    func has(_ name: String) -> Bool {
        container.contains(FieldKey(stringValue: name))
    }

    /// Returns the value of a field that must be there.
    func decode<Value: Decodable>(_ name: String) throws -> Value {
        try container.decode(Value.self, forKey: FieldKey(stringValue: name))
    }

    /// Returns the value of a field, or nil when the object has no such field.
    func decodeIfPresent<Value: Decodable>(_ name: String) throws -> Value? {
        guard has(name) else { return nil }
        return try decode(name) as Value
    }

    /// Returns the error for a field whose content is not accepted.
    func fault(_ name: String, _ message: String) -> DecodingError {
        DecodingError.dataCorruptedError(
            forKey: FieldKey(stringValue: name),
            in: container,
            message
        )
    }
}

extension DecodingError {
    fileprivate static func dataCorruptedError(
        forKey key: FieldKey,
        in container: KeyedDecodingContainer<FieldKey>,
        _ message: String
    ) -> DecodingError {
        .dataCorrupted(
            Context(
                codingPath: container.codingPath + [key],
                debugDescription: message,
                underlyingError: FieldFault()
            )
        )
    }
}

extension Decoder {
    /// Returns the fields of an object, after refusing every name outside a list.
    ///
    /// An unknown field may change the meaning of the ones beside it, so it is never skipped.
    func fields(_ names: Set<String>) throws -> JSONFields {
        let container = try container(keyedBy: FieldKey.self)
        let fields = JSONFields(container)
        if let unknown = container.allKeys.first(where: { !names.contains($0.stringValue) }) {
            throw fields.fault(
                unknown.stringValue,
                "is not known to this version; use a newer flowpack or export the model for this one."
            )
        }
        return fields
    }
}
