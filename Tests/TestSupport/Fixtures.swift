package import Foundation

/// Finds the files under `Tests/Fixtures`.
package enum Fixtures {
    /// Returns the place of a fixture, from its path inside `Tests/Fixtures`.
    package static func url(_ path: String) -> URL {
        URL(filePath: #filePath)
            .deletingLastPathComponent()
            .deletingLastPathComponent()
            .appending(path: "Fixtures")
            .appending(path: path)
    }

    /// Returns the bytes of a fixture, from its path inside `Tests/Fixtures`.
    package static func bytes(_ path: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: url(path)))
    }
}
