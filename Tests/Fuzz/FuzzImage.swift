import Dataset
import Raster

/// Reads a file as an image; one that pixels and metadata restore comes back from them.
func fuzzImage(_ bytes: [UInt8]) {
    var limits = RasterLimits()
    limits.maximumPixels = 1 << 16
    limits.maximumSampleBytes = 1 << 20
    for file in [bytes, withChecksumsOfPNG(bytes)] {
        let found = classify(name: "image.png", bytes: file, limits: limits)
        guard case .image(let decoded) = found.content else { continue }
        do {
            let isPNG = found.format == .png
            let again =
                isPNG
                ? try PNG.write(decoded.image, metadata: decoded.metadata)
                : try PNM.write(decoded.image, metadata: decoded.metadata)
            let second = isPNG ? try PNG.read(again) : try PNM.read(again)
            precondition(second == decoded, "pixels and metadata restore the image")
            precondition(isPNG || again == file, "a raw PNM file comes back byte for byte")
        } catch {
            fatalError("an image that was read is written and read again: \(error)")
        }
    }
}

/// A file with the CRC of every PNG chunk put right, so that changes reach the reader behind it.
private func withChecksumsOfPNG(_ bytes: [UInt8]) -> [UInt8] {
    guard bytes.starts(with: PNG.signature) else { return bytes }
    var file = bytes
    var offset = PNG.signature.count
    while offset + 12 <= file.count {
        let length = file[offset..<offset + 4].reduce(0) { $0 << 8 | Int($1) }
        guard length <= file.count - offset - 12 else { break }
        let end = offset + 8 + length
        let checksum = CRC32.ieee.checksum(file[offset + 4..<end])
        for index in 0..<4 {
            file[end + index] = UInt8(truncatingIfNeeded: checksum >> (24 - 8 * UInt32(index)))
        }
        offset = end + 4
    }
    return file
}
