/// Reads and writes the Netpbm formats: PBM, PGM, PPM, plain and raw, and PAM.
///
/// Metadata is the header, verbatim with its comments, so that a raw file is restored byte for byte.
/// Source: the manual pages pbm(5), pgm(5), ppm(5) and pam(5) of Netpbm.
package enum PNM {
    /// Reads the first image of a file.
    ///
    /// Samples are as stored, not scaled to the range of 8 or 16 bits; bits of a PBM become 0
    /// (black) and 255.
    package static func read(
        _ bytes: [UInt8],
        limits: RasterLimits = RasterLimits()
    ) throws(RasterError) -> DecodedImage {
        let header = try PNMHeader(bytes)
        try limits.check(
            width: header.width,
            height: header.height,
            bytesPerPixel: header.channels * header.sampleBytes,
            at: 0
        )
        var end = header.byteCount
        let interleaved =
            if header.isPlain {
                try readPlain(bytes, header)
            } else if header.isBitmap {
                try readBits(bytes, header, &end)
            } else {
                try readRaw(bytes, header, &end)
            }
        return DecodedImage(
            image: Image(
                width: header.width,
                height: header.height,
                channels: header.channels,
                bitDepth: 8 * header.sampleBytes,
                interleaved: interleaved
            ),
            restriction: header.restriction ?? (end < bytes.count ? .trailingBytes : nil),
            metadata: Array(bytes[..<header.byteCount])
        )
    }

    /// The raw file of an image under a header; without one, PGM, PPM or PAM with the full range.
    ///
    /// - Throws: When the header is none, or not that of a raw image of this shape.
    package static func write(
        _ image: Image,
        metadata: [UInt8] = []
    ) throws(RasterError) -> [UInt8] {
        let text = metadata.isEmpty ? Array(defaultHeader(of: image).utf8) : metadata
        let header = try PNMHeader(text)
        guard
            header.byteCount == text.count, !header.isPlain, !header.isBitmap,
            header.width == image.width, header.height == image.height,
            header.channels == image.channels, 8 * header.sampleBytes == image.bitDepth
        else { throw RasterError(.malformed("PNM metadata"), at: 0) }
        return text + bigEndian(image.interleaved(), sampleBytes: header.sampleBytes)
    }

    /// Whether bytes start with "P1" to "P7" and white space.
    static func isSignature(_ head: [UInt8]) -> Bool {
        head.count >= 3 && head[0] == UInt8(ascii: "P")
            && (UInt8(ascii: "1")...UInt8(ascii: "7")).contains(head[1])
            && (head[2].isPNMSpace || head[2] == UInt8(ascii: "#"))
    }

    private static func defaultHeader(of image: Image) -> String {
        let maximum = image.bitDepth == 16 ? 65535 : 255
        return switch image.channels {
        case 1: "P5\n\(image.width) \(image.height)\n\(maximum)\n"
        case 3: "P6\n\(image.width) \(image.height)\n\(maximum)\n"
        default:
            """
            P7
            WIDTH \(image.width)
            HEIGHT \(image.height)
            DEPTH \(image.channels)
            MAXVAL \(maximum)
            TUPLTYPE \(image.channels == 2 ? "GRAYSCALE_ALPHA" : "RGB_ALPHA")
            ENDHDR

            """
        }
    }

    private static func readRaw(
        _ bytes: [UInt8],
        _ header: PNMHeader,
        _ end: inout Int
    ) throws(RasterError) -> [UInt8] {
        let size = header.width * header.height * header.channels * header.sampleBytes
        guard bytes.count - end >= size else { throw RasterError(.truncated, at: bytes.count) }
        let raster = Array(bytes[end..<(end + size)])
        end += size
        return bigEndian(raster, sampleBytes: header.sampleBytes)
    }

    /// Swaps 16-bit samples between the host's order and that of the file.
    private static func bigEndian(_ samples: [UInt8], sampleBytes: Int) -> [UInt8] {
        guard sampleBytes == 2, UInt16(1).bigEndian != 1 else { return samples }
        var swapped = samples
        for index in stride(from: 0, to: swapped.count, by: 2) { swapped.swapAt(index, index + 1) }
        return swapped
    }

    /// Eight pixels per byte, rows padded to whole bytes.
    private static func readBits(
        _ bytes: [UInt8],
        _ header: PNMHeader,
        _ end: inout Int
    ) throws(RasterError) -> [UInt8] {
        let rowBytes = (header.width + 7) / 8
        let start = end
        guard bytes.count - start >= rowBytes * header.height else {
            throw RasterError(.truncated, at: bytes.count)
        }
        end += rowBytes * header.height
        var samples = [UInt8]()
        samples.reserveCapacity(header.width * header.height)
        for y in 0..<header.height {
            for x in 0..<header.width {
                let isBlack = bytes[start + y * rowBytes + x / 8] >> (7 - x % 8) & 1 == 1
                samples.append(isBlack ? 0 : 255)
            }
        }
        return samples
    }

    private static func readPlain(
        _ bytes: [UInt8],
        _ header: PNMHeader
    ) throws(RasterError) -> [UInt8] {
        let count = header.width * header.height * header.channels
        // Each sample takes a character, so the file's size bounds what is allocated.
        guard count <= bytes.count else { throw RasterError(.truncated, at: bytes.count) }
        var scanner = PNMScanner(bytes, offset: header.byteCount)
        var samples = [UInt8]()
        samples.reserveCapacity(count * header.sampleBytes)
        for _ in 0..<count {
            if header.isBitmap {
                samples.append(try scanner.bit() ? 0 : 255)
            } else if header.sampleBytes == 1 {
                samples.append(UInt8(try scanner.number(upTo: header.maximum)))
            } else {
                let sample = UInt16(try scanner.number(upTo: header.maximum))
                withUnsafeBytes(of: sample) { samples += $0 }
            }
        }
        return samples
    }
}

