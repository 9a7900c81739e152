import Codec
import EntropyCoding
import Flow
import Kernels
import Raster

/// Reads a model file; one that is accepted codes an image without loss, on two kernel paths.
func fuzzModel(_ bytes: [UInt8]) {
    guard let model = try? FlowModel(bytes: bytes), model.macs(width: 8, height: 8) < 1 << 22 else {
        return
    }
    let codecs = [InstructionSet.best, .reference].map {
        try? BlockCodec(engine: makeEngine(model: model, isa: $0))
    }
    guard let best = codecs[0], let reference = codecs[1] else { return }
    let image = Image(
        width: 5,
        height: 6,
        channels: 3,
        samples: (0..<90).map { UInt8(truncatingIfNeeded: $0 * $0) }
    )
    let payload = best.analyse([image]).encode { _ in true }
    precondition(
        reference.analyse([image]).encode { _ in true } == payload,
        "two kernel paths make the same bytes"
    )
    for codec in [best, reference] {
        do {
            let images = try codec.decode(payload, count: 1, width: 5, height: 6)
            precondition(images == [image], "what is encoded is decoded")
        } catch {
            fatalError("what is encoded is decoded: \(error)")
        }
    }
}
