import Codec
import EntropyCoding
import Flow
import Kernels
import Raster
import TestSupport

/// Codes an image, damages the payload, and decodes it on two kernel paths, which must agree.
///
/// The input: width and height, the number of bytes to change, for each of them a place and what to
/// exclusive-or, the bytes to cut, the samples.
func fuzzPayload(_ bytes: [UInt8]) {
    var input = InputReader(bytes)
    let width = input.number(in: 1...17)
    let height = input.number(in: 1...9)
    let edits = (0..<input.number(in: 0...4)).map { _ in
        (place: input.number(in: 0...65535), mask: input.byte())
    }
    let cut = input.number(in: 0...3)
    let image = Image(
        width: width,
        height: height,
        channels: 3,
        samples: (0..<3 * width * height).map { _ in input.byte() }
    )
    let sound = codecs.encoder.analyse([image]).encode { _ in true }
    var payload = sound.dropLast(cut)
    for edit in edits where !payload.isEmpty {
        payload[edit.place % payload.count] ^= edit.mask
    }

    let results = [codecs.encoder, codecs.verifier].map { codec in
        Result { () throws(BitstreamError) in
            try codec.decode(Array(payload), count: 1, width: width, height: height)
        }
    }
    precondition(results[0] == results[1], "two kernel paths decode the same")
    if payload == sound[...] {
        precondition(results[0] == .success([image]), "what is encoded is decoded")
    }
}

/// The codecs of a small model.
private let codecs: (encoder: BlockCodec, verifier: BlockCodec) = {
    do {
        let bytes = try Fixtures.bytes("vectors/tiny-lifting.model.safetensors")
        let model = try FlowModel(bytes: bytes)
        return (
            try BlockCodec(engine: makeEngine(model: model, isa: .best)),
            try BlockCodec(engine: makeEngine(model: model, isa: InstructionSet.best.verifier))
        )
    } catch {
        fatalError("the fixture is a model: \(error)")
    }
}()
