/// Pixels of one image, planar.
///
/// - Invariant: `samples.count == channels · height · width · bitDepth / 8`.
package struct Image: Equatable, Sendable {
    /// In pixels, at least 1.
    package let width: Int
    /// In pixels, at least 1.
    package let height: Int
    /// 1 grey, 2 grey and alpha, 3 red, green, blue, 4 red, green, blue, alpha.
    package let channels: Int
    /// Bits per sample: 8 or 16.
    package let bitDepth: Int
    /// Samples `[channel][y][x]`; samples of 16 bits are two bytes, the lower first.
    package let samples: [UInt8]

    package init(width: Int, height: Int, channels: Int, bitDepth: Int = 8, samples: [UInt8]) {
        precondition(width > 0 && height > 0, "an image has at least one pixel")
        precondition((1...4).contains(channels), "an image has 1 to 4 channels")
        precondition(bitDepth == 8 || bitDepth == 16, "a sample has 8 or 16 bits")
        precondition(
            samples.count == channels * height * width * (bitDepth / 8),
            "the samples fill width × height × channels"
        )
        self.width = width
        self.height = height
        self.channels = channels
        self.bitDepth = bitDepth
        self.samples = samples
    }

    package var pixelCount: Int { width * height }

    /// The image of some rows.
    package func band(_ rows: Range<Int>) -> Image {
        let rowBytes = width * (bitDepth / 8)
        var band: [UInt8] = []
        band.reserveCapacity(channels * rows.count * rowBytes)
        for channel in 0..<channels {
            let start = channel * height * rowBytes
            band +=
                samples[(start + rows.lowerBound * rowBytes)..<(start + rows.upperBound * rowBytes)]
        }
        return Image(
            width: width,
            height: rows.count,
            channels: channels,
            bitDepth: bitDepth,
            samples: band
        )
    }

    /// Joins bands of one width, channel count and depth from top to bottom, at least one.
    package init(bands: [Image]) {
        let width = bands[0].width
        let channels = bands[0].channels
        let bitDepth = bands[0].bitDepth
        precondition(
            bands.allSatisfy {
                $0.width == width && $0.channels == channels && $0.bitDepth == bitDepth
            },
            "bands have one width, channel count and depth"
        )
        var samples: [UInt8] = []
        samples.reserveCapacity(bands.reduce(0) { $0 + $1.samples.count })
        for channel in 0..<channels {
            for band in bands {
                let planeBytes = band.samples.count / channels
                samples += band.samples[(channel * planeBytes)..<((channel + 1) * planeBytes)]
            }
        }
        self.init(
            width: width,
            height: bands.reduce(0) { $0 + $1.height },
            channels: channels,
            bitDepth: bitDepth,
            samples: samples
        )
    }
}

extension Image {
    /// Reads samples interleaved as `[y][x][channel]`, samples of 16 bits in the host's order.
    init(width: Int, height: Int, channels: Int, bitDepth: Int, interleaved: [UInt8]) {
        let count = width * height
        precondition(interleaved.count == count * channels * (bitDepth / 8))
        let samples = [UInt8](unsafeUninitializedCapacity: interleaved.count) { planar, size in
            interleaved.withUnsafeBytes { source in
                guard let to = planar.baseAddress, let from = source.baseAddress else { return }
                if bitDepth == 8 {
                    deinterleave(
                        from.assumingMemoryBound(to: UInt8.self),
                        to,
                        count: count,
                        channels: channels
                    )
                } else {
                    deinterleave16(from, UnsafeMutableRawPointer(to), count, channels: channels)
                }
            }
            size = interleaved.count
        }
        self.init(
            width: width,
            height: height,
            channels: channels,
            bitDepth: bitDepth,
            samples: samples
        )
    }

    /// The samples as `[y][x][channel]`, samples of 16 bits in the host's order.
    func interleaved() -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: samples.count) { packed, size in
            samples.withUnsafeBytes { source in
                guard let to = packed.baseAddress, let from = source.baseAddress else { return }
                if bitDepth == 8 {
                    interleave(
                        from.assumingMemoryBound(to: UInt8.self),
                        to,
                        count: pixelCount,
                        channels: channels
                    )
                } else {
                    interleave16(
                        from,
                        UnsafeMutableRawPointer(to),
                        pixelCount,
                        channels: channels
                    )
                }
            }
            size = samples.count
        }
    }
}

/// `[count][channels]` → `[channels][count]`, bytes.
private func deinterleave(
    _ source: UnsafePointer<UInt8>,
    _ target: UnsafeMutablePointer<UInt8>,
    count: Int,
    channels: Int
) {
    for channel in 0..<channels {
        let plane = target + channel * count
        var position = channel
        for index in 0..<count {
            plane[index] = source[position]
            position &+= channels
        }
    }
}

/// `[channels][count]` → `[count][channels]`, bytes.
private func interleave(
    _ source: UnsafePointer<UInt8>,
    _ target: UnsafeMutablePointer<UInt8>,
    count: Int,
    channels: Int
) {
    for channel in 0..<channels {
        let plane = source + channel * count
        var position = channel
        for index in 0..<count {
            target[position] = plane[index]
            position &+= channels
        }
    }
}

/// `[count][channels]` of the host's 16-bit words → `[channels][count]` of little-endian pairs.
private func deinterleave16(
    _ source: UnsafeRawPointer,
    _ target: UnsafeMutableRawPointer,
    _ count: Int,
    channels: Int
) {
    for channel in 0..<channels {
        for index in 0..<count {
            let word = source.loadUnaligned(
                fromByteOffset: 2 * (index * channels + channel),
                as: UInt16.self
            )
            target.storeBytes(
                of: word.littleEndian,
                toByteOffset: 2 * (channel * count + index),
                as: UInt16.self
            )
        }
    }
}

/// `[channels][count]` of little-endian pairs → `[count][channels]` of the host's 16-bit words.
private func interleave16(
    _ source: UnsafeRawPointer,
    _ target: UnsafeMutableRawPointer,
    _ count: Int,
    channels: Int
) {
    for channel in 0..<channels {
        for index in 0..<count {
            let word = source.loadUnaligned(
                fromByteOffset: 2 * (channel * count + index),
                as: UInt16.self
            )
            target.storeBytes(
                of: UInt16(littleEndian: word),
                toByteOffset: 2 * (index * channels + channel),
                as: UInt16.self
            )
        }
    }
}
