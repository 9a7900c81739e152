import Raster
import TestSupport
import Testing

/// What an independent decoder makes of a PngSuite file; see `Fixtures/images/README.md`.
struct ExpectedImage: CustomTestStringConvertible, Sendable {
    let name: String
    let width: Int
    let height: Int
    let channels: Int
    let bitDepth: Int
    let checksum: UInt32

    var testDescription: String { name }

    static let all: [ExpectedImage] = {
        guard let bytes = try? Fixtures.bytes("images/pngsuite/expected.txt") else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ")
            let numbers = fields[1..<5].compactMap { Int($0) }
            guard numbers.count == 4, let checksum = UInt32(fields[5], radix: 16) else {
                return nil
            }
            return ExpectedImage(
                name: String(fields[0]),
                width: numbers[0],
                height: numbers[1],
                channels: numbers[2],
                bitDepth: numbers[3],
                checksum: checksum
            )
        }
    }()
}

func pngSuite(_ name: String) throws -> [UInt8] {
    try Fixtures.bytes("images/pngsuite/\(name)")
}

/// A PNG chunk with a right CRC.
func chunk(_ type: String, _ content: [UInt8] = []) -> [UInt8] {
    let body = Array(type.utf8) + content
    return bigEndian(content.count) + body + bigEndian(Int(CRC32.ieee.checksum(body)))
}

func bigEndian(_ value: Int) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) }
}

/// The same file with bytes put in at an offset.
func inserting(_ bytes: [UInt8], at offset: Int, into file: [UInt8]) -> [UInt8] {
    Array(file[..<offset]) + bytes + Array(file[offset...])
}

/// Behind the signature and IHDR of a PNG.
let headerEnd = 33

func noise(
    width: Int,
    height: Int,
    channels: Int = 3,
    bitDepth: Int = 8,
    seed: UInt64 = 1
) -> Image {
    var generator = SeededGenerator(seed: seed)
    let count = width * height * channels * bitDepth / 8
    return Image(
        width: width,
        height: height,
        channels: channels,
        bitDepth: bitDepth,
        samples: (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
    )
}