/// The header of a PNM file.
struct PNMHeader {
    let width: Int
    let height: Int
    let channels: Int
    /// The largest sample value.
    let maximum: Int
    /// Samples are decimal text.
    let isPlain: Bool
    /// PBM.
    let isBitmap: Bool
    let restriction: DecodedImage.Restriction?
    /// Of the header; the samples follow.
    let byteCount: Int

    var sampleBytes: Int { maximum > 255 ? 2 : 1 }

    init(_ bytes: [UInt8]) throws(RasterError) {
        guard PNM.isSignature(Array(bytes.prefix(3))) else {
            throw RasterError(.badSignature, at: 0)
        }
        let kind = Int(bytes[1] - UInt8(ascii: "0"))
        var scanner = PNMScanner(bytes, offset: 2)
        var tupleType: String? = nil
        isPlain = kind <= 3
        isBitmap = kind == 1 || kind == 4
        if kind == 7 {
            let fields = try scanner.tupleHeader()
            (width, height, channels, maximum) =
                (fields.width, fields.height, fields.depth, fields.maximum)
            tupleType = fields.tupleType
        } else {
            width = try scanner.number(upTo: Int(Int32.max))
            height = try scanner.number(upTo: Int(Int32.max))
            maximum = isBitmap ? 255 : try scanner.number(upTo: 65535)
            channels = kind == 3 || kind == 6 ? 3 : 1
            try scanner.endOfHeader()
        }
        byteCount = scanner.offset
        guard width > 0, height > 0, maximum > 0 else {
            throw RasterError(.malformed("PNM size or maximum"), at: 2)
        }
        guard (1...4).contains(channels) else {
            throw RasterError(.unsupported("PAM depth \(channels)"), at: 2)
        }
        restriction =
            if isPlain {
                .plainText
            } else if maximum > 255 {
                .sixteenBit
            } else if channels < 3 {
                .grey
            } else if channels == 4 {
                .alpha
            } else if maximum != 255 {
                .sampleRange
            } else if let tupleType, tupleType != "RGB" {
                .tupleType
            } else {
                nil
            }
    }
}

/// Reads the text parts of PNM files.
private struct PNMScanner {
    private let bytes: [UInt8]
    private(set) var offset: Int

