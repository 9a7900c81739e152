/// How long a class of device takes for a byte of source with a model, in the median.
///
/// A row of the table `pace`. The median is estimated by steps towards each new time, up and down
/// alike (Ma, Muthukrishnan and Sandler, "Frugal streaming for estimating quantiles", 2013); steps
/// are ratios, since classes differ by orders of magnitude.
package struct Pace: Equatable, Sendable {
    /// Between two estimates, unless a time is closer.
    private static let step = 1.125

    package let modelID: String
    package let deviceClass: String
    package private(set) var secondsPerByte: Double

    /// The estimate after the first shard.
    ///
    /// - Parameters:
    ///   - modelID: The job's model.
    ///   - deviceClass: The worker's class.
    ///   - seconds: From the lease to the completion.
    ///   - bytes: Source bytes of the shard.
    package init(modelID: String, deviceClass: String, seconds: Double, bytes: Int64) {
        self.init(
            modelID: modelID,
            deviceClass: deviceClass,
            secondsPerByte: Self.secondsPerByte(seconds, bytes)
        )
    }

    init(modelID: String, deviceClass: String, secondsPerByte: Double) {
        self.modelID = modelID
        self.deviceClass = deviceClass
        self.secondsPerByte = secondsPerByte
    }

    /// Takes in a further shard.
    package mutating func take(seconds: Double, bytes: Int64) {
        let new = Self.secondsPerByte(seconds, bytes)
        secondsPerByte = min(max(new, secondsPerByte / Self.step), secondsPerByte * Self.step)
    }

    /// Returns the time that a shard should take, in seconds.
    package func seconds(forBytes bytes: Int64) -> Double {
        secondsPerByte * Double(max(1, bytes))
    }

    private static func secondsPerByte(_ seconds: Double, _ bytes: Int64) -> Double {
        seconds / Double(max(1, bytes))
    }
}
