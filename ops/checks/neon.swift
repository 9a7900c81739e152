import Kernels

/// Compares the NEON kernels with the reference, case by case.
///
/// Built and run for aarch64 by `ops/checks/neon`, in Embedded Swift.
///
/// - Returns: The exit status, 0 where all cases are equal.
@c(main)
func main() -> CInt {
    guard InstructionSet.best == .neon else {
        print("this processor has no NEON with i8mm")
        return 1
    }
    let checksum = ConvolutionCase.referenceChecksum
    guard checksum == ConvolutionCase.goldenChecksum else {
        print("the reference computes other numbers than elsewhere: checksum \(checksum)")
        return 1
    }
    let different = ConvolutionCase.differing(.neon)
    for convolution in different { print("differs: \(convolution.description)") }
    print("\(different.count) of \(ConvolutionCase.all.count) cases differ from the reference")
    return different.isEmpty ? 0 : 1
}
