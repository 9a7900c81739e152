import Codec
import EntropyCoding
import Flow
import TestSupport
import Testing

@Suite struct ScaleCostsTests {
    /// Latents around means that are uncertain to the degree that their scales say, and a few far away.
    @Test func countedLatentsCostAboutWhatTheirIntervalsDo() throws {
        let model = try TestModel.correcting.load()
        let cdf = try LogisticCDF(
            logistic: model.logistic,
            inverseScale: model.inverseScale,
            window: model.window
        )
        var generator = SeededGenerator(seed: 41)
        let (channels, positions) = (3, 4000)
        let scales = (0..<channels * positions).map { index in
            UInt8.random(in: UInt8(20 * (index % channels))...110, using: &generator)
        }
        let means = scales.map { _ in Int16.random(in: -8000...8000, using: &generator) }
        let values = zip(means, scales).map { mean, scale in
            let reach: Int32 =
                .random(in: 0..<500, using: &generator) == 0 ? 30000 : 1 << (1 + Int32(scale) / 10)
            return Int16((Int32(mean) + .random(in: -reach...reach, using: &generator)) >> 5)
        }
        let costs = ScaleCosts(cdf)

        for channel in 0..<channels {
            let indices = stride(from: channel, to: values.count, by: 2 * channels)
            let counts = values.withUnsafeBufferPointer { values in
                means.withUnsafeBufferPointer { means in
                    scales.withUnsafeBufferPointer { scales in
                        let latents = PassLatents(values: values, means: means, scales: scales)
                        return DistanceCounts(latents, channel: channel, of: channels, every: 2)
                    }
                }
            }
            for shift: Int16 in [-16, -2, 0, 2, 14] {
                let exact = indices.reduce(0) { sum, index in
                    let scale = UInt8(min(max(Int16(scales[index]) + shift, 0), 127))
                    let cost = cdf.cost(value: values[index], mean: means[index], scale: scale)
                    return sum + Int(cost)
                }
                let estimate = Int(costs.cost(counts, shift: shift))
                #expect(
                    abs(estimate - exact) < exact / 50,
                    "\(estimate) for \(exact), channel \(channel), shift \(shift)"
                )
            }
        }
    }
}