    init(_ bytes: [UInt8], offset: Int) {
        self.bytes = bytes
        self.offset = offset
    }

    /// A decimal number behind white space and comments.
    mutating func number(upTo limit: Int) throws(RasterError) -> Int {
        skipSpace()
        let start = offset
        var value = 0
        while offset < bytes.count, let digit = bytes[offset].decimalDigit {
            value = value * 10 + digit
            guard value <= limit else {
                throw RasterError(.malformed("PNM number: above \(limit)"), at: start)
            }
            offset += 1
        }
        guard offset > start else {
            throw RasterError(
                offset < bytes.count ? .malformed("PNM number") : .truncated,
                at: start
            )
        }
        return value
    }

    /// A digit 0 or 1, white space before it or not.
    mutating func bit() throws(RasterError) -> Bool {
        skipSpace()
        guard offset < bytes.count else { throw RasterError(.truncated, at: offset) }
        guard let digit = bytes[offset].decimalDigit, digit <= 1 else {
            throw RasterError(.malformed("PBM bit"), at: offset)
        }
        offset += 1
        return digit == 1
    }

    /// The one white space character, or comment line, that ends a header.
    mutating func endOfHeader() throws(RasterError) {
        guard offset < bytes.count else { throw RasterError(.truncated, at: offset) }
        if bytes[offset] == UInt8(ascii: "#") { return skipLine() }
        guard bytes[offset].isPNMSpace else {
            throw RasterError(.malformed("PNM header"), at: offset)
        }
        offset += 1
    }

    /// The lines of a PAM header, up to ENDHDR.
    mutating func tupleHeader() throws(RasterError) -> (
        width: Int, height: Int, depth: Int, maximum: Int, tupleType: String?
    ) {
        var fields: [String: String] = [:]
        skipLine()
        while true {
            let start = offset
            skipLine()
            guard offset > start, bytes[offset - 1] == UInt8(ascii: "\n") else {
                throw RasterError(.truncated, at: offset)
            }
            let line = bytes[start..<(offset - 1)]
            if line.first == UInt8(ascii: "#") { continue }
            let words = line.split(whereSeparator: \.isPNMSpace)
            guard let name = words.first.map({ String(decoding: $0, as: UTF8.self) }) else {
                continue
            }
            if name == "ENDHDR" { break }
            let value = words.dropFirst().map { String(decoding: $0, as: UTF8.self) }
                .joined(separator: " ")
            guard
                ["WIDTH", "HEIGHT", "DEPTH", "MAXVAL", "TUPLTYPE"].contains(name),
                fields.updateValue(value, forKey: name) == nil
            else { throw RasterError(.malformed("PAM header: \(name)"), at: start) }
        }
        func field(_ name: String, limit: Int) throws(RasterError) -> Int {
            guard let value = fields[name].flatMap({ Int($0) }), (0...limit).contains(value) else {
                throw RasterError(.malformed("PAM header: \(name)"), at: 3)
            }
            return value
        }
        return (
            try field("WIDTH", limit: Int(Int32.max)), try field("HEIGHT", limit: Int(Int32.max)),
            try field("DEPTH", limit: Int(Int32.max)), try field("MAXVAL", limit: 65535),
            fields["TUPLTYPE"]
        )
    }

    private mutating func skipSpace() {
        while offset < bytes.count {
            if bytes[offset] == UInt8(ascii: "#") {
                skipLine()
            } else if bytes[offset].isPNMSpace {
                offset += 1
            } else {
                return
            }
        }
    }

    private mutating func skipLine() {
        while offset < bytes.count {
            offset += 1
            if bytes[offset - 1] == UInt8(ascii: "\n") { return }
        }
    }
}

extension UInt8 {
    /// Space, tab, line feed, vertical tab, form feed, carriage return.
    fileprivate var isPNMSpace: Bool { self == 0x20 || (0x09...0x0D).contains(self) }

    fileprivate var decimalDigit: Int? {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) ? Int(self - UInt8(ascii: "0")) : nil
    }
}
