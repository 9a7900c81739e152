package import EntropyCoding
package import Flow
package import Raster

/// The stages of coding one block, each of which can be run alone, to be timed.
///
/// What a stage reads is made at the start, so that a run is the stage and nothing else. Several
/// threads may run stages at once.
package struct BlockStages: Sendable {
    /// A part of coding, or all of it.
    package enum Stage: String, CaseIterable, Sendable {
        /// Pixels to latents, and the networks' means and scales of all of them.
        case forward
        /// The corrections of the scales and the intervals of all latents.
        case intervals
        /// Intervals to payload.
        case ransEncode = "rans_encode"
        /// Images to payload: the three stages above, and the search for mirrorings if the model
        /// asks for them.
        case encode
        /// Payload to latents, with the search for each symbol.
        case ransDecode = "rans_decode"
        /// Latents to pixels, and the networks' means and scales of all latents.
        case inverse
        /// Payload to images: the two stages above.
        case decode
        /// Payload to images on the verifying engine, and the comparison with the sources.
        case verify
        /// What compressing takes: `encode` and `verify`.
        case encodeAndVerify = "encode_and_verify"

        /// Whether the stage is the flow alone.
        package var isNetwork: Bool { self == .forward || self == .inverse }
    }

    private let images: [Image]
    /// As the flow codes them.
    private let mirrored: [Image]
    private let planarImages: [PlanarImage]
    private let engine: any FlowEngine
    private let recording: ReplayEngine
    private let codec: BlockCodec
    private let verifier: BlockCodec
    private let replay: BlockCodec
    private let analysis: BlockAnalysis

    /// The block's payload.
    package let payload: [UInt8]

    /// Codes a block once, and keeps what each stage reads.
    ///
    /// - Parameters:
    ///   - images: 8-bit RGB images of one size, within ``BlockLimits``.
    ///   - engine: Encodes and decodes.
    ///   - verifier: Another engine of the same model; checks what was encoded.
    /// - Throws: `LogisticCDF.TableError`, naming the tensor of the model that is not usable.
    package init(
        _ images: [Image],
        engine: any FlowEngine,
        verifier: any FlowEngine
    ) throws(LogisticCDF.TableError) {
        self.images = images
        self.engine = engine
        self.codec = try BlockCodec(engine: engine)
        self.verifier = try BlockCodec(engine: verifier)
        self.analysis = codec.analyse(images)
        self.mirrored = analysis.mirrorings?.applied(to: images) ?? images
        self.planarImages = mirrored.map(PlanarImage.init)
        self.recording = ReplayEngine(recording: engine, images: planarImages)
        self.replay = try BlockCodec(engine: recording)
        self.payload = analysis.encode { _ in true }
    }

    /// Runs a stage once.
    ///
    /// - Returns: Whether it made what it should: the payload, or the images.
    @discardableResult
    package func run(_ stage: Stage) -> Bool {
        switch stage {
        case .forward:
            engine.forward(planarImages) { _, _, _, _ in }
            return true
        case .intervals:
            let analysis = replay.analyse(mirrored, mirrorings: analysis.mirrorings)
            return analysis.imageCount == images.count
        case .ransEncode: return analysis.encode { _ in true } == payload
        case .encode: return codec.analyse(images).encode { _ in true } == payload
        case .ransDecode: return decode(on: replay)
        case .inverse: return recording.invert(on: engine) == planarImages
        case .decode: return decode(on: codec)
        case .verify: return decode(on: verifier)
        case .encodeAndVerify: return run(.encode) && run(.verify)
        }
    }

    private func decode(on codec: BlockCodec) -> Bool {
        let (width, height) = (images[0].width, images[0].height)
        let decoded = try? codec.decode(
            payload,
            count: images.count,
            width: width,
            height: height
        )
        return decoded == images
    }
}
