internal import EntropyCoding
internal import Kernels

/// The latents of one pass of a block and their distributions, `[image][position][channel]`.
package struct PassLatents {
    /// The latents, in pixels.
    var values: UnsafeBufferPointer<Int16>
    /// One mean for each, in 1/32 pixel.
    var means: UnsafeBufferPointer<Int16>
    /// One scale index for each, below 128.
    var scales: UnsafeBufferPointer<UInt8>

    /// Lends latents, means and scale indices, as many of each.
    package init(
        values: UnsafeBufferPointer<Int16>,
        means: UnsafeBufferPointer<Int16>,
        scales: UnsafeBufferPointer<UInt8>
    ) {
        self.values = values
        self.means = means
        self.scales = scales
    }

    /// The same of an image, of so many.
    func image(_ image: Int, of images: Int) -> PassLatents {
        let size = values.count / images
        let part = image * size..<(image + 1) * size
        return PassLatents(
            values: UnsafeBufferPointer(rebasing: values[part]),
            means: UnsafeBufferPointer(rebasing: means[part]),
            scales: UnsafeBufferPointer(rebasing: scales[part])
        )
    }

    /// Copies a channel, of so many, or every n-th of its positions.
    func channel(_ channel: Int, of channels: Int, every step: Int = 1) -> ChannelLatents {
        ChannelLatents(
            values: values.channel(channel, of: channels, every: step),
            means: means.channel(channel, of: channels, every: step),
            scales: scales.channel(channel, of: channels, every: step)
        )
    }

    /// Finds the intervals, `[image]`.
    func symbols(imageCount: Int, cdf: LogisticCDF, isa: InstructionSet) -> [SymbolSequence] {
        (0..<imageCount).map { image in
            let part = self.image(image, of: imageCount)
            return SymbolSequence(
                values: part.values,
                means: part.means,
                scales: part.scales,
                cdf: cdf,
                isa: isa
            )
        }
    }
}

/// The latents of one channel of a pass, `[image][position]`.
struct ChannelLatents {
    var values: [Int16]
    var means: [Int16]
    var scales: [UInt8]

    /// Copies every n-th position.
    func every(_ step: Int) -> ChannelLatents {
        ChannelLatents(
            values: values.every(step),
            means: means.every(step),
            scales: scales.every(step)
        )
    }

    /// Returns what coding the latents takes, in 1/256 bit; the same on every instruction set.
    func cost(cdf: LogisticCDF, isa: InstructionSet) -> UInt64 {
        symbols(imageCount: 1, cdf: cdf, isa: isa)[0].cost
    }

    /// Finds the intervals, `[image]`.
    func symbols(imageCount: Int, cdf: LogisticCDF, isa: InstructionSet) -> [SymbolSequence] {
        values.withUnsafeBufferPointer { values in
            means.withUnsafeBufferPointer { means in
                scales.withUnsafeBufferPointer { scales in
                    PassLatents(values: values, means: means, scales: scales)
                        .symbols(imageCount: imageCount, cdf: cdf, isa: isa)
                }
            }
        }
    }
}

extension Array {
    /// Copies every n-th element.
    func every(_ step: Int) -> [Element] {
        withUnsafeBufferPointer { $0.channel(0, of: 1, every: step) }
    }
}

extension UnsafeBufferPointer {
    /// Copies one of n interleaved channels, or some of its positions.
    func channel(_ channel: Int, of channels: Int, every step: Int = 1) -> [Element] {
        let size = (count - channel + channels * step - 1) / (channels * step)
        return [Element](unsafeUninitializedCapacity: size) { samples, count in
            for position in 0..<size {
                samples.initializeElement(
                    at: position,
                    to: self[channel + position * channels * step]
                )
            }
            count = size
        }
    }
}

extension UnsafeMutableBufferPointer {
    /// Writes one of n interleaved channels.
    func setChannel(_ channel: Int, of channels: Int, to samples: [Element]) {
        samples.withUnsafeBufferPointer { samples in
            for position in samples.indices {
                self[position * channels + channel] = samples[position]
            }
        }
    }
}
