internal import CKernelABI

/// A set of instructions that the kernels are compiled for, from the slowest to the fastest of each architecture.
///
/// All of them compute the same integers.
package enum InstructionSet: String, CaseIterable, Sendable {
    /// Plain Swift, one multiplication after the other: the definition of the others.
    case reference
    /// 128-bit vectors of Int16 (`pmaddwd`).
    case sse41
    /// 256-bit vectors of Int16 (`vpmaddwd`).
    case avx2
    /// 256-bit vectors of bytes (`vpdpbusd`, VEX-encoded).
    case avxvnni
    /// 512-bit vectors of bytes (`vpdpbusd`).
    case avx512vnni
    /// Tiles of bytes (`tdpbusd`), and 512-bit vectors for the rest.
    case amx
    /// 128-bit vectors of bytes (`sudot`, of the extension i8mm), on Arm.
    case neon

    /// The sets that this processor and its operating system support, ascending.
    package static let supported: [InstructionSet] = {
        let sets = kernel_instruction_sets()
        return allCases.filter { $0.processorBit & ~sets == 0 }
    }()

    /// The fastest supported set.
    package static let best: InstructionSet = supported.last ?? .reference

    /// The fastest supported set other than this one, to check its results with.
    ///
    /// It is `reference` where there is no other.
    package var verifier: InstructionSet {
        Self.supported.last { $0 != self } ?? .reference
    }

    /// The variable that forces an instruction set.
    package static let environmentVariable = "FLOWPACK_ISA"

    /// The instruction set that `FLOWPACK_ISA` names, or the best one where it is unset or empty.
    ///
    /// - Throws: `InstructionSetError` for a name that is unknown, or known but not supported here.
    package static func selected(
        environment: [String: String]
    ) throws(InstructionSetError) -> InstructionSet {
        guard let name = environment[environmentVariable], !name.isEmpty else { return best }
        guard let selected = InstructionSet(rawValue: name) else {
            throw InstructionSetError(reason: .unknown, name: name, available: supported)
        }
        guard supported.contains(selected) else {
            throw InstructionSetError(reason: .unavailable, name: name, available: supported)
        }
        return selected
    }

    /// The bit of `kernel_instruction_sets` that this set needs.
    private var processorBit: UInt32 {
        switch self {
        case .reference: 0
        case .sse41: UInt32(KernelSSE41)
        case .avx2: UInt32(KernelAVX2)
        case .avxvnni: UInt32(KernelAVXVNNI)
        case .avx512vnni: UInt32(KernelAVX512VNNI)
        case .amx: UInt32(KernelAMX)
        case .neon: UInt32(KernelNEON)
        }
    }
}

/// `FLOWPACK_ISA` names an instruction set that cannot be used.
package struct InstructionSetError: Error, Equatable, CustomStringConvertible {
    /// What is wrong with the name.
    package enum Reason: Sendable {
        /// No instruction set has this name.
        case unknown
        /// The processor or the operating system lacks it.
        case unavailable
    }

    package let reason: Reason
    /// The name as given.
    package let name: String
    /// The instruction sets that can be named here.
    package let available: [InstructionSet]

    package var description: String {
        let names = available.map { $0.rawValue }.joined(separator: ", ")
        let problem =
            switch reason {
            case .unknown: "is not an instruction set"
            case .unavailable: "is not supported by this processor"
            }
        return "\(InstructionSet.environmentVariable)=\(name) \(problem); available: \(names)"
    }
}
