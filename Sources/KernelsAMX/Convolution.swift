// The kernel module of AMX (Intel, "Advanced Matrix Extensions"): sums on tiles, the epilogue on
// vectors of AVX-512. The rules of the other kernel modules hold here too: entry points are never
// inlined, and no type or generic is shared.

package import CKernelABI

// MARK: Entry points

/// Computes the output channels of one block for a run of pixels.
///
/// - Parameter call: Maps, packed weights and epilogue. `vectors` is 1 or 2; the input is bytes, or
///   latents as two planes of bytes.
/// - Note: Exact. Derivation: Kernels.docc, "Exactness".
@inline(never)
package func convolve(_ call: UnsafePointer<KernelCall>) {
    switch (call.pointee.inputIsBytes, call.pointee.vectors) {
    case (true, 1): convolveBytes1(call)
    case (true, _): convolveBytes2(call)
    case (false, 1): convolveLatents1(call)
    case (false, _): convolveLatents2(call)
    }
}

/// Runs the instructions of twelve dot products of tiles, and nothing else.
///
/// - Parameter rounds: How often.
@inline(never)
package func repeatDotProducts(rounds: Int) {
    kernel_begin_tiles(16, 64)
    for _ in 0..<rounds { kernel_repeat_dot_tiles() }
    kernel_end_tiles()
}

// MARK: The loop

@inline(never)
private func convolveBytes1(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, vectors: 1, isSplit: false)
}

@inline(never)
private func convolveBytes2(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, vectors: 2, isSplit: false)
}

@inline(never)
private func convolveLatents1(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, vectors: 1, isSplit: true)
}

@inline(never)
private func convolveLatents2(_ call: UnsafePointer<KernelCall>) {
    convolve(call.pointee, vectors: 2, isSplit: true)
}

/// Pixels of a run, the rows of a tile.
private let tilePixels = 16

/// Walks over the rows of the images, as many runs of pixels at a time as four tiles hold the sums of.
///
/// A run is up to 16 pixels of a row. Where the row ends before, what comes behind it in memory is
/// computed as well, and dropped; so are runs behind the last pixel.
///
/// Latents are `256·high + low` with signed high and unsigned low bytes in a plane each, `isSplit`: both
/// have sums of their own, which are added when these are requantised.
@inline(__always)
private func convolve(_ call: KernelCall, vectors: Int, isSplit: Bool) {
    let runs = (isSplit ? 2 : 4) / vectors
    let (width, height) = (call.width, call.height)
    let rowPositions = width &+ 2
    var x = call.firstPixel % width
    var y = call.firstPixel / width
    var position = (y / height &* (height &+ 2) &+ y % height &+ 1) &* rowPositions &+ x &+ 1
    y %= height
    let margin = (call.kernelSize / 2) &* (rowPositions &+ 1) &* call.inputPixelStride
    let runSize = tilePixels &* vectors &* MemoryLayout<kernel_sums>.size

    kernel_begin_tiles(min(width, tilePixels), call.tileDepth)
    var pixel = call.firstPixel
    while pixel < call.endPixel {
        var windows = InlineArray<4, UnsafeRawPointer>(repeating: call.input)
        var pixels = InlineArray<4, Int>(repeating: 0)
        var positions = InlineArray<4, Int>(repeating: 0)
        var counts = InlineArray<4, Int>(repeating: 0)
        for run in 0..<runs {
            let count = min(tilePixels, width &- x, call.endPixel &- pixel)
            if count > 0 {
                windows[run] = call.input + (position &* call.inputPixelStride &- margin)
            }
            (pixels[run], positions[run], counts[run]) = (pixel, position, count)
            pixel &+= count
            x &+= count
            position &+= count
            if x == width {
                x = 0
                y &+= 1
                position &+= 2
                if y == height {
                    y = 0
                    position &+= 2 &* rowPositions
                }
            }
        }
        sum(call, windows, vectors: vectors, isSplit: isSplit)
        for run in 0..<runs {
            finish(
                call,
                sums: call.results + run &* runSize,
                pixels: counts[run],
                vectors: vectors,
                isSplit: isSplit,
                wide: call.wide + pixels[run] &* call.widePixelStride,
                activations: call.activations + positions[run] &* call.activationPixelStride
            )
        }
    }
    kernel_end_tiles()
}

