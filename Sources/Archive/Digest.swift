import Crypto

/// A SHA-256 digest (FIPS 180-4) of a whole file: a model, a shard.
package struct Digest: Hashable, Sendable {
    package static let byteCount = 32

    /// 32 bytes.
    package let bytes: [UInt8]

    /// The digest of some bytes.
    package init(of bytes: [UInt8]) {
        var hash = SHA256()
        hash.update(data: bytes)
        self.init(hash)
    }

    /// The digest of what a hash has seen so far.
    init(_ hash: SHA256) {
        bytes = Array(hash.finalize())
    }

    /// A digest from its 32 bytes; nil for any other count.
    package init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        self.bytes = Array(bytes)
    }

    /// A digest from 64 hexadecimal digits; nil for any other text.
    package init?(hex: String) {
        let nibbles = hex.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
        guard nibbles.count == 2 * Self.byteCount, hex.utf8.count == nibbles.count else {
            return nil
        }
        bytes = (0..<Self.byteCount).map { UInt8(nibbles[2 * $0] << 4 | nibbles[2 * $0 + 1]) }
    }

    /// 64 lower-case hexadecimal digits.
    package var hex: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(
            decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] },
            as: UTF8.self
        )
    }
}

extension Digest: CustomStringConvertible {
    package var description: String { hex }
}

/// The first 8 bytes of a SHA-256 digest, which a shard holds for each of its samples.
///
/// Against accidents, of which it misses one in 2^64; the whole digest of the shard is for the rest.
package struct SampleDigest: Hashable, Sendable {
    package static let byteCount = 8

    /// 8 bytes.
    package let bytes: [UInt8]

    /// The digest of a file or of an image's samples.
    package init(of bytes: [UInt8]) {
        self.bytes = Array(Digest(of: bytes).bytes.prefix(Self.byteCount))
    }

    /// The digest that bytes begin with; nil if they are too few.
    init?(prefix bytes: some Collection<UInt8>) {
        guard bytes.count >= Self.byteCount else { return nil }
        self.bytes = Array(bytes.prefix(Self.byteCount))
    }
}
