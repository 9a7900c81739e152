internal import Kernels

// The loops between the networks: pure data movement on NHWC Int16 latents. Each touches every
// latent once or a few times, where a network spends thousands of operations on it; pointers keep
// them free of checks and copies.

/// Adds translations to the target channels of positions that follow one another, wrapping.
///
/// - Parameters:
///   - translations: Results of a network, `[position][stride]`, the first `target.count` count.
///   - stride: The distance of two positions in `translations`.
///   - target: The channels that change.
///   - latents: The first position, `[position][channels]`.
///   - channels: Channels of a position in `latents`.
///   - positions: The number of positions.
func add(
    _ translations: UnsafePointer<Int16>,
    _ stride: Int,
    _ target: [Int],
    _ latents: UnsafeMutablePointer<Int16>,
    _ channels: Int,
    _ positions: Int
) {
    change(translations, stride, target, latents, channels, positions) { $0 &+ $1 }
}

/// Subtracts translations from the target channels, the mirror of `add`.
func subtract(
    _ translations: UnsafePointer<Int16>,
    _ stride: Int,
    _ target: [Int],
    _ latents: UnsafeMutablePointer<Int16>,
    _ channels: Int,
    _ positions: Int
) {
    change(translations, stride, target, latents, channels, positions) { $0 &- $1 }
}

/// Some channels of a position that follow one another; lanes behind them hold whatever does.
private typealias Lanes = SIMD4<Int16>

/// The last positions, which are not taken by vectors: these reach up to three channels too far.
private let lanePositions = Lanes.scalarCount - 1

/// Replaces the target channels of positions that follow one another by what `operation` makes of
/// them and of `values`; parameters as of `add`.
@inline(__always)
private func change(
    _ values: UnsafePointer<Int16>,
    _ stride: Int,
    _ target: [Int],
    _ latents: UnsafeMutablePointer<Int16>,
    _ channels: Int,
    _ positions: Int,
    _ operation: (Lanes, Lanes) -> Lanes
) {
    for run in ChannelRun.runs(target, longest: Lanes.scalarCount) {
        let lanes = Lanes(0, 1, 2, 3) .< Int16(run.count)
        var from = values + run.target
        var to = latents + run.source
        for _ in 0..<max(0, positions - lanePositions) {
            let old = loadLanes(to)
            storeLanes(old.replacing(with: operation(old, loadLanes(from)), where: lanes), to)
            from += stride
            to += channels
        }
        for _ in 0..<min(positions, lanePositions) {
            for lane in 0..<run.count {
                to[lane] = operation(Lanes(repeating: to[lane]), Lanes(repeating: from[lane]))[0]
            }
            from += stride
            to += channels
        }
    }
}

@inline(__always)
private func loadLanes(_ place: UnsafePointer<Int16>) -> Lanes {
    UnsafeRawPointer(place).loadUnaligned(as: Lanes.self)
}

@inline(__always)
private func storeLanes(_ lanes: Lanes, _ place: UnsafeMutablePointer<Int16>) {
    UnsafeMutableRawPointer(place).storeBytes(of: lanes, as: Lanes.self)
}

/// Splits prior parameters `[position][stride]` into means and clamped scale indices.
///
/// - Parameters:
///   - parameters: `channels` means, then `channels` scales, at each position.
///   - stride: The distance of two positions; 0 repeats the same parameters.
///   - channels: Channels of the group.
///   - means: `[position][channels]`, in 1/32 pixel.
///   - scales: `[position][channels]`, 0…127.
///   - positions: The number of positions.
func splitPrior(
    _ parameters: UnsafePointer<Int16>,
    _ stride: Int,
    _ channels: Int,
    _ means: UnsafeMutablePointer<Int16>,
    _ scales: UnsafeMutablePointer<UInt8>,
    _ positions: Int
) {
    var from = parameters
    var mean = means
    var scale = scales
    let limit = Lanes(repeating: FlowModel.maximumScale)
    // What a vector writes behind its position, the next one replaces.
    let vectorPositions = stride == 0 ? 0 : max(0, positions - lanePositions)
    for _ in 0..<vectorPositions {
        var channel = 0
        while channel < channels {
            storeLanes(loadLanes(from + channel), mean + channel)
            let clamped = loadLanes(from + channels + channel)
                .clamped(lowerBound: .zero, upperBound: limit)
            UnsafeMutableRawPointer(scale + channel)
                .storeBytes(of: SIMD4<UInt8>(truncatingIfNeeded: clamped), as: SIMD4<UInt8>.self)
            channel += Lanes.scalarCount
        }
        from += stride
        mean += channels
        scale += channels
    }
    for _ in vectorPositions..<positions {
        for channel in 0..<channels {
            mean[channel] = from[channel]
            scale[channel] = UInt8(
                truncatingIfNeeded: min(max(from[channels + channel], 0), FlowModel.maximumScale)
            )
        }
        from += stride
        mean += channels
        scale += channels
    }
}

/// Copies the chosen channels of all positions to `[position][selection.count]`.
func gather(
    _ latents: borrowing LatentBuffer,
    _ selection: [Int],
    _ values: UnsafeMutablePointer<Int16>
) {
    let runs = ChannelRun.runs(selection, longest: Lanes.scalarCount)
    var from = UnsafePointer(latents.start)
    var to = values
    // What a vector writes behind its channels, the next one replaces.
    for _ in 0..<max(0, latents.positions - lanePositions) {
        for run in runs { storeLanes(loadLanes(from + run.source), to + run.target) }
        from += latents.channels
        to += selection.count
    }
    for _ in 0..<min(latents.positions, lanePositions) {
        for (index, channel) in selection.enumerated() { to[index] = from[channel] }
        from += latents.channels
        to += selection.count
    }
}

