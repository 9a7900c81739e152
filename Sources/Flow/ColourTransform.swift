/// The reversible map between a pixel's samples and its three latents.
package enum ColourTransform: String, Sendable {
    /// YCoCg-R, the lifting form of luma and two chroma differences; 8-bit samples give 9-bit chroma.
    ///
    /// Source: Malvar and Sullivan, "YCoCg-R: A Color Space with RGB Reversibility and Low Dynamic
    /// Range", JVT-I014r3, 2003.
    case ycocgR = "ycocg-r"
    /// Samples minus 128.
    case none = "none"

    /// Returns the latents of a pixel.
    ///
    /// - Parameters: red, green and blue samples, 0…255.
    @inline(__always)
    func forward(_ red: UInt8, _ green: UInt8, _ blue: UInt8) -> (Int16, Int16, Int16) {
        let (r, g, b) = (Int16(red), Int16(green), Int16(blue))
        switch self {
        case .ycocgR:
            let orange = r &- b
            let temporary = b &+ (orange >> 1)
            let green = g &- temporary
            return (temporary &+ (green >> 1) &- 128, orange, green)
        case .none:
            return (r &- 128, g &- 128, b &- 128)
        }
    }

    /// Returns the pixel of three latents, the mirror of `forward`.
    ///
    /// Latents that no pixel has (from a damaged block) give the low 8 bits of the result.
    @inline(__always)
    func inverse(_ first: Int16, _ second: Int16, _ third: Int16) -> (UInt8, UInt8, UInt8) {
        switch self {
        case .ycocgR:
            let temporary = first &+ 128 &- (third >> 1)
            let green = third &+ temporary
            let blue = temporary &- (second >> 1)
            let red = blue &+ second
            return (
                UInt8(truncatingIfNeeded: red), UInt8(truncatingIfNeeded: green),
                UInt8(truncatingIfNeeded: blue)
            )
        case .none:
            return (
                UInt8(truncatingIfNeeded: first &+ 128), UInt8(truncatingIfNeeded: second &+ 128),
                UInt8(truncatingIfNeeded: third &+ 128)
            )
        }
    }
}
