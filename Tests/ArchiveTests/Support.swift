import Archive
import Codec
import EntropyCoding
import Flow
import Foundation
import Kernels
import Raster
import TestSupport
import Testing

/// A codec for tests of the container: an image of one value takes two bytes, another more than its
/// samples.
///
/// Its cost is the payload's, so tests choose the mode by the picture.
struct PlainCodec: BlockCoding {
    var modelID = Digest(of: Array("plain".utf8))
    var paddingMultiple = 4

    /// Makes other images longer than they are as PPM files.
    private static let padding = [UInt8](repeating: 0, count: 64)

    func encode(
        _ images: [Image],
        keeping isKept: (_ index: Int, _ costBytes: Int) -> Bool
    ) -> [UInt8] {
        var payload: [UInt8] = []
        for (index, image) in images.enumerated() {
            let samples = image.samples
            let isPlain = samples.withUnsafeBytes { bytes in
                bytes.baseAddress.map { memcmp($0, $0 + 1, bytes.count - 1) == 0 } ?? false
            }
            let bytes = isPlain ? [0, samples[0]] : [1] + samples + Self.padding
            if isKept(index, bytes.count) { payload += bytes }
        }
        return payload
    }

    func decode(
        _ payload: [UInt8],
        count: Int,
        width: Int,
        height: Int
    ) throws(BitstreamError) -> [Image] {
        var offset = 0
        func take(_ length: Int) throws(BitstreamError) -> [UInt8] {
            guard length <= payload.count - offset else {
                throw BitstreamError(.truncated, byteOffset: offset)
            }
            defer { offset += length }
            return Array(payload[offset..<(offset + length)])
        }
        var images: [Image] = []
        for _ in 0..<count {
            let size = 3 * width * height
            let isPlain = try take(1)[0] == 0
            let samples = isPlain ? [UInt8](repeating: try take(1)[0], count: size) : try take(size)
            if !isPlain { _ = try take(Self.padding.count) }
            images.append(Image(width: width, height: height, channels: 3, samples: samples))
        }
        guard offset == payload.count else {
            throw BitstreamError(.trailingBytes, byteOffset: offset)
        }
        return images
    }
}

/// The codec of a model of the fixtures.
func fixtureCodec(_ isa: InstructionSet = .best) throws -> BlockCodec {
    let bytes = try Fixtures.bytes("vectors/tiny-lifting.model.safetensors")
    return try BlockCodec(engine: makeEngine(model: FlowModel(bytes: bytes), isa: isa))
}

/// An image of one colour.
func plain(_ value: UInt8, width: Int = 8, height: Int = 8) -> Image {
    Image(
        width: width,
        height: height,
        channels: 3,
        samples: [UInt8](repeating: value, count: 3 * width * height)
    )
}

func noise(width: Int, height: Int, seed: UInt64) -> Image {
    var generator = SeededGenerator(seed: seed)
    return Image(
        width: width,
        height: height,
        channels: 3,
        samples: (0..<(3 * width * height)).map { _ in .random(in: 0...255, using: &generator) }
    )
}

/// A gradient with a little noise, which a model with smooth priors codes below 8 bits.
func smooth(width: Int, height: Int, seed: UInt64) -> Image {
    var generator = SeededGenerator(seed: seed)
    var samples: [UInt8] = []
    for channel in 0..<3 {
        for y in 0..<height {
            for x in 0..<width {
                samples.append(
                    UInt8(
                        100 + x / 2 + y / 3 + 5 * channel + Int.random(in: 0...1, using: &generator)
                    )
                )
            }
        }
    }
    return Image(width: width, height: height, channels: 3, samples: samples)
}

typealias Input = ShardEncoder.Input

extension Input {
    /// An image as a PPM file, whose length is that of its samples and a few bytes.
    static func ppm(_ name: String, _ image: Image) throws -> Input {
        let file = try PNM.write(image)
        return Input(name: name, bytes: file, format: .pnm, content: .image(try PNM.read(file)))
    }

    /// An image as a PNG file that is many times longer than need be: each byte of its data in a
    /// chunk of its own.
    static func long(_ name: String, _ image: Image) throws -> Input {
        let file = try PNG.write(image)
        let data = 41..<(file.count - 16)
        let chunks = data.flatMap { chunk("IDAT", [file[$0]]) }
        let long = file[..<33] + chunks + file[(file.count - 12)...]
        return Input(
            name: name,
            bytes: Array(long),
            format: .png,
            content: .image(try PNG.read(Array(long)))
        )
    }

    static func png(_ name: String, _ image: Image, metadata: [UInt8] = []) throws -> Input {
        let file = try PNG.write(image, metadata: metadata)
        return Input(name: name, bytes: file, format: .png, content: .image(try PNG.read(file)))
    }

    /// An image whose file is claimed, not made: for images too large to be written in every test.
    static func claimed(
        _ name: String,
        _ image: Image,
        metadata: [UInt8] = [],
        sourceBytes: Int = 1000
    ) -> Input {
        Input(
            name: name,
            bytes: [UInt8](repeating: 0, count: sourceBytes),
            format: .png,
            content: .image(DecodedImage(image: image, restriction: nil, metadata: metadata))
        )
    }

    static func side(_ name: String, _ bytes: [UInt8]) -> Input {
        Input(
            name: name,
            bytes: bytes,
            format: nil,
            content: .stored(reason: "side file", isProblem: false)
        )
    }

    static func damaged(_ name: String, _ bytes: [UInt8]) -> Input {
        Input(
            name: name,
            bytes: bytes,
            format: .png,
            content: .stored(reason: "damaged: truncated", isProblem: true)
        )
    }

    static func missing(_ name: String) -> Input {
        Input(name: name, bytes: [], format: nil, content: .missing(reason: "gone"))
    }
}

func encode(
    _ inputs: [Input],
    codec: any BlockCoding = PlainCodec(),
    threads: Int = 2
) async throws -> ShardEncoder.Shard {
    try await ShardEncoder(codec: codec).encode(count: inputs.count, threads: threads) {
        inputs[$0]
    }
}

/// A small shard with every mode: two blocks of images, a stored block, a missing sample.
func mixedShard() async throws -> (inputs: [Input], shard: ShardEncoder.Shard) {
    let inputs: [Input] = [
        try .ppm("a/1.ppm", plain(1)),
        .side("a/1.txt", Array("seven".utf8)),
        try .ppm("a/2.ppm", noise(width: 8, height: 8, seed: 1)),
        try .png("b.png", plain(9, width: 64, height: 40), metadata: [13, 0, 0, 0] + textChunk),
        .damaged("c.png", [0x89, 0x50]),
        try .ppm("d.ppm", plain(2)),
        .missing("e"),
        .side("empty", []),
    ]
    return (inputs, try await encode(inputs))
}

/// A chunk of a PNG file.
func chunk(_ type: String, _ content: [UInt8]) -> [UInt8] {
    let body = Array(type.utf8) + content
    func bigEndian(_ value: UInt32) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) }
    }
    return bigEndian(UInt32(content.count)) + body + bigEndian(CRC32.ieee.checksum(body))
}

/// "tEXt" with one byte of content.
let textChunk = chunk("tEXt", [0x78])
