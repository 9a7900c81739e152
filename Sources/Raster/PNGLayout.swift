/// One chunk of a PNG file.
struct PNGChunk {
    /// Length, type and CRC, in bytes.
    static let overheadBytes = 12

    /// Four letters.
    let type: String
    /// From the length field to the CRC, in bytes from the start of the file.
    let range: Range<Int>

    var content: Range<Int> { (range.lowerBound + 8)..<(range.upperBound - 4) }

    /// Reads and checks the chunk at an offset.
    ///
    /// - Throws: When the chunk passes the end of the bytes, its type is not four letters, or its
    ///   CRC does not fit.
    init(_ bytes: [UInt8], at offset: Int) throws(RasterError) {
        guard bytes.count - offset >= Self.overheadBytes else {
            throw RasterError(.truncated, at: offset)
        }
        let length = bytes.bigEndian32(at: offset)
        let letters = bytes[(offset + 4)..<(offset + 8)]
        guard letters.allSatisfy({ (0x41...0x5A).contains($0 & 0xDF) }) else {
            throw RasterError(.malformed("chunk type"), at: offset + 4)
        }
        type = String(decoding: letters, as: UTF8.self)
        guard length <= bytes.count - offset - Self.overheadBytes else {
            throw RasterError(.truncated, at: offset)
        }
        range = offset..<(offset + Self.overheadBytes + length)
        let checksum = CRC32.ieee.checksum(bytes[(offset + 4)..<(range.upperBound - 4)])
        guard Int(checksum) == bytes.bigEndian32(at: range.upperBound - 4) else {
            throw RasterError(.checksumMismatch(chunk: type), at: range.upperBound - 4)
        }
    }

    /// Splits ``PNG`` metadata into the chunks before and behind IDAT, each checked.
    static func split(
        _ metadata: [UInt8]
    ) throws(RasterError) -> (before: ArraySlice<UInt8>, after: ArraySlice<UInt8>) {
        guard !metadata.isEmpty else { return ([], []) }
        guard metadata.count >= 4 else { throw RasterError(.truncated, at: 0) }
        let length = (0..<4).reduce(0) { $0 | Int(metadata[$1]) << (8 * $1) }
        guard length <= metadata.count - 4 else { throw RasterError(.truncated, at: 0) }
        let middle = 4 + length
        var offset = 4
        while offset < metadata.count {
            let chunk = try PNGChunk(metadata, at: offset)
            guard
                !["IHDR", "IDAT", "IEND"].contains(chunk.type),
                offset >= middle || chunk.range.upperBound <= middle
            else { throw RasterError(.malformed("PNG metadata"), at: offset) }
            offset = chunk.range.upperBound
        }
        return (metadata[4..<middle], metadata[middle...])
    }
}

/// IHDR.
struct PNGHeader {
    enum Colour: UInt8 {
        case grey = 0
        case rgb = 2
        case palette = 3
        case greyAlpha = 4
        case rgba = 6
    }

    let width: Int
    let height: Int
    /// Bits per sample, or per palette index.
    let bitDepth: Int
    let colour: Colour

    init(_ bytes: [UInt8], _ chunk: PNGChunk) throws(RasterError) {
        let start = chunk.content.lowerBound
        guard chunk.type == "IHDR", chunk.content.count == 13 else {
            throw RasterError(.malformed("IHDR"), at: chunk.range.lowerBound)
        }
        width = bytes.bigEndian32(at: start)
        height = bytes.bigEndian32(at: start + 4)
        guard (1...Int(Int32.max)).contains(width), (1...Int(Int32.max)).contains(height) else {
            throw RasterError(.malformed("image size"), at: start)
        }
        let depth = Int(bytes[start + 8])
        guard let colour = Colour(rawValue: bytes[start + 9]) else {
            throw RasterError(.malformed("colour type"), at: start + 9)
        }
        let depths: [Int] =
            switch colour {
            case .grey: [1, 2, 4, 8, 16]
            case .palette: [1, 2, 4, 8]
            case .rgb, .greyAlpha, .rgba: [8, 16]
            }
        guard depths.contains(depth) else {
            throw RasterError(.malformed("bit depth"), at: start + 8)
        }
        bitDepth = depth
        self.colour = colour
        guard bytes[start + 10] == 0, bytes[start + 11] == 0 else {
            throw RasterError(.unsupported("compression or filter method"), at: start + 10)
        }
        guard bytes[start + 12] <= 1 else {
            throw RasterError(.unsupported("interlace method"), at: start + 12)
        }
    }

    var bitsPerPixel: Int {
        switch colour {
        case .grey, .palette: bitDepth
        case .greyAlpha: 2 * bitDepth
        case .rgb: 3 * bitDepth
        case .rgba: 4 * bitDepth
        }
    }
}

/// The chunk structure of a PNG file, checked as far as the pixels depend on it.
struct PNGLayout {
    let header: PNGHeader
    /// All chunks from IHDR to IEND.
    private let chunks: [PNGChunk]
    private let hasTrailingBytes: Bool

    /// What deflate gains at most: 258 bytes from 2 bits (RFC 1951), in bytes per byte.
    private static let maximumInflation = 1032

