import Foundation
import Testing

/// A built program of this package.
struct Program {
    struct Ending {
        /// The exit status; -1 when a signal ended it.
        let status: Int32
        /// The signal that ended it; nil when it ended by itself.
        let signal: Int32?
        let output: [UInt8]
        let errors: String

        var text: String { String(decoding: output, as: UTF8.self) }
    }

    let url: URL

    /// Finds the executable of this name beside the test bundle.
    init(_ name: String) throws {
        let tests = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
        url = tests.deletingLastPathComponent().appending(path: name)
        try #require(
            FileManager.default.isExecutableFile(atPath: url.path),
            "\(url.path) is built"
        )
    }

    /// Starts the program; its output goes to files in `folder`, so that no pipe can fill up.
    func start(
        _ arguments: [String],
        environment: [String: String] = [:],
        output: URL,
        errors: URL
    ) throws -> Process {
        let process = Process()
        process.executableURL = url
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment
            .filter { !$0.key.hasPrefix("FLOWPACK_") }
            .merging(environment) { $1 }
        for file in [output, errors] {
            _ = FileManager.default.createFile(atPath: file.path, contents: nil)
        }
        process.standardOutput = try FileHandle(forWritingTo: output)
        process.standardError = try FileHandle(forWritingTo: errors)
        process.standardInput = FileHandle.nullDevice
        try process.run()
        return process
    }

    /// Runs the program to its end.
    func run(_ arguments: String..., environment: [String: String] = [:]) throws -> Ending {
        try run(arguments, environment: environment)
    }

    /// Runs the program to its end.
    func run(_ arguments: [String], environment: [String: String] = [:]) throws -> Ending {
        let folder = try Folder()
        let (output, errors) = (folder.url("output"), folder.url("errors"))
        let process = try start(
            arguments,
            environment: environment,
            output: output,
            errors: errors
        )
        process.waitUntilExit()
        let isExit = process.terminationReason == .exit
        return Ending(
            status: isExit ? process.terminationStatus : -1,
            signal: isExit ? nil : process.terminationStatus,
            output: [UInt8](try Data(contentsOf: output)),
            errors: String(decoding: try Data(contentsOf: errors), as: UTF8.self)
        )
    }
}

/// A folder that goes when the test ends.
final class Folder {
    let path: String

    init() throws {
        path =
            FileManager.default.temporaryDirectory.resolvingSymlinksInPath()
            .appending(path: "flowpack-command-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }

    func url(_ name: String) -> URL { URL(filePath: "\(path)/\(name)") }

    func write(_ bytes: some Sequence<UInt8>, _ name: String) throws {
        try FileManager.default.createDirectory(
            at: url(name).deletingLastPathComponent(),
            withIntermediateDirectories: true
        )
        try Data(bytes).write(to: url(name))
    }

    func bytes(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: url(name))) }

    /// Names of all files below, sorted.
    func files(_ name: String = "") throws -> [String] {
        let root = url(name).path
        let found = FileManager.default.enumerator(atPath: root)?.compactMap { $0 as? String } ?? []
        return found.filter { file in
            var isFolder: ObjCBool = false
            return FileManager.default.fileExists(
                atPath: "\(root)/\(file)",
                isDirectory: &isFolder
            ) && !isFolder.boolValue
        }.sorted()
    }
}
