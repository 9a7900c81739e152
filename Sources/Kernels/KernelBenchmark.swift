/// Measures how fast one core runs the kernels, and how fast it could.
///
/// Rates are in 10^9 multiplications of u8 by s8, with their additions, per second of the thread's
/// processor time (GMAC/s).
package enum KernelBenchmark {
    /// The place of a convolution in a network, which decides what it reads and writes.
    package enum Place: String, Sendable {
        /// From latents to activations.
        case first
        /// From activations to activations.
        case inner
        /// From activations, added to a trunk and rescaled: the end of a residual block.
        case residual
        /// From activations to Int16 results.
        case last
        /// From latents to Int16 results.
        case shortcut
    }

    /// A convolution to measure.
    package struct Shape: Sendable, Equatable {
        /// Rows and columns of the kernel: 1 or 3.
        package let kernelSize: Int
        package let inputChannels: Int
        package let outputChannels: Int
        package let height: Int
        package let width: Int
        package let images: Int
        package let place: Place

        package init(
            kernelSize: Int,
            inputChannels: Int,
            outputChannels: Int,
            height: Int,
            width: Int,
            images: Int,
            place: Place = .inner
        ) {
            self.kernelSize = kernelSize
            self.inputChannels = inputChannels
            self.outputChannels = outputChannels
            self.height = height
            self.width = width
            self.images = images
            self.place = place
        }

        /// Multiply-accumulates of the shape, without those of padded channels.
        package var macs: Int {
            kernelSize * kernelSize * inputChannels * outputChannels * height * width * images
        }
    }

    /// What was measured, over many short samples; see ``ProcessorTime``.
    package struct Rate: Sendable {
        package let bestGMACsPerSecond: Double
        package let medianGMACsPerSecond: Double

        fileprivate init(macs: Int, _ time: ProcessorTime) {
            bestGMACsPerSecond = Double(macs) / time.bestSeconds * 1e-9
            medianGMACsPerSecond = Double(macs) / time.medianSeconds * 1e-9
        }
    }

    /// The rate of the instruction set's dot product on registers alone, the upper limit of a
    /// convolution: `tdpbusd`, `vpdpbusd`, `usdot`, or `pmaddwd` with its addition.
    ///
    /// - Parameters:
    ///   - isa: A supported instruction set; the reference has no such instruction, and rate 0.
    ///   - seconds: Time to measure for.
    /// - Returns: `bestGMACsPerSecond` of the loop. Int16 input has half of it on sets that multiply bytes.
    package static func peakGMACsPerSecond(_ isa: InstructionSet, seconds: Double = 0.2) -> Double {
        precondition(InstructionSet.supported.contains(isa), "the instruction set is supported")
        guard isa != .reference else { return 0 }
        let layout = Layout(isa)
        let rounds = 20_000
        let accumulators = 12
        let macsPerLane = Layout.groupSize / layout.activationSize
        // A tile is 16 pixels of 16 groups.
        let dotProducts = isa == .amx ? 256 : 1
        let macs = rounds * accumulators * dotProducts * layout.lanes * macsPerLane
        return withUnsafeTemporaryAllocation(byteCount: 64, alignment: 64) { operand in
            for index in operand.indices { operand[index] = UInt8(index) }
            let address = UnsafeRawPointer(operand.baseAddress.unsafelyUnwrapped)
            let time = ProcessorTime(seconds: seconds) {
                isa.repeatDotProducts(rounds: rounds, operand: address)
            }
            return Rate(macs: macs, time).bestGMACsPerSecond
        }
    }

    /// The rate of a convolution whose maps and weights are in the cache as far as they fit.
    ///
    /// - Parameters:
    ///   - shape: The convolution.
    ///   - isa: A supported instruction set.
    ///   - seconds: Time to measure for.
    /// - Returns: The rate in `shape.macs`, so that padded channels count as lost time.
    package static func measure(_ shape: Shape, isa: InstructionSet, seconds: Double) -> Rate {
        let outputs = shape.outputChannels
        let weightCount = outputs * shape.inputChannels * shape.kernelSize * shape.kernelSize
        let convolution = PackedConvolution(
            Convolution(
                kernelSize: shape.kernelSize,
                input: shape.place.input,
                inputChannels: shape.inputChannels,
                outputChannels: outputs,
                weights: (0..<weightCount).map { Int8($0 * 89 % 255 - 127) },
                bias: (0..<outputs).map { Int32($0 * 100) },
                shift: 8,
                multiplier: [Int16](repeating: 9000, count: outputs),
                epilogue: shape.place.epilogue(outputChannels: outputs)
            ),
            isa: isa
        )
        func map(_ role: FeatureMap.Role, channels: Int) -> FeatureMap {
            FeatureMap(
                role,
                isa: isa,
                images: shape.images,
                height: shape.height,
                width: shape.width,
                channels: channels
            )
        }
        let input = map(shape.place.input.role, channels: shape.inputChannels)
        let activations = map(.activations, channels: outputs)
        let wide = map(.wide, channels: outputs)
        func run() {
            convolution.run(
                images: shape.images,
                input: input,
                wide: wide,
                activations: activations
            )
        }
        run()
        let repetitions = max(1, macsPerSample / shape.macs)
        let time = ProcessorTime(seconds: seconds) {
            for _ in 0..<repetitions { run() }
        }
        return Rate(macs: repetitions * shape.macs, time)
    }

    /// Work of a sample: a fraction of a millisecond where vectors multiply.
    private static let macsPerSample = 20_000_000
}

extension KernelBenchmark.Place {
    fileprivate var input: Convolution.Input {
        switch self {
        case .first, .shortcut: .latents
        case .inner, .residual, .last: .activations
        }
    }

    fileprivate func epilogue(outputChannels: Int) -> Convolution.Epilogue {
        switch self {
        case .first, .inner: .activation
        case .residual:
            .trunk(
                rescale: [Int16](repeating: 9000, count: outputChannels),
                adding: true,
                storing: true
            )
        case .last, .shortcut: .wide(adding: false)
        }
    }
}
