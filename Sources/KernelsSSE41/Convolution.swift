// One source for every instruction set but AMX: the other kernel modules hold symbolic links to this
// file, and CKernelABI.h gives each the vector operations of its own instruction set.
//
// Nothing here may end up in another module, where it would run on a processor without these
// instructions: entry points are never inlined, and no type or generic is shared.

package import CKernelABI

// MARK: Entry points

/// Computes the output channels of one block for a run of pixels.
///
/// - Parameter call: Maps, packed weights and epilogue. `vectors` is 1…4 with AVX-512, else 2;
///   bytes are an input where there is a dot product of bytes (AVX-VNNI, AVX-512 VNNI, NEON).
/// - Note: Exact in every variant. Derivation: Kernels.docc, "Exactness".
@inline(never)
package func convolve(_ call: UnsafePointer<KernelCall>) {
    #if ISA_AVX512VNNI
    switch (call.pointee.inputIsBytes, call.pointee.vectors) {
    case (true, 1): convolveBytes1(call)
    case (true, 2): convolveBytes2(call)
    case (true, 3): convolveBytes3(call)
    case (true, _): convolveBytes4(call)
    case (false, 1): convolveWords1(call)
    case (false, 2): convolveWords2(call)
    case (false, 3): convolveWords3(call)
    case (false, _): convolveWords4(call)
    }
    #elseif ISA_AVXVNNI || ISA_NEON
    if call.pointee.inputIsBytes { convolveBytes2(call) } else { convolveWords2(call) }
    #else
    convolveWords2(call)
    #endif
}

/// Runs the instructions of one dot product, and nothing else, on twelve independent accumulators.
///
/// - Parameters:
///   - rounds: Dot products per accumulator.
///   - operand: 64 bytes.
@inline(never)
package func repeatDotProducts(rounds: Int, operand: UnsafeRawPointer) {
    var sums = InlineArray<12, kernel_sums>(repeating: kernel_sums())
    var factor = kernel_load_sums(operand)
    for _ in 0..<rounds {
        factor = kernel_opaque(factor)
        for index in 0..<12 {
            #if ISA_AVX512VNNI || ISA_AVXVNNI || ISA_NEON
            sums[index] = kernel_dot_bytes(sums[index], factor, factor)
            #else
            sums[index] = kernel_dot_words(sums[index], factor, kernel_opaque(factor))
            #endif
        }
    }
    for index in 0..<12 { _ = kernel_opaque(sums[index]) }
}

// MARK: Tiles

/// Accumulators of a tile.
///
/// With the weights and the input of a step they must fit the registers, 32 with AVX-512 and NEON,
/// else 16; more would spill, at a third of the speed.
private typealias Tile<let pixels: Int, let vectors: Int> =
    InlineArray<pixels, InlineArray<vectors, kernel_sums>>

/// Weights of a vector for the groups of input that are read at once.
///
/// There are four with NEON, which multiplies by any lane of its input; else one, broadcast.
private typealias Step<let groups: Int> = InlineArray<groups, kernel_sums>

#if ISA_AVX512VNNI

@inline(never)
private func convolveBytes1(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, Tile<12, 1>.self) { kernel_dot_bytes($0, $1, $2) }
}

@inline(never)
private func convolveBytes2(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, Tile<8, 2>.self) { kernel_dot_bytes($0, $1, $2) }
}

@inline(never)
private func convolveBytes3(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, Tile<8, 3>.self) { kernel_dot_bytes($0, $1, $2) }
}

@inline(never)
private func convolveBytes4(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, Tile<6, 4>.self) { kernel_dot_bytes($0, $1, $2) }
}

@inline(never)
private func convolveWords1(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, Tile<12, 1>.self) { kernel_dot_words($0, $1, $2) }
}

@inline(never)
private func convolveWords2(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, Tile<8, 2>.self) { kernel_dot_words($0, $1, $2) }
}

@inline(never)
private func convolveWords3(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, Tile<8, 3>.self) { kernel_dot_words($0, $1, $2) }
}

@inline(never)
private func convolveWords4(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, Tile<6, 4>.self) { kernel_dot_words($0, $1, $2) }
}

#elseif ISA_NEON

@inline(never)
private func convolveBytes2(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, Tile<8, 2>.self, Step<4>.self) { kernel_dot_bytes($0, $1, $2) }
}

@inline(never)
private func convolveWords2(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, Tile<8, 2>.self) { kernel_dot_words($0, $1, $2) }
}

#else