    init(_ bytes: [UInt8], limits: RasterLimits) throws(RasterError) {
        guard bytes.starts(with: PNG.signature) else { throw RasterError(.badSignature, at: 0) }
        let first = try PNGChunk(bytes, at: PNG.signature.count)
        header = try PNGHeader(bytes, first)
        var chunks = [first]
        while chunks[chunks.count - 1].type != "IEND" {
            chunks.append(try PNGChunk(bytes, at: chunks[chunks.count - 1].range.upperBound))
        }
        self.chunks = chunks
        hasTrailingBytes = chunks[chunks.count - 1].range.upperBound < bytes.count
        try checkOrder()
        try limits.check(
            width: header.width,
            height: header.height,
            bytesPerPixel: channels * (header.bitDepth == 16 ? 2 : 1),
            at: first.content.lowerBound
        )
        try checkDataSize()
    }

    private func checkOrder() throws(RasterError) {
        var seenData = false
        var dataEnd = 0
        var seenPalette = false
        for chunk in chunks.dropFirst() {
            let offset = chunk.range.lowerBound
            switch chunk.type {
            case "IDAT":
                guard !seenData || offset == dataEnd else {
                    throw RasterError(.malformed("order: IDAT chunks are apart"), at: offset)
                }
                guard seenPalette || header.colour != .palette else {
                    throw RasterError(.malformed("palette: PLTE is missing"), at: offset)
                }
                seenData = true
                dataEnd = chunk.range.upperBound
            case "PLTE":
                guard
                    !seenPalette, !seenData, header.colour != .grey, header.colour != .greyAlpha,
                    (3...768).contains(chunk.content.count), chunk.content.count % 3 == 0
                else { throw RasterError(.malformed("PLTE"), at: offset) }
                seenPalette = true
                // Readers differ in what they make of more colours than an index can name.
                guard
                    header.colour != .palette || chunk.content.count <= 3 << header.bitDepth
                else { throw RasterError(.malformed("PLTE: too many colours"), at: offset) }
            case "IEND":
                guard seenData, chunk.content.isEmpty else {
                    throw RasterError(.malformed("IEND"), at: offset)
                }
            case "IHDR":
                throw RasterError(.malformed("order: a second IHDR"), at: offset)
            case let type where type.first?.isUppercase == true:
                throw RasterError(.unsupported("critical chunk \(type)"), at: offset)
            default:
                break
            }
        }
    }

    /// Refuses headers that promise more pixels than their data could ever hold.
    private func checkDataSize() throws(RasterError) {
        let compressedBytes = chunks.lazy.filter { $0.type == "IDAT" }
            .reduce(0) { $0 + $1.content.count }
        let packedBytes = header.width * header.height * header.bitsPerPixel / 8
        guard packedBytes <= compressedBytes * Self.maximumInflation else {
            throw RasterError(.truncated, at: firstDataOffset)
        }
    }

    /// Of the first IDAT chunk.
    var firstDataOffset: Int {
        chunks.first { $0.type == "IDAT" }?.range.lowerBound ?? 0
    }

    /// Whether a tRNS chunk comes before the data.
    var hasTransparency: Bool {
        chunks.contains { $0.type == "tRNS" && $0.range.lowerBound < firstDataOffset }
    }

    /// Of the decoded image, palette and transparency expanded.
    var channels: Int {
        switch header.colour {
        case .grey: hasTransparency ? 2 : 1
        case .rgb, .palette: hasTransparency ? 4 : 3
        case .greyAlpha: 2
        case .rgba: 4
        }
    }

    var restriction: DecodedImage.Restriction? {
        if chunks.contains(where: { $0.type == "acTL" }) { return .animated }
        if header.bitDepth == 16 { return .sixteenBit }
        switch header.colour {
        case .palette: return .palette
        case .grey, .greyAlpha: return .grey
        case .rgba: return .alpha
        case .rgb: break
        }
        // A misplaced tRNS is no transparency to us, but might be to another reader.
        if chunks.contains(where: { $0.type == "tRNS" }) { return .alpha }
        return hasTrailingBytes ? .trailingBytes : nil
    }

    /// The file without the chunks that the pixels do not depend on.
    func criticalStream(of bytes: [UInt8]) -> [UInt8] {
        var stream = PNG.signature
        stream.reserveCapacity(bytes.count)
        for chunk in chunks {
            let isNeeded =
                switch chunk.type {
                case "IHDR", "IDAT", "IEND": true
                case "PLTE": header.colour == .palette
                case "tRNS": chunk.range.lowerBound < firstDataOffset
                default: false
                }
            if isNeeded { stream += bytes[chunk.range] }
        }
        return stream
    }

    /// See ``PNG`` for the layout.
    func metadata(of bytes: [UInt8]) -> [UInt8] {
        var before: [UInt8] = []
        var after: [UInt8] = []
        for chunk in chunks {
            switch chunk.type {
            case "IHDR", "IDAT", "IEND", "iDOT":
                continue
            case "PLTE" where header.colour == .palette, "tRNS":
                continue
            default:
                if chunk.range.lowerBound < firstDataOffset {
                    before += bytes[chunk.range]
                } else {
                    after += bytes[chunk.range]
                }
            }
        }
        guard !before.isEmpty || !after.isEmpty else { return [] }
        return (0..<4).map { UInt8(truncatingIfNeeded: before.count >> (8 * $0)) } + before + after
    }
}

extension Array where Element == UInt8 {
    fileprivate func bigEndian32(at offset: Int) -> Int {
        self[offset..<(offset + 4)].reduce(0) { $0 << 8 | Int($1) }
    }
}
