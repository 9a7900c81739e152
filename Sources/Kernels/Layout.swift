/// Sizes in memory that depend on the instruction set.
struct Layout {
    /// Channels of activations, trunks and results are padded to a multiple of this.
    static let channelAlignment = 16
    /// Bytes that one broadcast takes from a pixel.
    static let groupSize = 4

    /// Int32 lanes of a vector.
    let lanes: Int
    /// Most accumulator vectors of a block.
    let vectors: Int
    /// Bytes of a stored activation.
    let activationSize: Int
    /// Where latents are kept: their Int16, or a plane of low bytes and a plane of high bytes.
    let latentPlanes: Int
    /// Pixels behind a map that a kernel may read, for no result that it keeps.
    let slackPixels: Int

    init(_ isa: InstructionSet) {
        switch isa {
        case .reference: (lanes, vectors, activationSize) = (1, 1, 1)
        case .sse41: (lanes, vectors, activationSize) = (4, 2, 2)
        case .avx2: (lanes, vectors, activationSize) = (8, 2, 2)
        case .avxvnni: (lanes, vectors, activationSize) = (8, 2, 1)
        case .avx512vnni: (lanes, vectors, activationSize) = (16, 4, 1)
        case .amx: (lanes, vectors, activationSize) = (16, 2, 1)
        case .neon: (lanes, vectors, activationSize) = (4, 2, 1)
        }
        switch isa {
        case .amx: (latentPlanes, slackPixels) = (2, 64)
        // The widest reader is a run of four behind the last pixel's window, with 16 bytes of each,
        // which may be four pixels.
        default: (latentPlanes, slackPixels) = (1, 8)
        }
    }

    /// Bytes of a latent in one plane.
    var latentSize: Int { MemoryLayout<Int16>.size / latentPlanes }

    /// Channels of latents are padded to a multiple of this, a group.
    var latentAlignment: Int { Self.groupSize / latentSize }

    /// The most bytes of input that one tile of the matrix unit can take of a pixel's row of taps.
    static func tileDepth(rowBytes: Int) -> Int {
        stride(from: 64, to: groupSize, by: -groupSize).first { rowBytes % $0 == 0 } ?? groupSize
    }

    /// Reads an activation of the pixel at an address.
    func loadActivation(_ pixel: UnsafeRawPointer, channel: Int) -> UInt8 {
        if activationSize == 1 {
            pixel.load(fromByteOffset: channel, as: UInt8.self)
        } else {
            UInt8(pixel.load(fromByteOffset: 2 * channel, as: UInt16.self))
        }
    }

    /// Writes an activation of the pixel at an address.
    func storeActivation(_ value: UInt8, _ pixel: UnsafeMutableRawPointer, channel: Int) {
        if activationSize == 1 {
            pixel.storeBytes(of: value, toByteOffset: channel, as: UInt8.self)
        } else {
            pixel.storeBytes(of: UInt16(value), toByteOffset: 2 * channel, as: UInt16.self)
        }
    }

    /// The accumulator vectors of each block of a convolution.
    ///
    /// Blocks are as equal as can be, so that five vectors become 3 + 2: a lone vector would
    /// spend as many loads as multiplications.
    func blocks(paddedOutputChannels: Int) -> [Int] {
        let total = paddedOutputChannels / lanes
        let count = (total + vectors - 1) / vectors
        return (0..<count).map { total / count + ($0 < total % count ? 1 : 0) }
    }

    /// The channel, inside its block, that a lane of an accumulator vector sums.
    ///
    /// A pair of vectors covers 2·`lanes` channels in the order of `packssdw`; a last vector
    /// without a partner covers `lanes` channels in order.
    func channel(vector: Int, lane: Int, vectors: Int) -> Int {
        if vector == vectors - 1 && vectors % 2 == 1 {
            return vector * lanes + lane
        }
        return vector / 2 * 2 * lanes + lane / 4 * 8 + vector % 2 * 4 + lane % 4
    }
}

extension Int {
    /// The smallest multiple of a positive number that is not less than this.
    func roundedUp(toMultipleOf factor: Int) -> Int {
        (self + factor - 1) / factor * factor
    }
}
