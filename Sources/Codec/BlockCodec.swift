package import EntropyCoding
package import Flow
package import Raster

/// Codes blocks: batches of images of one size, to one rANS stream and back.
///
/// The payload depends on the pixels and the model alone, not on the engine, its instruction set or
/// the threads around it. A codec may serve several threads at once.
package struct BlockCodec: Sendable {
    private let engine: any FlowEngine
    private let cdf: LogisticCDF
    private let scaleCosts: ScaleCosts

    /// Prepares an engine's model for entropy coding.
    ///
    /// - Throws: `LogisticCDF.TableError`, naming the tensor of the model that is not usable.
    package init(engine: any FlowEngine) throws(LogisticCDF.TableError) {
        self.engine = engine
        self.cdf = try LogisticCDF(
            logistic: engine.model.logistic,
            inverseScale: engine.model.inverseScale,
            window: engine.model.window
        )
        self.scaleCosts = ScaleCosts(cdf)
    }

    /// The model that the codec runs.
    package var model: FlowModel { engine.model }

    /// Runs the flow on a block and finds the intervals of all latents.
    ///
    /// - Parameter images: 8-bit RGB images of one size, within ``BlockLimits``.
    /// - Returns: The block, ready for the choice of images and encoding.
    package func analyse(_ images: [Image]) -> BlockAnalysis {
        guard model.mirrors else { return analyse(images, mirrorings: nil) }
        let mirrorings = cheapestMirrorings(of: images)
        return analyse(mirrorings.applied(to: images), mirrorings: mirrorings)
    }

    /// Returns the mirroring of each image that costs the fewest bits, of equals the first; none of
    /// images that are too large for the search.
    private func cheapestMirrorings(of images: [Image]) -> [Mirroring] {
        guard images.allSatisfy({ $0.pixelCount <= Mirroring.searchedPixels }) else {
            return [Mirroring](repeating: [], count: images.count)
        }
        var cheapest = [(mirroring: Mirroring, cost: Int)](
            repeating: ([], .max),
            count: images.count
        )
        for mirroring in Mirroring.allCases {
            let analysis = analyse(images.map(mirroring.applied), mirrorings: nil)
            for image in images.indices {
                let cost = analysis.cost(ofImage: image)
                if cost < cheapest[image].cost { cheapest[image] = (mirroring, cost) }
            }
        }
        return cheapest.map(\.mirroring)
    }

    /// Runs the flow on images that are mirrored already.
    ///
    /// - Parameters:
    ///   - images: The block.
    ///   - mirrorings: What the payload is to say of each image; nil for nothing.
    /// - Returns: The block, ready for encoding.
    func analyse(_ images: [Image], mirrorings: [Mirroring]?) -> BlockAnalysis {
        guard let first = images.first else {
            preconditionFailure("a block holds at least one image")
        }
        precondition(
            images.allSatisfy { $0.width == first.width && $0.height == first.height },
            "the images of a block have one size"
        )
        precondition(
            BlockLimits.allow(count: images.count, width: first.width, height: first.height),
            "a block is within its limits"
        )
        let shapes = model.passShapes(width: first.width, height: first.height)
        let channels = shapes.map(\.channels)
        var passes = [[[SymbolSequence]]](repeating: [], count: shapes.count)
        var offsets = model.correctsScales ? ScaleOffsets(channels: channels) : nil
        var corrections = model.correctsMeans ? MeanCorrections(channels: channels) : nil
        engine.forward(images.map(PlanarImage.init)) { index, values, means, scales in
            precondition(
                values.count == images.count * shapes[index].symbolsPerImage,
                "a pass has the size of its shape"
            )
            let latents = PassLatents(values: values, means: means, scales: scales)
            if first.pixelCount > MeanCorrections.skippedPixels {
                corrections?.choose(
                    pass: index,
                    latents: latents,
                    imageCount: images.count,
                    cdf: cdf,
                    isa: engine.isa
                )
            }
            withCorrectedMeans(latents, corrections, pass: index) { latents, isCorrected in
                offsets?.choose(pass: index, latents: latents, costs: scaleCosts)
                withCorrected(latents.scales, offsets, pass: index) { scales in
                    var latents = latents
                    latents.scales = scales
                    passes[index] =
                        isCorrected
                        ? symbolsByChannel(latents, images.count, channels: channels[index])
                        : [latents.symbols(imageCount: images.count, cdf: cdf, isa: engine.isa)]
                }
            }
        }
        return BlockAnalysis(
            passes: passes.flatMap(\.self),
            largestPass: shapes.largest,
            imageCount: images.count,
            offsets: offsets,
            mirrorings: mirrorings,
            corrections: corrections,
            isa: engine.isa
        )
    }

    /// Finds the intervals of a pass, `[channel][image]`.
    private func symbolsByChannel(
        _ latents: PassLatents,
        _ imageCount: Int,
        channels: Int
    ) -> [[SymbolSequence]] {
        (0..<channels).map { channel in
            latents.channel(channel, of: channels)
                .symbols(imageCount: imageCount, cdf: cdf, isa: engine.isa)
        }
    }

    /// Decodes a payload, the mirror of ``BlockAnalysis/encode(keeping:)``.
    ///
    /// - Parameters:
    ///   - payload: The whole payload.
    ///   - count: The number of images in it.
    ///   - width: The width of every image in pixels.
    ///   - height: The height of every image in pixels.
    /// - Returns: The images, 8-bit RGB.
    /// - Throws: `BitstreamError` if the counts are outside ``BlockLimits`` or the payload is not
    ///   one of an encoder. Damage that yields a valid stream is for a digest to find.
    package func decode(
        _ payload: [UInt8],
        count: Int,
        width: Int,
        height: Int
    ) throws(BitstreamError) -> [Image] {
        guard BlockLimits.allow(count: count, width: width, height: height) else {
            throw BitstreamError(.invalidGeometry, byteOffset: 0)
        }
        let shapes = model.passShapes(width: width, height: height)
        let channels = shapes.map(\.channels)
        var (offsets, begin) =
            model.correctsScales ? try ScaleOffsets.read(payload, channels: channels) : (nil, 0)
        var mirrorings: [Mirroring]?
        if model.mirrors {
            mirrorings = try Mirroring.read(payload[begin...], count: count)
            begin += Mirroring.sectionSize(count: count)
        }
        var corrections: MeanCorrections?
        if model.correctsMeans {
            let section = payload[begin...]
            let found = try MeanCorrections.read(section, channels: channels, count: count)
            corrections = found.corrections
            begin += found.byteCount
        }
        var decoder = try RANSDecoder(
            payload[begin...],
            lanes: RANS.lanes(largestPass: shapes.largest * count),
            isa: engine.isa
        )
        let images = try engine.inverse(count: count, width: width, height: height) {
            (index, means, scales, values) throws(BitstreamError) in
            try withCorrected(scales, offsets, pass: index) { scales throws(BitstreamError) in
                guard let corrections, corrections.passes[index] != nil else {
                    return try decoder.decode(values, means: means, scales: scales, cdf: cdf)
                }
                try decoder.decode(
                    values,
                    means: means,
                    corrections,
                    pass: index,
                    scales: scales,
                    cdf: cdf
                )
            }
            if index == shapes.count - 1 {
                try decoder.finish()
            }
        }
        return mirrorings?.applied(to: images.map(Image.init)) ?? images.map(Image.init)
    }
}