/// Writes the sums of some runs of pixels to `results`, `[run][pixel][vector][lane]`; of latents those
/// of low bytes, and behind two tiles those of high bytes.
@inline(__always)
private func sum(
    _ call: KernelCall,
    _ windows: InlineArray<4, UnsafeRawPointer>,
    vectors: Int,
    isSplit: Bool
) {
    kernel_load_biases(call.bias, vectors, isSplit)
    let rowStride = (call.width &+ 2) &* call.inputPixelStride
    let rowBytes = call.kernelSize &* call.inputPixelStride
    let weightStep = call.tileDepth / 4 &* vectors &* MemoryLayout<kernel_sums>.size
    var weights: UnsafeRawPointer = call.weights
    for row in 0..<call.kernelSize {
        var offset = row &* rowStride
        let end = offset &+ rowBytes
        while offset < end {
            if isSplit {
                kernel_dot_split_tiles(
                    vectors,
                    windows[0] + offset,
                    windows[1] + offset,
                    call.highPlane,
                    call.inputPixelStride,
                    weights
                )
            } else {
                kernel_dot_tiles(
                    vectors,
                    windows[0] + offset,
                    windows[1] + offset,
                    windows[2] + offset,
                    windows[3] + offset,
                    call.inputPixelStride,
                    weights
                )
            }
            weights += weightStep
            offset &+= call.tileDepth
        }
    }
    kernel_store_tiles(call.results, vectors)
}

// MARK: The epilogue

/// Requantises the sums of a run of pixels and takes the steps of the epilogue.
///
/// Two vectors of words go through it together: two pixels of 32 channels, or four of 16.
@inline(__always)
private func finish(
    _ call: KernelCall,
    sums: UnsafeRawPointer,
    pixels: Int,
    vectors: Int,
    isSplit: Bool,
    wide: UnsafeMutableRawPointer,
    activations: UnsafeMutableRawPointer
) {
    let epilogue = call.epilogue
    let channels = vectors &* kernel_sums.scalarCount
    let wideSize = channels &* MemoryLayout<Int16>.size
    // Pixels of one vector of words.
    let step = kernel_words.scalarCount / channels
    let wordsSize = step &* vectors &* MemoryLayout<kernel_sums>.size
    let multiplier = kernel_load_pixels(call.multiplier, 0, wideSize)
    let rescale = kernel_load_pixels(call.rescale, 0, wideSize)
    var (sums, wide, activations) = (sums, wide, activations)
    var rest = pixels
    while rest > 0 {
        var first = kernel_saturate_pixels(sums, vectors, isSplit, call.shift)
        var second = kernel_saturate_pixels(sums + wordsSize, vectors, isSplit, call.shift)
        first = kernel_multiply(first, multiplier)
        second = kernel_multiply(second, multiplier)
        let next = wide + step &* call.widePixelStride
        if epilogue.adds {
            first = kernel_add(kernel_load_pixels(wide, call.widePixelStride, wideSize), first)
            second = kernel_add(kernel_load_pixels(next, call.widePixelStride, wideSize), second)
        }
        if epilogue.stores {
            kernel_store_pixels(wide, call.widePixelStride, wideSize, rest, first)
            if rest > step {
                kernel_store_pixels(next, call.widePixelStride, wideSize, rest &- step, second)
            }
        }
        if epilogue.rescales {
            first = kernel_multiply(first, rescale)
            second = kernel_multiply(second, rescale)
        }
        if epilogue.activates {
            let bytes = kernel_clamp(first, second)
            kernel_store_pixels(activations, call.activationPixelStride, channels, rest, bytes)
        }
        sums += 2 &* wordsSize
        wide += 2 &* step &* call.widePixelStride
        activations += 2 &* step &* call.activationPixelStride
        rest &-= 2 &* step
    }
}
