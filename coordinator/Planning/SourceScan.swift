import Foundation
package import JobProtocol

/// A source folder cannot be read.
package struct SourceError: Error, Equatable {
    package let path: String
    package let reason: String
}

/// The files of a folder, one after the other, in the order of the dataset.
///
/// Depth first; the entries of each folder, files and folders alike, sorted by the bytes of their
/// names. Regular files and symbolic links to regular files are samples. Links to folders are not
/// followed (they may form rings); they, sockets, pipes and devices, and names that are not UTF-8
/// are reported as skipped, so that nothing is left out in silence.
///
/// Only one folder per level of depth is held in memory.
package struct SourceScan: Sendable {
    /// What the scan meets.
    package enum Entry: Equatable, Sendable {
        case sample(ShardSample)
        case skipped(SampleProblem)
    }

    private struct Folder: Sendable {
        /// Path relative to the root, with "/" at the end; empty for the root.
        let prefix: String
        let listing: SourceTree.Listing
        /// The next name.
        var index = 0
    }

    private let tree: SourceTree
    private var folders: [Folder] = []

    /// - Parameters:
    ///   - tree: The source.
    ///   - last: Name of the sample after which the scan goes on; nil for the start. It need not
    ///     exist any more.
    /// - Throws: `SourceError` when the folder, or a folder on the way to `last`, cannot be read.
    package init(_ tree: SourceTree, after last: String? = nil) throws(SourceError) {
        self.tree = tree
        try enter("")
        guard let last else { return }
        let components = last.utf8.split(separator: UInt8(ascii: "/")).map(Array.init)
        for (depth, component) in components.enumerated() {
            let names = folders[depth].listing.names
            let isLast = depth + 1 == components.count
            let next = names.firstIndex { !$0.lexicographicallyPrecedes(component) }
            folders[depth].index = next ?? names.count
            guard let next, names[next] == component else { return }
            folders[depth].index += 1
            guard !isLast else { return }
            let name = folders[depth].prefix + String(decoding: component, as: UTF8.self)
            guard try status(name, folders[depth], next) == .folder else { return }
            try enter(name + "/")
        }
    }

    /// Returns the next entry; nil at the end.
    ///
    /// - Throws: `SourceError` when a folder cannot be read or an entry not be looked at: what it
    ///   holds would be missing.
    package mutating func next() throws(SourceError) -> Entry? {
        while let folder = folders.last {
            guard folder.index < folder.listing.names.count else {
                folders.removeLast()
                continue
            }
            folders[folders.count - 1].index += 1
            let bytes = folder.listing.names[folder.index]
            guard let text = String(validating: bytes, as: UTF8.self) else {
                let readable = String(decoding: bytes, as: UTF8.self)
                return skipped(folder.prefix + readable, "Its name is not UTF-8.")
            }
            let name = folder.prefix + text
            switch try status(name, folder, folder.index) {
            case .file(let bytes):
                return .sample(ShardSample(name: name, bytes: bytes))
            case .folder:
                try enter(name + "/")
            case .linkToFolder:
                return skipped(name, "It is a symbolic link to a folder.")
            case .special:
                return skipped(name, "It is neither a file nor a folder.")
            case .missing:
                return skipped(name, "It vanished, or is a symbolic link that leads nowhere.")
            case .unnamable:
                return skipped(name, "No file can have this name beside the others.")
            }
        }
        return nil
    }

    private func skipped(_ name: String, _ reason: String) -> Entry {
        .skipped(SampleProblem(name: name, reason: reason))
    }

    private mutating func enter(_ prefix: String) throws(SourceError) {
        folders.append(Folder(prefix: prefix, listing: try tree.list(prefix)))
    }

    private func status(
        _ name: String,
        _ folder: Folder,
        _ index: Int
    ) throws(SourceError) -> SourceTree.Status {
        if let statuses = folder.listing.statuses { return statuses[index] }
        return try tree.status(of: name)
    }
}
