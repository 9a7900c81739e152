/// A coded stream that no encoder of this format writes: damaged, cut short or made up.
package struct BitstreamError: Error, Equatable, Sendable {
    package enum Reason: String, Sendable {
        /// The stream ends before its last symbol, or inside a word or a lane state.
        case truncated
        /// A lane begins below 2^16, where no encoder stops.
        case invalidState
        /// A lane does not end at 2^16, where every encoder begins.
        case finalStateMismatch
        /// Words are left after the last symbol.
        case trailingBytes
        /// The block's image count or image size is outside the limits of the format.
        case invalidGeometry
        /// A section before the stream has a form that no encoder writes.
        case invalidSection
    }

    package let reason: Reason

    /// The place in the stream where decoding stopped, in bytes from its start.
    package let byteOffset: Int

    package init(_ reason: Reason, byteOffset: Int) {
        self.reason = reason
        self.byteOffset = byteOffset
    }
}

extension BitstreamError: CustomStringConvertible {
    package var description: String {
        "corrupt stream: \(reason.rawValue) at byte \(byteOffset)"
    }
}