extension [PassShape] {
    /// The symbols of one image in the largest pass.
    fileprivate var largest: Int { map(\.symbolsPerImage).max() ?? 0 }
}

extension [Mirroring] {
    /// Returns the mirror image of each image.
    func applied(to images: [Image]) -> [Image] {
        zip(self, images).map { $0.applied(to: $1) }
    }
}

/// Gives `body` a pass's scale indices, corrected where the block has corrections.
private func withCorrected<Failure: Error>(
    _ scales: UnsafeBufferPointer<UInt8>,
    _ offsets: ScaleOffsets?,
    pass: Int,
    _ body: (UnsafeBufferPointer<UInt8>) throws(Failure) -> Void
) throws(Failure) {
    guard let offsets, offsets.passes[pass].contains(where: { $0 != 0 }) else {
        return try body(scales)
    }
    try offsets.correct(scales, pass: pass).withUnsafeBufferPointer(body)
}

/// Gives `body` a pass with its means corrected, where the block corrects them, and whether it does.
private func withCorrectedMeans(
    _ latents: PassLatents,
    _ corrections: MeanCorrections?,
    pass: Int,
    _ body: (PassLatents, _ isCorrected: Bool) -> Void
) {
    guard let corrections, corrections.passes[pass] != nil else { return body(latents, false) }
    corrections.correctedMeans(of: latents, pass: pass).withUnsafeBufferPointer { means in
        var latents = latents
        latents.means = means
        body(latents, true)
    }
}

extension RANSDecoder {
    /// Decodes a pass whose means are corrected, channel by channel.
    fileprivate mutating func decode(
        _ values: UnsafeMutableBufferPointer<Int16>,
        means: UnsafeBufferPointer<Int16>,
        _ corrections: MeanCorrections,
        pass: Int,
        scales: UnsafeBufferPointer<UInt8>,
        cdf: LogisticCDF
    ) throws(BitstreamError) {
        let channels = corrections.channels[pass]
        var residuals: [[Int16]] = []
        for channel in 0..<channels {
            let predicted = means.channel(channel, of: channels)
            let corrected = corrections.correct(predicted, pass: pass, residuals: residuals)
            let scales = scales.channel(channel, of: channels)
            var decoded = [Int16](repeating: 0, count: predicted.count)
            try decode(&decoded, means: corrected, scales: scales, cdf: cdf)
            residuals.append(MeanCorrections.residuals(decoded, means: predicted))
            values.setChannel(channel, of: channels, to: decoded)
        }
    }

    private mutating func decode(
        _ values: inout [Int16],
        means: [Int16],
        scales: [UInt8],
        cdf: LogisticCDF
    ) throws(BitstreamError) {
        try values.withUnsafeMutableBufferPointer { values throws(BitstreamError) in
            try means.withUnsafeBufferPointer { means throws(BitstreamError) in
                try scales.withUnsafeBufferPointer { scales throws(BitstreamError) in
                    try decode(values, means: means, scales: scales, cdf: cdf)
                }
            }
        }
    }
}

extension PlanarImage {
    /// Takes over the samples of an 8-bit RGB image.
    init(_ image: Image) {
        precondition(image.channels == 3 && image.bitDepth == 8, "the flow codes 8-bit RGB")
        self.init(width: image.width, height: image.height, samples: image.samples)
    }
}

extension Image {
    /// Takes over the samples of a planar image.
    fileprivate init(_ image: PlanarImage) {
        self.init(
            width: image.width,
            height: image.height,
            channels: PlanarImage.channels,
            samples: image.samples
        )
    }
}
