/// A 32-bit cyclic redundancy check: reflected, initial value and final exclusive-or all ones.
///
/// Table-driven, four bytes per step (Kounavis and Berry, "Novel table lookup-based algorithms for
/// high-performance CRC generation", 2008).
package struct CRC32: Sendable {
    /// CRC-32 of PNG, zip and Ethernet: polynomial 0x04C11DB7.
    package static let ieee = CRC32(reflectedPolynomial: 0xEDB8_8320)
    /// CRC32C of iSCSI and ext4: polynomial 0x1EDC6F41.
    package static let castagnoli = CRC32(reflectedPolynomial: 0x82F6_3B78)

    /// `tables[256·k + b]`: the check of byte b with k zero bytes behind it.
    private let tables: [UInt32]

    private init(reflectedPolynomial polynomial: UInt32) {
        var tables = [UInt32](repeating: 0, count: 4 * 256)
        for byte in 0..<256 {
            var value = UInt32(byte)
            for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ polynomial : value >> 1 }
            tables[byte] = value
        }
        for index in 256..<4 * 256 {
            let previous = tables[index - 256]
            tables[index] = previous >> 8 ^ tables[Int(previous & 0xFF)]
        }
        self.tables = tables
    }

    /// The checksum of bytes.
    package func checksum(_ bytes: some Collection<UInt8>) -> UInt32 {
        bytes.withContiguousStorageIfAvailable { checksum(of: UnsafeRawBufferPointer($0)) }
            ?? Array(bytes).withUnsafeBytes { checksum(of: $0) }
    }

    private func checksum(of bytes: UnsafeRawBufferPointer) -> UInt32 {
        tables.withUnsafeBufferPointer { tables in
            var value = UInt32.max
            var index = 0
            while index + 4 <= bytes.count {
                let word = bytes.loadUnaligned(fromByteOffset: index, as: UInt32.self)
                value ^= UInt32(littleEndian: word)
                value =
                    tables[768 + Int(value & 0xFF)]
                    ^ tables[512 + Int(value >> 8 & 0xFF)]
                    ^ tables[256 + Int(value >> 16 & 0xFF)]
                    ^ tables[Int(value >> 24)]
                index += 4
            }
            while index < bytes.count {
                value = value >> 8 ^ tables[Int((value ^ UInt32(bytes[index])) & 0xFF)]
                index += 1
            }
            return ~value
        }
    }
}
