/// Why a model file was refused, where, and what to do about it.
package struct ModelError: Error, Equatable {
    /// The kinds of faults a model file can have.
    package enum Reason: String, Sendable {
        /// The file ends before the bytes that it announces.
        case truncated
        /// A size is above a limit of the format.
        case tooLarge
        /// The bytes are not what the format says: no JSON, overlapping tensors, trailing bytes.
        case malformed
        /// A format version, an operation or a type that this version does not know.
        case unsupported
        /// A tensor or a field that is needed is not there.
        case missing
        /// Two parts do not fit together: shapes, channel numbers, types.
        case mismatch
        /// A number is outside the range that keeps the arithmetic exact.
        case outOfRange
    }

    /// The kind of fault.
    package let reason: Reason
    /// The tensor's name or the field's path, such as `levels.0.steps.2.network.ops.5`; nil for the
    /// file as a whole.
    package let place: String?
    /// What is wrong and what to do, in one or two sentences.
    package let message: String

    init(_ reason: Reason, at place: String? = nil, _ message: String) {
        self.reason = reason
        self.place = place
        self.message = message
    }
}

extension ModelError: CustomStringConvertible {
    /// Returns one line: the place, then the message.
    package var description: String {
        guard let place else { return "model file: \(message)" }
        return "model file, \(place): \(message)"
    }
}
