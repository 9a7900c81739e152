internal import CKernelABI

/// A convolution to at most six results, with its weights in the order in which one instruction set
/// reads them.
///
/// Lanes are input channels here, four lanes a *piece* of 16 bytes; each output has accumulators
/// of its own, whose lanes are summed at the end. A vector that is longer than a piece holds those
/// of neighbours. Drawing: Kernels.docc, "Narrow results".
final class NarrowConvolution: Sendable {
    private let layer: Convolution
    private let isa: InstructionSet
    /// Pieces of a pixel.
    private let pieces: Int
    /// The results, padded to a number that there is a kernel for.
    private let outputs: Int
    /// Neighbours whose pieces fill a vector.
    private let runLength: Int

    // Written by init only; read by any thread. Layouts: `NarrowKernelCall`.
    nonisolated(unsafe) private let weights: UnsafeRawPointer
    nonisolated(unsafe) private let bias: UnsafePointer<Int32>
    nonisolated(unsafe) private let multiplier: UnsafePointer<Int16>

    private static let pieceSize = 16
    /// Channels that a kernel writes.
    private static let resultChannels = 8

    /// Packs a convolution.
    ///
    /// - Returns: nil for one with more results, with another epilogue than `wide`, for the
    ///   reference, and where the matrix unit is as fast: from the second piece on.
    init?(_ layer: Convolution, isa: InstructionSet) {
        guard layer.outputChannels <= 6, case .wide = layer.epilogue, isa != .reference else {
            return nil
        }
        let elementSize =
            switch layer.input {
            case .latents: MemoryLayout<Int16>.size
            case .activations: Layout(isa).activationSize
            }
        let pixelSize = (layer.inputChannels * elementSize).roundedUp(toMultipleOf: Self.pieceSize)
        pieces = pixelSize / Self.pieceSize
        guard isa != .amx || pieces == 1 else { return nil }
        self.layer = layer
        self.isa = isa
        outputs = layer.outputChannels <= 3 ? 3 : 6

        let lanes = Layout(isa).lanes
        runLength = lanes / 4
        let taps = layer.kernelSize * layer.kernelSize
        let weightSize = taps * pieces * outputs * Self.pieceSize
        let biasSize = outputs * lanes * MemoryLayout<Int32>.size
        let factorSize = runLength * Self.resultChannels * MemoryLayout<Int16>.size
        let size = weightSize + biasSize + factorSize
        let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: size)
        let bias = (memory + weightSize).assumingMemoryBound(to: Int32.self)
        let multiplier = (memory + weightSize + biasSize).assumingMemoryBound(to: Int16.self)
        for output in 0..<layer.outputChannels {
            for copy in 0..<runLength {
                bias[output * lanes + 4 * copy] = layer.bias[output]
                multiplier[copy * Self.resultChannels + output] = layer.multiplier[output]
            }
            for input in 0..<layer.inputChannels {
                let (piece, byte) = (input * elementSize)
                    .quotientAndRemainder(dividingBy: Self.pieceSize)
                for tap in 0..<taps {
                    let weight = layer.weights[(output * layer.inputChannels + input) * taps + tap]
                    let step = tap * pieces + piece
                    let place = memory + (step * outputs + output) * Self.pieceSize + byte
                    if elementSize == 1 {
                        place.storeBytes(of: weight, as: Int8.self)
                    } else {
                        place.storeBytes(of: Int16(weight), as: Int16.self)
                    }
                }
            }
        }
        self.weights = UnsafeRawPointer(memory)
        self.bias = UnsafePointer(bias)
        self.multiplier = UnsafePointer(multiplier)
    }

    deinit {
        weights.deallocate()
    }

    /// Computes the layer; see ``PackedConvolution/run(images:input:wide:activations:)``.
    func run(images count: Int, input: FeatureMap, wide: FeatureMap) {
        var call = NarrowKernelCall()
        call.wide = wide.base
        call.widePixelStride = wide.pixelStride
        call.weights = weights
        call.bias = bias
        call.multiplier = multiplier
        call.height = input.height
        call.width = input.width
        call.steps = layer.kernelSize * layer.kernelSize * pieces
        call.outputs = outputs
        call.shift = Int32(layer.shift)
        call.inputIsBytes = layer.input == .activations && Layout(isa).activationSize == 1
        if case .wide(adding: true) = layer.epilogue { call.adds = true }

        let pixels = count * input.height * input.width
        withUnsafeTemporaryAllocation(byteCount: Int(KernelResultsSize), alignment: 64) { results in
            call.results = results.baseAddress
            let isOnePiece = input.pixelStride == Self.pieceSize
            if input.highPlane == 0 && (isOnePiece || runLength == 1) {
                call.input = UnsafeRawPointer(input.base)
                call.inputStride = input.pixelStride
                call.endPixel = pixels
                run(&call, pieceStride: Self.pieceSize)
            } else {
                runGathered(&call, input, pixels: pixels)
            }
        }
    }

    /// Gathers equal pieces of neighbours, for a few rows at a time, which stay in the cache.
    private func runGathered(_ call: inout NarrowKernelCall, _ input: FeatureMap, pixels: Int) {
        let pixelsPerPass = max(768, 8 * input.width)
        let margin = layer.kernelSize / 2 * (input.width + 3)
        call.inputStride = Self.pieceSize
        for first in stride(from: 0, to: pixels, by: pixelsPerPass) {
            call.firstPixel = first
            call.endPixel = min(first + pixelsPerPass, pixels)
            let start = input.position(pixel: first) - margin
            // Runs that are idle stand behind the last pixel.
            let end = input.position(pixel: call.endPixel - 1) + margin + runLength + 1
            let pieceStride = (end - start) * Self.pieceSize
            let planes = input.workingMemory(byteCount: pieces * pieceStride)
            gather(input, start..<end, to: planes)
            call.input = UnsafeRawPointer(planes - start * Self.pieceSize)
            run(&call, pieceStride: pieceStride)
        }
    }

    /// Runs the kernel on pieces that lie `pieceStride` bytes apart.
    private func run(_ call: inout NarrowKernelCall, pieceStride: Int) {
        let reach = layer.kernelSize / 2
        var offsets: [Int] = []
        offsets.reserveCapacity(call.steps)
        for row in -reach...reach {
            for column in -reach...reach {
                let tap = (row * (call.width + 2) + column) * call.inputStride
                offsets += (0..<pieces).map { tap + $0 * pieceStride }
            }
        }
        offsets.withUnsafeBufferPointer {
            call.offsets = $0.baseAddress
            isa.convolveNarrow(&call)
        }
    }

    /// Copies the pieces of some positions, `[piece][position][16 bytes]`.
    private func gather(
        _ map: FeatureMap,
        _ positions: Range<Int>,
        to planes: UnsafeMutableRawPointer
    ) {
        let planeCount = map.highPlane == 0 ? 1 : 2
        for piece in 0..<pieces {
            var source = UnsafeRawPointer(map.base) + positions.lowerBound &* map.pixelStride
            source += piece &* Self.pieceSize / planeCount
            var target = planes + piece &* positions.count &* Self.pieceSize
            for _ in positions {
                let bytes = load(source, highPlane: map.highPlane)
                target.storeBytes(of: bytes, as: SIMD16<UInt8>.self)
                source += map.pixelStride
                target += Self.pieceSize
            }
        }
    }

    /// A piece; high bytes of latents that lie apart join their low ones.
    @inline(__always)
    private func load(_ place: UnsafeRawPointer, highPlane: Int) -> SIMD16<UInt8> {
        guard highPlane != 0 else { return place.loadUnaligned(as: SIMD16<UInt8>.self) }
        var bytes = SIMD16<UInt8>()
        bytes.evenHalf = place.loadUnaligned(as: SIMD8<UInt8>.self)
        bytes.oddHalf = (place + highPlane).loadUnaligned(as: SIMD8<UInt8>.self)
        return bytes
    }
}
