/// An image as it was read from a file, with what the file holds beside the pixels.
package struct DecodedImage: Equatable, Sendable {
    /// What keeps a file from being written again from 8-bit red, green and blue samples alone.
    package enum Restriction: Equatable, Sendable {
        case grey
        /// An alpha channel or a transparent colour.
        case alpha
        case palette
        case sixteenBit
        case animated
        /// Bytes behind the end of the image: more images or foreign data.
        case trailingBytes
        /// PNM samples as decimal text.
        case plainText
        /// PNM samples whose maximum is not 255.
        case sampleRange
        /// A PAM tuple type that is not plain red, green, blue.
        case tupleType
    }

    package let image: Image
    /// Nil where the file can be restored from samples and ``metadata``.
    package let restriction: Restriction?
    /// What ``PNG/write(_:metadata:)`` and ``PNM/write(_:metadata:)`` need to restore the file.
    ///
    /// PNG: its other chunks, see ``PNG``. PNM: its header.
    package let metadata: [UInt8]

    package init(image: Image, restriction: Restriction?, metadata: [UInt8]) {
        self.image = image
        self.restriction = restriction
        self.metadata = metadata
    }

    /// Whether the source stores exactly 8-bit red, green, blue, and nothing that they would lose.
    package var isRGB8: Bool { restriction == nil }
}
