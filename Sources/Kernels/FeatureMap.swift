internal import CKernelABI

/// The values of one layer for a batch of images of one size; scratch memory of one thread.
///
/// Layout NHWC, 64-byte aligned, zero at first. With a border, image n, row y, column x is position
/// `(n·(height+2) + y+1)·(width+2) + x+1`; kernels write only inside of it, so it stays zero and
/// a 3×3 window never needs a test. Drawings: Kernels.docc.
package final class FeatureMap {
    /// What a map holds, and so its layout.
    package enum Role: Sendable {
        /// Int16 in −1023…1023, with border, channels padded to an even count; for `amx` their low
        /// bytes and behind these, padded to a multiple of 4, their high bytes.
        case latents
        /// 0…255, with border, channels padded to a multiple of 16. Stored as the instruction
        /// set's dot product takes them: bytes, or Int16 for `sse41` and `avx2`.
        case activations
        /// Int16, without border, channels padded to a multiple of 16: a trunk or a result.
        case wide
    }

    /// Largest magnitude of a latent that enters a network; larger ones are clamped to it.
    package static let latentLimit: Int16 = 1023

    package let role: Role
    /// The instruction set whose layout this is.
    package let isa: InstructionSet
    /// How many images there is space for.
    package let images: Int
    package let height: Int
    package let width: Int
    package let channels: Int
    /// Channels of a pixel in memory; those beyond `channels` are zero or hold nothing of use.
    package let paddedChannels: Int

    /// Position or pixel 0.
    let base: UnsafeMutableRawPointer
    /// Bytes from one pixel to the next.
    let pixelStride: Int
    /// Bytes from the low bytes of latents to the high ones; 0 where they are not apart.
    let highPlane: Int

    /// Bytes of a latent in one plane.
    private let latentSize: Int
    /// What ``workingMemory(byteCount:)`` gave last.
    private var working: UnsafeMutableRawBufferPointer?

    /// A map of zeros.
    ///
    /// - Precondition: All sizes are positive.
    package init(
        _ role: Role,
        isa: InstructionSet,
        images: Int,
        height: Int,
        width: Int,
        channels: Int
    ) {
        precondition(images > 0 && height > 0 && width > 0 && channels > 0, "a map has a size")
        self.role = role
        self.isa = isa
        self.images = images
        self.height = height
        self.width = width
        self.channels = channels
        let layout = Layout(isa)
        latentSize = layout.latentSize
        let planes: Int
        let border: Int
        switch role {
        case .latents:
            paddedChannels = channels.roundedUp(toMultipleOf: layout.latentAlignment)
            pixelStride = paddedChannels * layout.latentSize
            (planes, border) = (layout.latentPlanes, 1)
        case .activations:
            paddedChannels = channels.roundedUp(toMultipleOf: Layout.channelAlignment)
            pixelStride = paddedChannels * layout.activationSize
            (planes, border) = (1, 1)
        case .wide:
            paddedChannels = channels.roundedUp(toMultipleOf: Layout.channelAlignment)
            pixelStride = paddedChannels * MemoryLayout<Int16>.size
            (planes, border) = (1, 0)
        }
        let planeSize = images * (height + 2 * border) * (width + 2 * border) * pixelStride
        highPlane = planes == 2 ? planeSize : 0
        let size = planes * planeSize + layout.slackPixels * pixelStride
        base = .allocate(byteCount: size, alignment: 64)
        base.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    }

    deinit {
        base.deallocate()
        working?.deallocate()
    }

    /// Memory for a reader of this map, 64-byte aligned, the same one each time as far as it goes.
    func workingMemory(byteCount: Int) -> UnsafeMutableRawPointer {
        if let working, let start = working.baseAddress, working.count >= byteCount { return start }
        working?.deallocate()
        let start = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 64)
        working = UnsafeMutableRawBufferPointer(start: start, count: byteCount)
        return start
    }

    /// The values of a wide map, `[images][height][width][paddedChannels]`.
    ///
    /// - Precondition: The role is `wide`.
    package var wideValues: UnsafeMutableBufferPointer<Int16> {
        precondition(role == .wide, "only a wide map has wide values")
        let count = images * height * width * paddedChannels
        return UnsafeMutableBufferPointer(
            start: base.assumingMemoryBound(to: Int16.self),
            count: count
        )
    }

    /// Copies the selected channels of some images' latents into this map, clamped to ±1023.
    ///
    /// - Parameters:
    ///   - latents: `[images][height][width][latentChannels]`.
    ///   - latentChannels: Channels of a pixel in `latents`.
    ///   - selection: This map's channel c is the latents' channel `selection[c]`.
    ///   - count: Images to copy.
    /// - Precondition: The role is `latents`; `selection` has `channels` entries.
    package func load(
        _ latents: UnsafePointer<Int16>,
        latentChannels: Int,
        selection: [Int],
        images count: Int
    ) {
        precondition(role == .latents, "only a latent map is loaded with latents")
        precondition(selection.count == channels, "one latent channel for each channel")
        precondition(
            selection.allSatisfy { (0..<latentChannels).contains($0) },
            "a selected channel exists"
        )
        precondition(count <= images, "the images fit the map")
        let runs = ChannelRun.runs(selection, longest: 16)
        // A vector reads up to 15 latents behind its run, in pixels that follow, and writes as many there,
        // in pixels that are yet to be written or the border, which is cleared after each row.
        let reach = (14 + latentChannels) / latentChannels
        var pixels = count &* height &* width
        var source = latents
        for image in 0..<count {
            for y in 0..<height {
                var target = base + position(image: image, y: y, x: 0) &* pixelStride
                for _ in 0..<width {
                    if pixels > reach {
                        for run in runs {
                            kernel_clamp_latents(
                                source + run.source,
                                target + run.target &* latentSize,
                                highPlane,
                                Self.latentLimit
                            )
                        }
                    } else {
                        loadPixel(source, selection, target)
                    }
                    pixels &-= 1
                    source += latentChannels
                    target += pixelStride
                }
                target.storeBytes(of: .zero, as: SIMD16<UInt8>.self)
                (target + max(highPlane, 16)).storeBytes(of: .zero, as: SIMD16<UInt8>.self)
            }
        }
    }

    /// Copies the selected channels of one pixel, clamped.
    private func loadPixel(
        _ latents: UnsafePointer<Int16>,
        _ selection: [Int],
        _ pixel: UnsafeMutableRawPointer
    ) {
        for (channel, selected) in selection.enumerated() {
            let latent = min(max(latents[selected], -Self.latentLimit), Self.latentLimit)
            if highPlane == 0 {
                pixel.storeBytes(of: latent, toByteOffset: 2 &* channel, as: Int16.self)
            } else {
                let bits = UInt16(bitPattern: latent)
                pixel.storeBytes(of: UInt8(bits & 255), toByteOffset: channel, as: UInt8.self)
                pixel.storeBytes(
                    of: UInt8(bits >> 8),
                    toByteOffset: channel &+ highPlane,
                    as: UInt8.self
                )
            }
        }
    }

    /// Replaces every value v of some images by `(v + 2^(bits − 1)) >> bits`.
    ///
    /// - Parameters:
    ///   - bits: 1…15.
    ///   - count: Images to round.
    /// - Precondition: The role is `wide`.
    package func round(bits: Int, images count: Int) {
        precondition((1...15).contains(bits), "bits are within 1…15")
        precondition(count <= images, "the images fit the map")
        // Rounding half up is the floor plus the highest bit dropped; no sum leaves 16 bits.
        var values = wideValues.prefix(count * height * width * paddedChannels)
        let (whole, half) = (Int16(bits), Int16(bits - 1))
        for index in values.indices {
            values[index] = values[index] &>> whole &+ (values[index] &>> half & 1)
        }
    }

    /// Copies the activations of other maps into this one: each map's channels follow those of the
    /// one before.
    ///
    /// - Parameters:
    ///   - parts: Maps of this map's size and instruction set, together of its channels.
    ///   - count: Images to copy.
    /// - Precondition: All roles are `activations`.
    package func join(_ parts: [FeatureMap], images count: Int) {
        precondition(role == .activations, "only activations are joined")
        precondition(parts.reduce(0) { $0 + $1.channels } == channels, "the parts fill the map")
        precondition(count <= images, "the images fit the map")
        var target = base
        for part in parts {
            precondition(part.role == role && part.isa == isa, "the parts have one layout")
            precondition(part.height == height && part.width == width, "the maps have one size")
            precondition(count <= part.images, "the part has the images")
            let size = part.channels * Layout(isa).activationSize
            copy(size, from: part, to: target, images: count)
            target += size
        }
    }

    /// Copies the first bytes of each pixel of a map to a place in each pixel of this map.
    private func copy(
        _ size: Int,
        from part: FeatureMap,
        to place: UnsafeMutableRawPointer,
        images count: Int
    ) {
        for image in 0..<count {
            for y in 0..<height {
                let first = position(image: image, y: y, x: 0)
                var source = part.base + first &* part.pixelStride
                var target = place + first &* pixelStride
                for _ in 0..<width {
                    target.copyMemory(from: source, byteCount: size)
                    source += part.pixelStride
                    target += pixelStride
                }
            }
        }
    }

    /// The activations of some images, `[images][height][width][channels]`.
    ///
    /// - Precondition: The role is `activations`.
    package func activationValues(images count: Int) -> [UInt8] {
        precondition(role == .activations, "only an activation map has activations")
        precondition(count <= images, "the images fit the map")
        var values: [UInt8] = []
        values.reserveCapacity(count * height * width * channels)
        for image in 0..<count {
            for y in 0..<height {
                for x in 0..<width {
                    let pixel = base + position(image: image, y: y, x: x) * pixelStride
                    for channel in 0..<channels {
                        values.append(Layout(isa).loadActivation(pixel, channel: channel))
                    }
                }
            }
        }
        return values
    }

    /// Sets the activations of some images, `[images][height][width][channels]`.
    ///
    /// - Precondition: The role is `activations`; `values` holds whole images.
    package func setActivations(_ values: [UInt8]) {
        precondition(role == .activations, "only an activation map has activations")
        let imageSize = height * width * channels
        precondition(values.count % imageSize == 0, "whole images")
        precondition(values.count / imageSize <= images, "the images fit the map")
        var index = 0
        for image in 0..<(values.count / imageSize) {
            for y in 0..<height {
                for x in 0..<width {
                    let pixel = base + position(image: image, y: y, x: x) * pixelStride
                    for channel in 0..<channels {
                        Layout(isa).storeActivation(values[index], pixel, channel: channel)
                        index += 1
                    }
                }
            }
        }
    }

    /// The position of a pixel in a map with border.
    func position(image: Int, y: Int, x: Int) -> Int {
        (image &* (height &+ 2) &+ y &+ 1) &* (width &+ 2) &+ x &+ 1
    }

    /// The position of a pixel counted over all images without their borders.
    func position(pixel: Int) -> Int {
        let (row, x) = pixel.quotientAndRemainder(dividingBy: width)
        let (image, y) = row.quotientAndRemainder(dividingBy: height)
        return position(image: image, y: y, x: x)
    }
}
