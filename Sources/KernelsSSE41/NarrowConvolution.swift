// Convolutions to few channels, which would leave most lanes of a vector without an output channel
// of their own. One source for every instruction set; the rules of Convolution.swift hold.

package import CKernelABI

/// Computes all results for a run of pixels.
///
/// - Parameter call: Maps, packed weights and what becomes of the results.
/// - Note: Exact in every variant. Derivation: Kernels.docc, "Exactness".
@inline(never)
package func convolveNarrow(_ call: UnsafePointer<NarrowKernelCall>) {
    #if !(ISA_SSE41 || ISA_AVX2)
    if call.pointee.inputIsBytes {
        if call.pointee.outputs == 3 { convolveBytes3(call) } else { convolveBytes6(call) }
        return
    }
    #endif
    if call.pointee.outputs == 3 { convolveWords3(call) } else { convolveWords6(call) }
}

// MARK: Tiles

/// Accumulators of a tile, one for each vector of input and output.
///
/// With the input and the weights of one output they must fit the registers.
private typealias Tile<let vectors: Int, let outputs: Int> =
    InlineArray<vectors, InlineArray<outputs, kernel_sums>>

#if ISA_AVX512VNNI || ISA_AMX || ISA_NEON
private typealias Tile3 = Tile<6, 3>
private typealias Tile6 = Tile<4, 6>
#else
private typealias Tile3 = Tile<3, 3>
private typealias Tile6 = Tile<2, 6>
#endif

#if !(ISA_SSE41 || ISA_AVX2)
@inline(never)
private func convolveBytes3(_ call: UnsafePointer<NarrowKernelCall>) {
    convolve(call.pointee, Tile3.self) { kernel_dot_bytes($0, $1, $2) }
}

@inline(never)
private func convolveBytes6(_ call: UnsafePointer<NarrowKernelCall>) {
    convolve(call.pointee, Tile6.self) { kernel_dot_bytes($0, $1, $2) }
}
#endif

@inline(never)
private func convolveWords3(_ call: UnsafePointer<NarrowKernelCall>) {
    convolve(call.pointee, Tile3.self) { kernel_dot_all_words($0, $1, $2) }
}

@inline(never)
private func convolveWords6(_ call: UnsafePointer<NarrowKernelCall>) {
    convolve(call.pointee, Tile6.self) { kernel_dot_all_words($0, $1, $2) }
}

// MARK: The loop

/// Positions whose pieces one vector holds: neighbours of a row.
private let runLength = kernel_sums.scalarCount / 4

/// Bytes of a piece, and of eight requantised channels.
private let pieceSize = 16

/// Walks over the rows, a tile of runs at a time; tiles run on across rows and images.
///
/// Where a row ends before its run, what comes behind it in memory is computed as well, and
/// dropped; so are runs behind the last pixel.
@inline(__always)
private func convolve<let vectors: Int, let outputs: Int>(
    _ call: NarrowKernelCall,
    _ tile: Tile<vectors, outputs>.Type,
    dot: (kernel_sums, kernel_sums, kernel_sums) -> kernel_sums
) {
    let (width, height) = (call.width, call.height)
    let rowPositions = width &+ 2
    var x = call.firstPixel % width
    var y = call.firstPixel / width
    var position = (y / height &* (height &+ 2) &+ y % height &+ 1) &* rowPositions &+ x &+ 1
    y %= height

    let multiplier = kernel_load_words(call.multiplier)
    var pixel = call.firstPixel
    while pixel < call.endPixel {
        var centres = InlineArray<vectors, UnsafeRawPointer>(repeating: call.input)
        var pixels = InlineArray<vectors, Int>(repeating: 0)
        var counts = InlineArray<vectors, Int>(repeating: 0)
        for vector in 0..<vectors {
            let count = min(runLength, width &- x, call.endPixel &- pixel)
            centres[vector] = call.input + position &* call.inputStride
            (pixels[vector], counts[vector]) = (pixel, count)
            pixel &+= count
            x &+= count
            position &+= count
            if x == width && pixel < call.endPixel {
                x = 0
                y &+= 1
                position &+= 2
                if y == height {
                    y = 0
                    position &+= 2 &* rowPositions
                }
            }
        }

        var sums = tile.init(
            repeating: InlineArray<outputs, kernel_sums>(repeating: kernel_sums())
        )
        for output in 0..<outputs {
            let bias = kernel_load_sums(call.bias + output &* kernel_sums.scalarCount)
            for vector in 0..<vectors { sums[vector][output] = bias }
        }
        var weights: UnsafeRawPointer = call.weights
        for step in 0..<call.steps {
            let offset = call.offsets[step]
            var input = InlineArray<vectors, kernel_sums>(repeating: kernel_sums())
            for vector in 0..<vectors {
                input[vector] = kernel_load_sums(centres[vector] + offset)
            }
            for output in 0..<outputs {
                let factor = kernel_load_copies(weights)
                weights += pieceSize
                for vector in 0..<vectors {
                    sums[vector][output] = dot(sums[vector][output], input[vector], factor)
                }
            }
        }

        // Apart from the next loop, as in Convolution.swift.
        for vector in 0..<vectors {
            kernel_store_words(
                call.results + vector &* MemoryLayout<kernel_words>.size,
                kernel_multiply(results(sums[vector], call.shift), multiplier)
            )
        }
        for vector in 0..<vectors {
            for index in 0..<counts[vector] {
                kernel_store_result(
                    call.wide + (pixels[vector] &+ index) &* call.widePixelStride,
                    call.results + (vector &* runLength &+ index) &* pieceSize,
                    call.adds
                )
            }
        }
    }
}

/// Eight channels of each position of a run, saturated.
@inline(__always)
private func results<let outputs: Int>(
    _ sums: InlineArray<outputs, kernel_sums>,
    _ shift: Int32
) -> kernel_words {
    let zero = kernel_sums()
    if outputs == 3 {
        return kernel_saturate(kernel_total(sums[0], sums[1], sums[2], zero), zero, shift)
    }
    return kernel_saturate(
        kernel_total(sums[0], sums[1], sums[2], sums[3]),
        kernel_total(sums[4], sums[5], zero, zero),
        shift
    )
}
