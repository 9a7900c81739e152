import Dataset
import Foundation
import Testing

/// A folder that is removed at the end.
final class TemporaryFolder {
    let path: String

    init() throws {
        path =
            FileManager.default.temporaryDirectory
            .appending(path: "flowpack-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }

    func write(_ name: String, _ bytes: [UInt8] = []) throws {
        let file = URL(fileURLWithPath: "\(path)/\(name)")
        try FileManager.default.createDirectory(
            at: file.deletingLastPathComponent(),
            withIntermediateDirectories: true
        )
        try Data(bytes).write(to: file)
    }

    func link(_ name: String, to target: String) throws {
        try FileManager.default.createSymbolicLink(
            atPath: "\(path)/\(name)",
            withDestinationPath: target
        )
    }

    func entries() throws -> [SourceEntry] {
        var scan = SourceFolder(path: path).entries()
        var entries: [SourceEntry] = []
        while let entry = try scan.next() { entries.append(entry) }
        return entries
    }
}

@Suite struct SourceFolderTests {
    @Test func listsDepthFirstInTheOrderOfBytes() throws {
        let folder = try TemporaryFolder()
        for name in [
            "b.png", "a/2.png", "a/10.png", "a/z/1.txt", "Z.png", "a.png", "ä.png", ".hidden",
        ] {
            try folder.write(name, [1, 2, 3])
        }
        try FileManager.default.createDirectory(
            atPath: "\(folder.path)/empty",
            withIntermediateDirectories: false
        )

        let names = [
            ".hidden", "Z.png", "a/10.png", "a/2.png", "a/z/1.txt", "a.png", "b.png", "ä.png",
        ]
        #expect(try folder.entries() == names.map { .sample(name: $0, bytes: 3) })
    }

    @Test func followsLinksToFilesOnly() throws {
        let folder = try TemporaryFolder()
        try folder.write("a/file", [1])
        try folder.link("b", to: "a/file")
        try folder.link("c", to: "a")
        try folder.link("a/up", to: "..")
        try folder.link("d", to: "nowhere")
        try folder.link("e", to: "e")
        #expect(
            try folder.entries() == [
                .sample(name: "a/file", bytes: 1),
                .skipped(name: "a/up", reason: .linkToFolder),
                .sample(name: "b", bytes: 1),
                .skipped(name: "c", reason: .linkToFolder),
                .skipped(name: "d", reason: .brokenLink),
                .skipped(name: "e", reason: .brokenLink),
            ]
        )
    }

    @Test func reportsPipes() throws {
        let folder = try TemporaryFolder()
        #expect(mkfifo("\(folder.path)/pipe", 0o600) == 0)
        #expect(try folder.entries() == [.skipped(name: "pipe", reason: .special)])
        let error = try #require(throws: SourceError.self) {
            try SourceFolder(path: folder.path).read("pipe")
        }
        #expect(error.isPermanent)
    }

    @Test func reportsNamesThatAreNotUTF8() throws {
        let folder = try TemporaryFolder()
        let path = Array("\(folder.path)/x".utf8CString.dropLast()) + [CChar(bitPattern: 0xFF), 0]
        let file = open(path, O_CREAT | O_WRONLY, 0o600)
        #expect(file >= 0)
        close(file)
        #expect(try folder.entries() == [.skipped(name: "x\u{FFFD}", reason: .name)])
    }

    @Test func aFolderThatIsNotThereIsAnErrorWithItsName() {
        var scan = SourceFolder(path: "/nowhere/at/all").entries()
        let error = #expect(throws: SourceError.self) { try scan.next() }
        #expect(error?.path == "/nowhere/at/all")
        #expect(error?.isPermanent == true)
    }

    @Test func readsFilesByName() throws {
        let folder = try TemporaryFolder()
        try folder.write("a/file", [1, 2, 3])
        try folder.write("empty")
        let source = SourceFolder(path: folder.path)
        #expect(try source.read("a/file") == [1, 2, 3])
        #expect(try source.read("empty").isEmpty)
    }

    @Test(arguments: ["", "..", "../x", "a/../../x", "/etc/hostname", "a//file", "a/./file", "a/"])
    func refusesNamesThatLeadOutOfTheFolder(_ name: String) throws {
        let folder = try TemporaryFolder()
        try folder.write("a/file", [1])
        let error = #expect(throws: SourceError.self) {
            try SourceFolder(path: folder.path).read(name)
        }
        #expect(error?.isPermanent == true)
    }
}