#if ISA_AVXVNNI
@inline(never)
private func convolveBytes2(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, Tile<6, 2>.self) { kernel_dot_bytes($0, $1, $2) }
}
#endif

@inline(never)
private func convolveWords2(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, Tile<6, 2>.self) { kernel_dot_words($0, $1, $2) }
}

#endif

// MARK: The loop

/// Walks over the pixels, a tile at a time; tiles run on across rows and images.
///
/// A tile's unused pixels repeat its last one and are not stored.
@inline(__always)
private func convolve<let pixels: Int, let vectors: Int, let groups: Int>(
    _ call: KernelCall,
    _ tile: Tile<pixels, vectors>.Type,
    _ step: Step<groups>.Type = Step<1>.self,
    dot: (kernel_sums, kernel_sums, kernel_sums) -> kernel_sums
) {
    let (width, height) = (call.width, call.height)
    let rowPositions = width &+ 2
    var x = call.firstPixel % width
    var y = call.firstPixel / width
    var position = (y / height &* (height &+ 2) &+ y % height &+ 1) &* rowPositions &+ x &+ 1
    y %= height

    /// Goes on by pixels of a row.
    func advance(_ pixels: Int) {
        x &+= pixels
        position &+= pixels
        guard x == width else { return }
        x = 0
        y &+= 1
        position &+= 2
        guard y == height else { return }
        y = 0
        position &+= 2 &* rowPositions
    }

    // From a pixel to the first tap of its window.
    let margin = (call.kernelSize / 2) &* (rowPositions &+ 1) &* call.inputPixelStride
    let rowStride = rowPositions &* call.inputPixelStride
    let rowBytes = call.kernelSize &* call.inputPixelStride

    let resultStride = vectors &* kernel_sums.scalarCount &* MemoryLayout<Int16>.size

    var pixel = call.firstPixel
    while pixel < call.endPixel {
        var positions = InlineArray<pixels, Int>(repeating: 0)
        var windows = InlineArray<pixels, UnsafeRawPointer>(repeating: call.input)
        if x &+ pixels <= width && pixel &+ pixels <= call.endPixel {
            let window = call.input + (position &* call.inputPixelStride &- margin)
            for index in 0..<pixels {
                positions[index] = position &+ index
                windows[index] = window + index &* call.inputPixelStride
            }
            advance(pixels)
        } else {
            for index in 0..<pixels {
                positions[index] = position
                windows[index] = call.input + (position &* call.inputPixelStride &- margin)
                if pixel &+ index &+ 1 < call.endPixel { advance(1) }
            }
        }

        var sums = tile.init(repeating: InlineArray<vectors, kernel_sums>(repeating: kernel_sums()))
        for vector in 0..<vectors {
            let bias = kernel_load_sums(call.bias + vector &* kernel_sums.scalarCount)
            for index in 0..<pixels { sums[index][vector] = bias }
        }
        var weights: UnsafeRawPointer = call.weights
        for row in 0..<call.kernelSize {
            var offset = row &* rowStride
            let end = offset &+ rowBytes
            while offset < end {
                var stepWeights = InlineArray<vectors, Step<groups>>(
                    repeating: step.init(repeating: kernel_sums())
                )
                for group in 0..<groups {
                    for vector in 0..<vectors {
                        stepWeights[vector][group] = kernel_load_sums(weights)
                        weights += MemoryLayout<kernel_sums>.size
                    }
                }
                for index in 0..<pixels {
                    for group in 0..<groups {
                        let input = kernel_broadcast(windows[index] + offset, group)
                        for vector in 0..<vectors {
                            sums[index][vector] = dot(
                                sums[index][vector],
                                input,
                                stepWeights[vector][group]
                            )
                        }
                    }
                }
                offset &+= 4 &* groups
            }
        }

        let count = min(pixels, call.endPixel &- pixel)
        #if ISA_AVX512VNNI
        if vectors == 1 {
            finishPairs(call, sums, positions, pixel: pixel, count: count)
            pixel &+= pixels
            continue
        }
        #endif
        // Small enough to be unrolled whatever follows: an index that is not constant would keep
        // all accumulators in memory.
        for index in 0..<pixels {
            requantise(call, sums[index], to: call.results + index &* resultStride)
        }
        for index in 0..<count {
            finish(
                call,
                call.results + index &* resultStride,
                channels: vectors &* kernel_sums.scalarCount,
                wide: call.wide + (pixel &+ index) &* call.widePixelStride,
                activations: call.activations + positions[index] &* call.activationPixelStride
            )
        }
        pixel &+= pixels
    }
}