/// Copies `[position][selection.count]` into the chosen channels, the mirror of `gather`.
func scatter(
    _ values: UnsafePointer<Int16>,
    _ selection: [Int],
    _ latents: borrowing LatentBuffer
) {
    let (channels, positions) = (latents.channels, latents.positions)
    change(values, selection.count, selection, latents.start, channels, positions) { $1 }
}

/// Squeezes the kept channels of a level into the latents of the next, coarser one.
///
/// - Parameters:
///   - fine: `[image][H][W][C]`.
///   - kept: The channels that go on.
///   - coarse: `[image][H/2][W/2][4 · kept.count]`, channel `(dy · 2 + dx) · kept.count + index`.
func squeeze(
    _ fine: borrowing LatentBuffer,
    _ kept: [Int],
    _ coarse: borrowing LatentBuffer
) {
    forEachPair(fine, kept, coarse) { fine, coarse in coarse.pointee = fine.pointee }
}

/// Spreads the latents of a level over the kept channels of the finer one, the mirror of `squeeze`.
func unsqueeze(
    _ coarse: borrowing LatentBuffer,
    _ kept: [Int],
    _ fine: borrowing LatentBuffer
) {
    forEachPair(fine, kept, coarse) { fine, coarse in fine.pointee = coarse.pointee }
}

/// Calls the body with the place of each kept latent in the finer and in the coarser level.
@inline(__always)
private func forEachPair(
    _ fine: borrowing LatentBuffer,
    _ kept: [Int],
    _ coarse: borrowing LatentBuffer,
    body: (UnsafeMutablePointer<Int16>, UnsafeMutablePointer<Int16>) -> Void
) {
    let count = kept.count
    for row in 0..<fine.count * fine.height {
        for (index, channel) in kept.enumerated() {
            // Rows of all images follow one another and heights are even: row / 2 is the coarse row.
            let firstFine = fine.start + row * fine.width * fine.channels + channel
            let firstCoarse =
                coarse.start + (row / 2) * coarse.width * coarse.channels + (row % 2) * 2 * count
                + index
            var (from, to) = (firstFine, firstCoarse)
            for _ in 0..<coarse.width {
                body(from, to)
                body(from + fine.channels, to + count)
                from += 2 * fine.channels
                to += coarse.channels
            }
        }
    }
}

/// Fills the latents of level 0: colour transform, edge padding, and squeeze in one go.
///
/// - Parameters:
///   - images: Images of one size.
///   - colour: The colour transform.
///   - latents: `[image][H/2][W/2][12]` for the padded size H × W.
func loadPixels(
    _ images: [PlanarImage],
    _ colour: ColourTransform,
    _ latents: borrowing LatentBuffer
) {
    let channels = PlanarImage.channels
    for (index, image) in images.enumerated() {
        let (width, height) = (image.width, image.height)
        let first = latents.start + index * latents.height * latents.width * latents.channels
        image.samples.withUnsafeBufferPointer { samples in
            guard let red = samples.baseAddress else { return }
            let green = red + width * height
            let blue = green + width * height
            for y in 0..<2 * latents.height {
                let row = min(y, height - 1) * width
                var to =
                    first + (y / 2) * latents.width * latents.channels + (y % 2) * 2 * channels
                for pair in 0..<latents.width {
                    for half in 0..<2 {
                        let sample = row + min(2 * pair + half, width - 1)
                        let pixel = colour.forward(red[sample], green[sample], blue[sample])
                        to[half * channels] = pixel.0
                        to[half * channels + 1] = pixel.1
                        to[half * channels + 2] = pixel.2
                    }
                    to += latents.channels
                }
            }
        }
    }
}

/// Makes the images of the latents of level 0, the mirror of `loadPixels`.
///
/// - Parameters:
///   - latents: `[image][H/2][W/2][12]` for the padded size H × W.
///   - colour: The colour transform.
///   - width: The width of the images without padding.
///   - height: The height of the images without padding.
/// - Returns: One image for each of the latents' images.
func storePixels(
    _ latents: borrowing LatentBuffer,
    _ colour: ColourTransform,
    width: Int,
    height: Int
) -> [PlanarImage] {
    let channels = PlanarImage.channels
    var images: [PlanarImage] = []
    for index in 0..<latents.count {
        let first = latents.start + index * latents.height * latents.width * latents.channels
        let latentWidth = latents.width
        let latentChannels = latents.channels
        let samples = [UInt8](unsafeUninitializedCapacity: channels * width * height) {
            samples,
            count in
            count = channels * width * height
            guard let red = samples.baseAddress else { return }
            let green = red + width * height
            let blue = green + width * height
            for y in 0..<height {
                let row = first + (y / 2) * latentWidth * latentChannels + (y % 2) * 2 * channels
                for x in 0..<width {
                    let from = row + (x / 2) * latentChannels + (x % 2) * channels
                    let pixel = colour.inverse(from[0], from[1], from[2])
                    red[y * width + x] = pixel.0
                    green[y * width + x] = pixel.1
                    blue[y * width + x] = pixel.2
                }
            }
        }
        images.append(PlanarImage(width: width, height: height, samples: samples))
    }
    return images
}
