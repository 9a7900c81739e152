import ArgumentParser
import Coordinator
import Foundation
import JobProtocol

struct BackUp: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup",
        abstract: "Copies the queue to a file, and tests the copy.",
        discussion: """
            Run it on the coordinator's machine, while the coordinator runs or not: the copy holds \
            what was committed when it began. It is opened, checked whole and counted before it \
            gets its name; a file that exists is not replaced.
            Exit codes: 0 there is a sound copy, 1 error, 2 usage, 8 the queue is damaged.
            """
    )

    @OptionGroup var data: DataOption

    @Option(name: [.short, .customLong("output")], help: "The new file.")
    var output: String

    @Flag(help: "Print the result as JSON.")
    var json = false

    func run() throws {
        try orExit { () throws(StartError) in
            let report = try Backup.make(of: data.folder, at: output)
            show(report, json) { "\(report.path): \(report.text)" }
        }
    }
}

struct Restore: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Puts a backup in the place of the queue.",
        discussion: """
            Stop the coordinator first. What was there is kept beside it. Workers may go on \
            running: what they hold is theirs no more, and shards that were committed after the \
            backup are done again, to the same bytes. Jobs that were submitted after it are \
            unknown: submit them again.
            Exit codes: 0 restored, 1 error, 2 usage, 3 a coordinator runs on the folder, 8 the \
            backup is damaged, 11 a newer release made it.
            """
    )

    @Argument(help: "A file that backup made.", completion: .file())
    var backup: String

    @OptionGroup var data: DataOption

    @Flag(help: "Print the result as JSON.")
    var json = false

    func run() throws {
        try orExit { () throws(StartError) in
            let milliseconds = Int64(Date().timeIntervalSince1970 * 1000)
            let restoration = try Backup.restore(
                backup,
                to: data.folder,
                now: Timestamp(milliseconds: milliseconds)
            )
            show(restoration, json) {
                let queue = "\(restoration.queue.path): \(restoration.queue.text)"
                return restoration.replaced.map { "\(queue)\nbefore: \($0)" } ?? queue
            }
        }
    }
}

extension Backup.Report {
    fileprivate var text: String {
        "\(jobs) jobs, \(committedShards) of \(shards) shards committed, \(bytes) bytes"
    }
}

/// Prints the result of a command.
func show(_ value: some Encodable, _ isJSON: Bool, _ text: () -> String) {
    print(isJSON ? String(decoding: Wire.encode(value), as: UTF8.self) : text())
}

/// Does the work of a command; says what went wrong and exits with the code for it.
private func orExit(_ body: () throws(StartError) -> Void) throws(ExitCode) {
    do throws(StartError) {
        try body()
    } catch {
        FileHandle.standardError.write(Data("flowpack-coordinator: \(error.message)\n".utf8))
        throw error.exitCode
    }
}