/// Turns the accumulators of one pixel into Int16 in the order of the channels.
@inline(__always)
private func requantise<let vectors: Int>(
    _ call: KernelCall,
    _ sums: InlineArray<vectors, kernel_sums>,
    to result: UnsafeMutableRawPointer
) {
    for pair in 0..<(vectors / 2) {
        let channel = pair &* 2 &* kernel_sums.scalarCount
        let words = kernel_saturate(sums[2 &* pair], sums[2 &* pair &+ 1], call.shift)
        let factor = kernel_load_words(call.multiplier + channel)
        kernel_store_words(result + 2 &* channel, kernel_multiply(words, factor))
    }
    #if ISA_AVX512VNNI
    if vectors % 2 == 1 {
        let channel = (vectors &- 1) &* kernel_sums.scalarCount
        let words = kernel_saturate_half(sums[vectors &- 1], call.shift)
        let factor = kernel_load_half(call.multiplier + channel)
        kernel_store_half(result + 2 &* channel, kernel_multiply_half(words, factor))
    }
    #endif
}

/// Takes the steps of the epilogue for the requantised channels of one pixel.
@inline(__always)
private func finish(
    _ call: KernelCall,
    _ result: UnsafeRawPointer,
    channels: Int,
    wide: UnsafeMutableRawPointer,
    activations: UnsafeMutableRawPointer
) {
    let epilogue = call.epilogue
    var channel = 0
    while channel &+ kernel_words.scalarCount <= channels {
        var words = kernel_load_words(result + 2 &* channel)
        if epilogue.adds {
            words = kernel_add(kernel_load_words(wide + 2 &* channel), words)
        }
        if epilogue.stores {
            kernel_store_words(wide + 2 &* channel, words)
        }
        if epilogue.rescales {
            words = kernel_multiply(words, kernel_load_words(call.rescale + channel))
        }
        if epilogue.activates {
            kernel_store_activations(activations + activationSize &* channel, words)
        }
        channel &+= kernel_words.scalarCount
    }
    #if ISA_AVX512VNNI
    if channel < channels {
        var words = kernel_load_half(result + 2 &* channel)
        if epilogue.adds {
            words = kernel_add_half(kernel_load_half(wide + 2 &* channel), words)
        }
        if epilogue.stores {
            kernel_store_half(wide + 2 &* channel, words)
        }
        if epilogue.rescales {
            words = kernel_multiply_half(words, kernel_load_half(call.rescale + channel))
        }
        if epilogue.activates {
            kernel_store_activations_half(activations + activationSize &* channel, words)
        }
    }
    #endif
}

#if ISA_AVX512VNNI
/// Requantises pixels of one vector and takes the steps of the epilogue, two at a time.
@inline(__always)
private func finishPairs<let pixels: Int, let vectors: Int>(
    _ call: KernelCall,
    _ sums: Tile<pixels, vectors>,
    _ positions: InlineArray<pixels, Int>,
    pixel: Int,
    count: Int
) {
    let multiplier = kernel_load_pair(call.multiplier, call.multiplier)
    let size = MemoryLayout<kernel_sums>.size
    for pair in 0..<(pixels / 2) {
        let words = kernel_saturate_pair(sums[2 &* pair][0], sums[2 &* pair &+ 1][0], call.shift)
        kernel_store_words(call.results + pair &* size, kernel_multiply(words, multiplier))
    }
    let epilogue = call.epilogue
    let rescale = kernel_load_pair(call.rescale, call.rescale)
    var first = 0
    while first < count {
        // A last pixel without a partner is its own: both are the same.
        let second = min(first &+ 1, count &- 1)
        var words = kernel_load_words(call.results + first / 2 &* size)
        let firstWide = call.wide + (pixel &+ first) &* call.widePixelStride
        let secondWide = call.wide + (pixel &+ second) &* call.widePixelStride
        if epilogue.adds {
            words = kernel_add(kernel_load_pair(firstWide, secondWide), words)
        }
        if epilogue.stores {
            kernel_store_pair(firstWide, secondWide, words)
        }
        if epilogue.rescales {
            words = kernel_multiply(words, rescale)
        }
        if epilogue.activates {
            kernel_store_activation_pair(
                call.activations + positions[first] &* call.activationPixelStride,
                call.activations + positions[second] &* call.activationPixelStride,
                words
            )
        }
        first &+= 2
    }
}
#endif

/// Bytes of a stored activation: what the dot product takes.
#if ISA_AVX512VNNI || ISA_AVXVNNI || ISA_NEON
private let activationSize = 1
#else
private let activationSize = 2
#endif
