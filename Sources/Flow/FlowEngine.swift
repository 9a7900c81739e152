package import Kernels

/// Takes a pass of ``FlowEngine/forward(_:pass:)``.
///
/// It is given its number in decode order, and for each symbol the latent, the mean in 1/32 pixel
/// and the scale index 0…127. The buffers are valid during the call.
package typealias ForwardPass = (
    _ index: Int,
    _ values: UnsafeBufferPointer<Int16>,
    _ means: UnsafeBufferPointer<Int16>,
    _ scales: UnsafeBufferPointer<UInt8>
) -> Void

/// Fills in the latents of a pass of ``FlowEngine/inverse(count:width:height:pass:)``.
///
/// It is given its number in decode order, and the mean and the scale index of every symbol. The
/// buffers are valid during the call.
package typealias InversePass<Failure: Error> = (
    _ index: Int,
    _ means: UnsafeBufferPointer<Int16>,
    _ scales: UnsafeBufferPointer<UInt8>,
    _ values: UnsafeMutableBufferPointer<Int16>
) throws(Failure) -> Void

/// Runs a flow forward (images to latents with their priors) and back.
///
/// Every engine returns the same integers for the same model; ``ReferenceEngine`` is the definition.
/// A block is a batch of images of one size. Its passes are numbered in decode order
/// (`FlowModel.passShapes`); inside a pass the symbols run `[image][y][x][channel]`.
/// One engine may serve several threads at once: what a call needs is made in the call.
package protocol FlowEngine: Sendable {
    /// The model that the engine runs.
    var model: FlowModel { get }

    /// The instruction set that the engine runs on.
    var isa: InstructionSet { get }

    /// Gives the latents of every pass of a block, with the prior of each.
    ///
    /// - Parameters:
    ///   - images: At least one image, all of one size.
    ///   - pass: Called once for each pass, in any order.
    func forward(_ images: [PlanarImage], pass: ForwardPass)

    /// Restores the images of a block from its latents, the mirror of `forward`.
    ///
    /// Any latents are accepted; images that `forward` has seen come back exactly.
    ///
    /// - Parameters:
    ///   - count: The number of images, at least 1.
    ///   - width: The width of every image, at least 1.
    ///   - height: The height of every image, at least 1.
    ///   - pass: Called once for each pass, in decode order.
    /// - Returns: `count` images.
    /// - Throws: What `pass` throws.
    func inverse<Failure: Error>(
        count: Int,
        width: Int,
        height: Int,
        pass: InversePass<Failure>
    ) throws(Failure) -> [PlanarImage]
}

/// Makes the engine for an instruction set.
///
/// - Parameters:
///   - model: The model to run.
///   - isa: A supported instruction set.
/// - Returns: The definition itself for `.reference`, else an engine on kernels.
package func makeEngine(model: FlowModel, isa: InstructionSet) -> any FlowEngine {
    isa == .reference ? ReferenceEngine(model: model) : KernelEngine(model: model, isa: isa)
}

/// Returns the size of the images of a block, after checking that there is one.
func blockSize(_ images: [PlanarImage]) -> (width: Int, height: Int) {
    guard let first = images.first else { preconditionFailure("a block holds at least one image") }
    precondition(
        images.allSatisfy { $0.width == first.width && $0.height == first.height },
        "the images of a block have one size"
    )
    return (first.width, first.height)
}
