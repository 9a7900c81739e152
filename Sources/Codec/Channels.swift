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

    /// Gives `body` one of n interleaved channels; the buffer itself where there is but one.
    func withChannel<Result>(
        _ channel: Int,
        of channels: Int,
        _ body: (UnsafeBufferPointer<Element>) -> Result
    ) -> Result {
        if channels == 1 { return body(self) }
        return self.channel(channel, of: channels).withUnsafeBufferPointer(body)
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
