/// The sizes of blocks that the format allows.
///
/// A block holds 1 to 64 images of one size, 2^21 pixels at most in all. A larger image is cut into
/// bands of rows; see ``bands(width:height:multiple:)``.
package enum BlockLimits {
    /// The most images of a block.
    package static let images = 64

    /// The most pixels of a block, padding not counted.
    package static let pixels = 1 << 21

    /// The most memory that coding a block takes beside its images and its payload, in bytes.
    ///
    /// For each pixel 12 bytes of latents, 15 of the pass in hand and 12 of intervals (decoding needs
    /// none of these); and the networks' scratch memory.
    package static let workingBytes = 39 * pixels + (32 << 20)

    /// The widest image of a block, in pixels: 16 of its rows are 2^21 pixels.
    package static let width = 1 << 17

    /// Returns whether a block may hold `count` images of this size; any integers are accepted.
    package static func allow(count: Int, width: Int, height: Int) -> Bool {
        // Each factor is bounded before the product is formed.
        (1...images).contains(count) && (1...Self.width).contains(width)
            && (1...pixels).contains(height) && count * width * height <= pixels
    }

    /// Cuts an image into bands of rows, each of which is a block of its own.
    ///
    /// An image of at most 2^21 pixels is one band. All bands of a larger one but the last have the
    /// same number of rows: the largest multiple of `multiple` that keeps them within 2^21 pixels.
    ///
    /// - Parameters:
    ///   - width: The image's width in pixels, at least 1.
    ///   - height: The image's height in pixels, at least 1.
    ///   - multiple: What the model pads sides to a multiple of, `FlowModel.paddingMultiple`.
    /// - Returns: The rows of each band, from the top; nil where the image cannot be cut and is
    ///   stored: wider than 2^17 pixels, or too wide for `multiple` rows.
    package static func bands(width: Int, height: Int, multiple: Int) -> [Range<Int>]? {
        precondition(width > 0 && height > 0, "an image has at least one pixel")
        precondition(multiple > 0, "rows come in positive multiples")
        guard width <= Self.width else { return nil }
        guard height > pixels / width else { return [0..<height] }
        let rows = pixels / width / multiple * multiple
        guard rows > 0 else { return nil }
        return stride(from: 0, to: height, by: rows).map { $0..<min($0 + rows, height) }
    }
}
