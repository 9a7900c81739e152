/// File formats of images that are told apart by their first bytes.
package enum ImageFormat: String, CaseIterable, Sendable {
    case png, pnm, jpeg, webp, gif, bmp, tiff, jxl, avif, heic

    /// How many bytes of a file ``sniff(_:)`` looks at.
    package static let sniffBytes = 16

    /// The format whose signature the bytes start with; nil for anything else.
    package static func sniff(_ bytes: some Collection<UInt8>) -> ImageFormat? {
        let head = Array(bytes.prefix(sniffBytes))
        if head.starts(with: PNG.signature) { return .png }
        if head.starts(with: [0xFF, 0xD8, 0xFF]) { return .jpeg }
        if head.starts(with: "RIFF".utf8), head.dropFirst(8).starts(with: "WEBP".utf8) {
            return .webp
        }
        if head.starts(with: "GIF87a".utf8) || head.starts(with: "GIF89a".utf8) { return .gif }
        // The reserved words of a BMP header are zero; "BM" alone also starts texts.
        if head.starts(with: "BM".utf8), head.count >= 10, head[6..<10].allSatisfy({ $0 == 0 }) {
            return .bmp
        }
        let tiff: [[UInt8]] = [
            [0x49, 0x49, 42, 0], [0x4D, 0x4D, 0, 42], [0x49, 0x49, 43, 0], [0x4D, 0x4D, 0, 43],
        ]
        if tiff.contains(where: head.starts) { return .tiff }
        let jxl: [UInt8] = [0, 0, 0, 12, 0x4A, 0x58, 0x4C, 0x20, 0x0D, 0x0A, 0x87, 0x0A]
        if head.starts(with: jxl) || head.starts(with: [0xFF, 0x0A]) { return .jxl }
        if head.dropFirst(4).starts(with: "ftyp".utf8) {
            let brand = head.dropFirst(8).prefix(4)
            if ["avif", "avis"].contains(where: { brand.elementsEqual($0.utf8) }) { return .avif }
            if ["heic", "heix", "heif", "mif1", "msf1"]
                .contains(where: { brand.elementsEqual($0.utf8) })
            {
                return .heic
            }
        }
        return PNM.isSignature(head) ? .pnm : nil
    }

    /// The format that a file name's ending promises, among those whose files all start with one
    /// signature; nil for other endings.
    package static func promised(byName name: String) -> ImageFormat? {
        guard let dot = name.lastIndex(of: ".") else { return nil }
        return switch name[name.index(after: dot)...].lowercased() {
        case "png", "apng": .png
        case "pnm", "pbm", "pgm", "ppm", "pam": .pnm
        case "jpg", "jpeg": .jpeg
        case "webp": .webp
        case "gif": .gif
        default: nil
        }
    }
}
