import Foundation
import Glibc
import Testing
import Worker

struct FilesTests {
    @Test(arguments: ["../evil", "/etc/evil", "a/../../evil", "a//b", "", ".", "..", "a/", "a\0b"])
    func noNameLeadsOutOfAnOutputFolder(name: String) throws {
        let parent = try TemporaryFolder()
        let folder = try OutputFolder(path: "\(parent.path)/inside")

        #expect(throws: FileSystemError.self) { try folder.write([1], name: name) }

        #expect(parent.files() == [])
    }

    @Test func linksInAnOutputFolderAreNotFollowed() throws {
        let parent = try TemporaryFolder()
        let folder = try OutputFolder(path: "\(parent.path)/inside")
        try parent.write([7], "outside/file")
        let files = FileManager.default
        try files.createSymbolicLink(
            atPath: "\(parent.path)/inside/link",
            withDestinationPath: "\(parent.path)/outside"
        )
        try files.createSymbolicLink(
            atPath: "\(parent.path)/inside/file",
            withDestinationPath: "\(parent.path)/outside/file"
        )

        // A folder that is a link is refused, a file that is a link is replaced.
        #expect(throws: FileSystemError.self) { try folder.write([1], name: "link/file") }
        try folder.write([1], name: "file")

        #expect(try parent.bytes("outside/file") == [7])
        #expect(try parent.bytes("inside/file") == [1])
    }

    @Test func anOutputFolderMakesFoldersAndReplacesFiles() throws {
        let parent = try TemporaryFolder()
        let folder = try OutputFolder(path: "\(parent.path)/a/b")

        try folder.write([1, 2], name: "c/d/e")
        try folder.write([3], name: "c/d/e")

        #expect(try parent.bytes("a/b/c/d/e") == [3])
        #expect(parent.files() == ["a/b/c/d/e"])
    }

    @Test func aPlacedFileIsNeverReplaced() throws {
        let folder = try TemporaryFolder()

        #expect(try placeFile([1], name: "file", in: folder.path) == .placed)
        #expect(try placeFile([2], name: "file", in: folder.path) == .alreadyThere)

        #expect(try folder.bytes("file") == [1])
        #expect(folder.files() == ["file"])
    }

    @Test func placingIntoAFolderThatIsNotThereSaysSo() throws {
        let folder = try TemporaryFolder()

        let error = #expect(throws: FileSystemError.self) {
            try placeFile([1], name: "file", in: "\(folder.path)/none")
        }

        #expect(error?.isNotFound == true)
        #expect(error?.isNoSpace == false)
    }

    @Test(arguments: [(ENOSPC, true), (EDQUOT, true), (EIO, false)])
    func aFullDeviceOrQuotaIsNoSpace(number: Int32, isNoSpace: Bool) {
        let error = FileSystemError(operation: "write", path: "/file", number: number)
        #expect(error.isNoSpace == isNoSpace)
    }

    @Test func readingHasALimit() throws {
        let folder = try TemporaryFolder()
        try folder.write([1, 2, 3], "file")

        #expect(try readFile("\(folder.path)/file", limitBytes: 3) == [1, 2, 3])
        #expect(throws: FileSystemError.self) {
            _ = try readFile("\(folder.path)/file", limitBytes: 2)
        }
        #expect(throws: FileSystemError.self) { _ = try readFile(folder.path, limitBytes: 2) }
    }
}
