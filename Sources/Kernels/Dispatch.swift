internal import CKernelABI

#if arch(x86_64)
internal import KernelsAMX
internal import KernelsAVX2
internal import KernelsAVX512VNNI
internal import KernelsAVXVNNI
internal import KernelsSSE41
#elseif arch(arm64)
internal import KernelsNEON
#endif

/// The kernel modules: those of the processor's architecture are there.
extension InstructionSet {
    /// Computes the output channels of one block for a run of pixels.
    ///
    /// - Precondition: The instruction set is supported, and not the reference.
    func convolve(_ call: inout KernelCall) {
        switch self {
        #if arch(x86_64)
        case .sse41: KernelsSSE41.convolve(&call)
        case .avx2: KernelsAVX2.convolve(&call)
        case .avxvnni: KernelsAVXVNNI.convolve(&call)
        case .avx512vnni: KernelsAVX512VNNI.convolve(&call)
        case .amx: KernelsAMX.convolve(&call)
        #elseif arch(arm64)
        case .neon: KernelsNEON.convolve(&call)
        #endif
        default: preconditionFailure("the instruction set has a kernel module")
        }
    }

    /// Computes all results of a narrow convolution for a run of pixels.
    ///
    /// - Precondition: The instruction set is supported, and not the reference.
    func convolveNarrow(_ call: inout NarrowKernelCall) {
        switch self {
        #if arch(x86_64)
        case .sse41: KernelsSSE41.convolveNarrow(&call)
        case .avx2: KernelsAVX2.convolveNarrow(&call)
        case .avxvnni: KernelsAVXVNNI.convolveNarrow(&call)
        case .avx512vnni: KernelsAVX512VNNI.convolveNarrow(&call)
        case .amx: KernelsAMX.convolveNarrow(&call)
        #elseif arch(arm64)
        case .neon: KernelsNEON.convolveNarrow(&call)
        #endif
        default: preconditionFailure("the instruction set has a kernel module")
        }
    }

    /// Runs the instructions of one dot product, and nothing else, on twelve accumulators.
    ///
    /// - Parameters:
    ///   - rounds: Dot products per accumulator.
    ///   - operand: 64 bytes.
    /// - Precondition: The instruction set is supported, and not the reference.
    func repeatDotProducts(rounds: Int, operand: UnsafeRawPointer) {
        switch self {
        #if arch(x86_64)
        case .sse41: KernelsSSE41.repeatDotProducts(rounds: rounds, operand: operand)
        case .avx2: KernelsAVX2.repeatDotProducts(rounds: rounds, operand: operand)
        case .avxvnni: KernelsAVXVNNI.repeatDotProducts(rounds: rounds, operand: operand)
        case .avx512vnni: KernelsAVX512VNNI.repeatDotProducts(rounds: rounds, operand: operand)
        case .amx: KernelsAMX.repeatDotProducts(rounds: rounds)
        #elseif arch(arm64)
        case .neon: KernelsNEON.repeatDotProducts(rounds: rounds, operand: operand)
        #endif
        default: preconditionFailure("the instruction set has a kernel module")
        }
    }
}
