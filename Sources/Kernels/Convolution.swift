/// A convolution with its requantisation and its epilogue, as a model has it.
///
/// For each pixel and each output channel o
///
///     sum = bias[o] + Σ input · weight          over the kernel's window, border value 0
///     v   = (sat16(sum >> shift) · multiplier[o] + 2^14) >> 15
///
/// and `epilogue` says what becomes of v.
package struct Convolution: Sendable {
    /// What a convolution reads.
    package enum Input: Sendable {
        /// Int16 in −1023…1023: the first layer of a network.
        case latents
        /// 0…255.
        case activations
    }

    /// What becomes of the requantised result v.
    package enum Epilogue: Sendable {
        /// Activations are v, clamped to 0…255.
        case activation
        /// The wide map is v; `adding`, it is the saturating sum of itself and v.
        case wide(adding: Bool)
        /// The trunk t is v; `adding`, it is the saturating sum of the wide map and v.
        /// Activations are (t · rescale + 2^14) >> 15, clamped to 0…255, with one factor in
        /// 0…32767 for each channel. `storing`, the wide map becomes t.
        case trunk(rescale: [Int16], adding: Bool, storing: Bool)
    }

    /// Rows and columns of the kernel: 1 or 3.
    package let kernelSize: Int
    package let input: Input
    package let inputChannels: Int
    package let outputChannels: Int
    /// `[outputChannels][inputChannels][kernelSize][kernelSize]`.
    package let weights: [Int8]
    /// `[outputChannels]`.
    package let bias: [Int32]
    /// 0…31.
    package let shift: Int
    /// `[outputChannels]`, 0…32767.
    package let multiplier: [Int16]
    package let epilogue: Epilogue

    /// A convolution of checked parts.
    ///
    /// - Precondition: Counts and ranges are as stated, and no sum can leave Int32:
    ///   `255·Σ|weight| + |bias| < 2^31`, 1023 in place of 255 for latents. The reader of a model
    ///   checks both before.
    package init(
        kernelSize: Int,
        input: Input,
        inputChannels: Int,
        outputChannels: Int,
        weights: [Int8],
        bias: [Int32],
        shift: Int,
        multiplier: [Int16],
        epilogue: Epilogue
    ) {
        precondition(kernelSize == 1 || kernelSize == 3, "a kernel is 1×1 or 3×3")
        precondition(inputChannels > 0 && outputChannels > 0, "a convolution has channels")
        precondition(
            weights.count == outputChannels * inputChannels * kernelSize * kernelSize,
            "one weight for each tap"
        )
        precondition(bias.count == outputChannels, "one bias for each output channel")
        precondition(multiplier.count == outputChannels, "one multiplier for each output channel")
        precondition((0...31).contains(shift), "a shift is within 0…31")
        precondition(multiplier.allSatisfy { $0 >= 0 }, "a multiplier is within 0…32767")
        if case .trunk(let rescale, _, _) = epilogue {
            precondition(rescale.count == outputChannels, "one rescale for each output channel")
            precondition(rescale.allSatisfy { $0 >= 0 }, "a rescale is within 0…32767")
        }
        self.kernelSize = kernelSize
        self.input = input
        self.inputChannels = inputChannels
        self.outputChannels = outputChannels
        self.weights = weights
        self.bias = bias
        self.shift = shift
        self.multiplier = multiplier
        self.epilogue = epilogue
    }
}
