/// An image of three 8-bit channels, as the flow takes and returns it.
package struct PlanarImage: Equatable, Sendable {
    /// The number of channels: red, green, blue.
    package static let channels = 3

    /// The number of columns, at least 1.
    package let width: Int
    /// The number of rows, at least 1.
    package let height: Int
    /// Samples 0…255, `[channel][y][x]`; `3 · height · width` of them.
    package let samples: [UInt8]

    /// Makes an image.
    ///
    /// - Parameters:
    ///   - width: The number of columns, at least 1.
    ///   - height: The number of rows, at least 1.
    ///   - samples: Samples, `[channel][y][x]`.
    package init(width: Int, height: Int, samples: [UInt8]) {
        precondition(width > 0 && height > 0, "an image has at least one pixel")
        precondition(
            samples.count == Self.channels * width * height,
            "an image has 3 · height · width samples"
        )
        self.width = width
        self.height = height
        self.samples = samples
    }
}
