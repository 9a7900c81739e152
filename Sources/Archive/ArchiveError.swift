package import EntropyCoding
package import Raster

/// Why a shard or dataset cannot be read, and where.
package struct ArchiveError: Error, Equatable, Sendable {
    /// The part at fault.
    package enum Section: Equatable, Sendable {
        case header
        case footer
        case index
        /// The block of this number.
        case block(Int)
        /// The sample of this name.
        case sample(String)
        /// The file of this path in a dataset folder.
        case file(String)
    }

    package enum Reason: Equatable, Sendable {
        /// The bytes end before the section does.
        case truncated
        case badMagic
        case unsupportedVersion(Int)
        /// A bit that this version reserves is set.
        case reservedBits
        /// The CRC32C of the section does not fit its content.
        case checksumMismatch
        /// The SHA-256 of what was read is another one than recorded.
        case digestMismatch
        /// A field breaks the format or contradicts another; the text names it.
        case malformed(String)
        /// The dataset was coded by another model; the id of that one.
        case otherModel(Digest)
        /// The coded pixels of a block cannot be decoded.
        case corruptStream(BitstreamError)
        /// The metadata of a sample cannot be written back.
        case corruptMetadata(RasterError)
        /// The operating system does not give the file; the text is its reason.
        case unreadable(String)
    }

    package let reason: Reason
    package let section: Section
    /// From the start of the file.
    package let byteOffset: Int

    package init(_ reason: Reason, in section: Section, at byteOffset: Int) {
        self.reason = reason
        self.section = section
        self.byteOffset = byteOffset
    }
}

extension ArchiveError: CustomStringConvertible {
    package var description: String {
        let place =
            switch section {
            case .header: "header"
            case .footer: "footer"
            case .index: "index"
            case .block(let number): "block \(number)"
            case .sample(let name): "sample \(name)"
            case .file(let path): path
            }
        let text =
            switch reason {
            case .truncated: "truncated"
            case .badMagic: "not a flowpack file"
            case .unsupportedVersion(let version): "version \(version) is not supported"
            case .reservedBits: "a reserved bit is set"
            case .checksumMismatch: "the checksum does not match"
            case .digestMismatch: "the digest does not match"
            case .malformed(let what): "malformed \(what)"
            case .otherModel(let id): "needs the model \(id)"
            case .corruptStream(let error): "\(error)"
            case .corruptMetadata(let error): "corrupt metadata: \(error)"
            case .unreadable(let message): "cannot be read: \(message)"
            }
        return "\(place): \(text), at byte \(byteOffset)"
    }
}
