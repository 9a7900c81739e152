import Archive
import Codec
import EntropyCoding
import Raster

/// Opens a shard and takes out its samples; what comes out has the digest in the index.
func fuzzShard(_ bytes: [UInt8]) {
    for file in [bytes, withChecksums(bytes)] {
        guard let reader = try? ShardReader(file),
            let decoder = try? ShardDecoder(
                reader: reader,
                codec: BytesCodec(modelID: reader.modelID)
            )
        else { continue }
        let pixels = reader.blocks.reduce(0) { $0 + $1.count * $1.width * $1.height }
        precondition(reader.samples.allSatisfy { SampleRecord.isValidName($0.name) }, "names")
        guard pixels <= 1 << 16 else { continue }
        for (number, sample) in reader.samples.enumerated() {
            guard let file = try? decoder.file(at: number) else { continue }
            precondition(
                sample.mode == .flow || SampleDigest(of: file) == sample.sourceDigest,
                "a stored file has its digest"
            )
        }
    }
}

/// Samples as they are, in place of a flow.
private struct BytesCodec: BlockCoding {
    let modelID: Digest
    let paddingMultiple = 4

    func encode(
        _ images: [Image],
        keeping isKept: (_ index: Int, _ costBytes: Int) -> Bool
    ) -> [UInt8] {
        images.enumerated().filter { isKept($0.offset, $0.element.samples.count) }
            .flatMap(\.element.samples)
    }

    func decode(
        _ payload: [UInt8],
        count: Int,
        width: Int,
        height: Int
    ) throws(BitstreamError) -> [Image] {
        let size = 3 * width * height
        guard payload.count == count * size else {
            throw BitstreamError(.truncated, byteOffset: payload.count)
        }
        return (0..<count).map { index in
            Image(
                width: width,
                height: height,
                channels: 3,
                samples: Array(payload[index * size..<(index + 1) * size])
            )
        }
    }
}

/// A shard with its checksums put right where its sections can be found (`Format.md`), so that changes
/// reach the reader behind them.
private func withChecksums(_ bytes: [UInt8]) -> [UInt8] {
    guard bytes.count >= 136 else { return bytes }
    var file = bytes
    let footer = file.count - 72
    setChecksum(of: 0..<60, at: 60, &file)
    let index = number(at: footer, bytes: 8, file)
    let blocks = number(at: footer + 16, bytes: 4, file)
    if index >= 64, index <= footer {
        setBlockChecksums(index: index, blocks: min(blocks, (footer - index) / 32), &file)
        setChecksum(of: index..<footer, at: footer + 24, &file)
    }
    file.replaceSubrange(
        footer + 32..<footer + 64,
        with: Digest(of: Array(file[..<(footer + 32)])).bytes
    )
    setChecksum(of: footer..<footer + 64, at: footer + 64, &file)
    return file
}

/// Puts the checksums of blocks right, and their headers equal to the copies in the index.
private func setBlockChecksums(index: Int, blocks: Int, _ file: inout [UInt8]) {
    var offset = 64
    for block in 0..<blocks {
        let copy = index + 32 * block
        let length = number(at: copy + 16, bytes: 8, file)
        guard length >= 0, offset + 32 <= index, length <= index - offset - 32 else { return }
        setChecksum(of: offset + 32..<offset + 32 + length, at: copy + 24, &file)
        setChecksum(of: copy..<copy + 28, at: copy + 28, &file)
        file.replaceSubrange(offset..<offset + 32, with: file[copy..<copy + 32])
        offset += 32 + length
    }
}

private func setChecksum(of range: Range<Int>, at offset: Int, _ file: inout [UInt8]) {
    let checksum = CRC32.castagnoli.checksum(file[range])
    for index in 0..<4 {
        file[offset + index] = UInt8(truncatingIfNeeded: checksum >> (8 * UInt32(index)))
    }
}

/// A little-endian number.
private func number(at offset: Int, bytes: Int, _ file: [UInt8]) -> Int {
    (0..<bytes).reversed().reduce(0) { $0 << 8 | Int(file[offset + $1]) }
}
