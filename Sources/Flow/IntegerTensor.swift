/// Integers of a batch of images, `[image][y][x][channel]`, the values of the reference engine.
///
/// Everything is held as Int32, whatever the value's type, so that the reference has one kind of
/// loop; the ranges are the business of the operations.
package struct IntegerTensor: Equatable, Sendable {
    /// The number of images.
    package let count: Int
    /// Rows and columns of each image at this level.
    package let height: Int
    package let width: Int
    /// Channels of each position.
    package let channels: Int
    /// The numbers, `[image][y][x][channel]`.
    package private(set) var values: [Int32]

    /// Makes a tensor of given values.
    package init(count: Int, height: Int, width: Int, channels: Int, values: [Int32]) {
        precondition(
            values.count == count * height * width * channels,
            "values must fill the tensor"
        )
        self.count = count
        self.height = height
        self.width = width
        self.channels = channels
        self.values = values
    }

    /// Makes a tensor of zeros.
    init(count: Int, height: Int, width: Int, channels: Int) {
        self.init(
            count: count,
            height: height,
            width: width,
            channels: channels,
            values: [Int32](repeating: 0, count: count * height * width * channels)
        )
    }

    /// The number of positions of all images.
    var positions: Int { count * height * width }

    /// The values of one position, addressed by `(image · height + y) · width + x`.
    subscript(position: Int, channel: Int) -> Int32 {
        get { values[position * channels + channel] }
        set { values[position * channels + channel] = newValue }
    }

    /// Returns the number of a position.
    func position(_ image: Int, _ y: Int, _ x: Int) -> Int {
        (image * height + y) * width + x
    }

    /// Returns the tensor with each value replaced; the closure also sees the channel.
    func mapValues(_ transform: (_ value: Int32, _ channel: Int) -> Int32) -> IntegerTensor {
        var result = self
        for index in values.indices {
            result.values[index] = transform(values[index], index % channels)
        }
        return result
    }

    /// Returns the chosen channels, in the order of the list.
    func selecting(_ selection: [Int]) -> IntegerTensor {
        var result = IntegerTensor(
            count: count,
            height: height,
            width: width,
            channels: selection.count
        )
        for position in 0..<positions {
            for (new, old) in selection.enumerated() {
                result[position, new] = self[position, old]
            }
        }
        return result
    }

    /// Returns the channels of this tensor followed by those of another.
    func joining(_ other: IntegerTensor) -> IntegerTensor {
        var result = IntegerTensor(
            count: count,
            height: height,
            width: width,
            channels: channels + other.channels
        )
        for position in 0..<positions {
            for channel in 0..<channels { result[position, channel] = self[position, channel] }
            for channel in 0..<other.channels {
                result[position, channels + channel] = other[position, channel]
            }
        }
        return result
    }

    /// Returns `[H][W][C]` as `[H/2][W/2][4C]`; channel c of sub-pixel (dy, dx) becomes
    /// channel `(dy · 2 + dx) · C + c`.
    func squeezed() -> IntegerTensor {
        var result = IntegerTensor(
            count: count,
            height: height / 2,
            width: width / 2,
            channels: 4 * channels
        )
        for image in 0..<count {
            for y in 0..<height {
                for x in 0..<width {
                    let from = position(image, y, x)
                    let to = result.position(image, y / 2, x / 2)
                    let first = (y % 2 * 2 + x % 2) * channels
                    for channel in 0..<channels {
                        result[to, first + channel] = self[from, channel]
                    }
                }
            }
        }
        return result
    }

    /// Returns `[H/2][W/2][4C]` as `[H][W][C]`, the mirror of `squeezed`.
    func unsqueezed() -> IntegerTensor {
        var result = IntegerTensor(
            count: count,
            height: height * 2,
            width: width * 2,
            channels: channels / 4
        )
        for image in 0..<count {
            for y in 0..<result.height {
                for x in 0..<result.width {
                    let from = position(image, y / 2, x / 2)
                    let to = result.position(image, y, x)
                    let first = (y % 2 * 2 + x % 2) * result.channels
                    for channel in 0..<result.channels {
                        result[to, channel] = self[from, first + channel]
                    }
                }
            }
        }
        return result
    }
}
