import ArgumentParser
import Coordinator
import Foundation
import JobProtocol

struct Selftest: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Checks what a coordinator stands on: folder, database, disk, tokens, limits.",
        discussion: """
            It changes nothing, and may be run beside a coordinator. The whole database is read: a \
            queue of a million shards takes some seconds.
            Exit codes: 0 all is well, 1 something is not, 2 usage, 8 the queue is damaged, 11 a \
            newer release made it.
            """
    )

    @OptionGroup var data: DataOption

    @Option(help: "The coordinator's token file. (default: FLOWPACK_TOKEN_FILE)")
    var tokenFile: String?

    @Flag(help: "Print the result as JSON.")
    var json = false

    func run() throws {
        let environment = ProcessInfo.processInfo.environment
        let (checks, damage) = CoordinatorSelftest(
            folder: data.folder,
            tokenFile: tokenFile ?? environment["FLOWPACK_TOKEN_FILE"]
        ).run()
        show(checks, json) {
            checks.map { check in
                let line = "\(check.isOK ? "ok  " : "FAIL") \(check.name): \(check.detail)"
                return check.next.map { "\(line)\n     Next: \($0)" } ?? line
            }.joined(separator: "\n")
        }
        if let damage { throw damage.exitCode }
        if checks.contains(where: { !$0.isOK }) { throw ExitCode(1) }
    }
}
