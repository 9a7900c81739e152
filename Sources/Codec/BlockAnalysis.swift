internal import EntropyCoding
internal import Kernels

/// What a block's images become before entropy coding: intervals, and so what each image costs.
///
/// Which images are worth keeping is decided between ``BlockCodec/analyse(_:)`` and
/// ``encode(keeping:)``, without running the flow again.
package struct BlockAnalysis: Sendable {
    /// The symbols of each pass in decode order, by image: `[pass][image]`.
    ///
    /// A pass whose means are corrected is one for each of its channels.
    let passes: [[SymbolSequence]]

    /// The symbols of one image in the largest pass of the model.
    let largestPass: Int

    /// The number of images of the block.
    package let imageCount: Int

    /// The corrections of the scales, chosen over all images; nil if the model has none.
    let offsets: ScaleOffsets?

    /// How each image was mirrored; nil if the model codes images as they are.
    let mirrorings: [Mirroring]?

    /// The corrections of the means, chosen for each image; nil if the model has none.
    let corrections: MeanCorrections?

    /// The instruction set to encode with; the payload does not depend on it.
    let isa: InstructionSet

    /// Sums the costs of an image's symbols.
    ///
    /// - Parameter image: The image's index in the block.
    /// - Returns: What coding the image takes, in bits, rounded up, without its share of what the
    ///   block takes once; the same integer on every machine.
    package func cost(ofImage image: Int) -> Int {
        let cost = passes.reduce(0) { $0 + $1[image].cost }
        return Int((cost + 255) >> 8)
    }

    /// Encodes some of the images, in their order.
    ///
    /// - Parameter isKept: Says for an image's index whether it is encoded.
    /// - Returns: The payload, empty if there are none: the corrections of the scales, the
    ///   mirrorings and the corrections of the means, if the model asks for them, and one rANS
    ///   stream. Without corrections it is the same as that of a block of only these images.
    package func encode(keeping isKept: (Int) -> Bool) -> [UInt8] {
        let kept = (0..<imageCount).filter(isKept)
        if kept.isEmpty { return [] }
        let passes = passes.map { pass in kept.map { pass[$0] } }
        let sizes = passes.map { pass in pass.reduce(0) { $0 + $1.intervals.count } }
        let escapes = passes.joined().reduce(0) { $0 + $1.escapes.count }
        var encoder = RANSEncoder(capacity: sizes.reduce(0, +) + escapes, isa: isa)
        for (pass, size) in zip(passes, sizes).reversed() {
            var index = size
            for sequence in pass.reversed() {
                index -= sequence.intervals.count
                encoder.push(sequence, at: index)
            }
        }
        let stream = encoder.finish(lanes: RANS.lanes(largestPass: largestPass * kept.count))
        let mirrorings = mirrorings.map { all in Mirroring.bytes(kept.map { all[$0] }) }
        let corrections = corrections?.bytes(keeping: kept)
        return (offsets?.bytes ?? []) + (mirrorings ?? []) + (corrections ?? []) + stream
    }
}
