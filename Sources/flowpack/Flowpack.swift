import ArgumentParser
import Worker

/// The command line tool.
@main
struct Flowpack: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flowpack",
        abstract: "Compresses image datasets without losing a bit.",
        discussion: """
            Progress goes to stderr, data to stdout. FLOWPACK_ISA forces an instruction set, \
            FLOWPACK_MODELS names a folder of models, FLOWPACK_COORDINATOR and \
            FLOWPACK_TOKEN_FILE stand for --coordinator and --token-file.

            EXIT CODES: 0 ok · 1 error · 2 usage · 3 locked · 4 not found · 5 not allowed · \
            6 coordinator unreachable · 7 finished with problems · 8 integrity failure · \
            9 cancelled · 10 no space · 11 incompatible version · 130 interrupted
            """,
        version: flowpackVersion,
        groupedSubcommands: [
            CommandGroup(
                name: "Datasets",
                subcommands: [
                    Compress.self, Extract.self, Verify.self, Info.self, List.self,
                    Concatenate.self,
                ]
            ),
            CommandGroup(
                name: "Jobs of a coordinator",
                subcommands: [
                    Submit.self, Jobs.self, Status.self, Watch.self, Explain.self, Shards.self,
                    Pause.self, Resume.self, Cancel.self, Retry.self, Workers.self, Drain.self,
                ]
            ),
            CommandGroup(name: "This machine", subcommands: [Selftest.self, Bench.self]),
        ]
    )

    static func main() async {
        do {
            var command = try parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            end(with: error)
        }
    }

    /// Prints what is wrong and what to do, and exits with the documented code.
    private static func end(with error: any Error) -> Never {
        if let failure = CommandFailure(error) {
            Console.error("flowpack: \(failure.message)")
            if let next = failure.next { Console.error("Next: \(next)") }
            failure.status.exit()
        }
        // The parser's own errors: it prints usage, and help and version end with 0.
        guard exitCode(for: error) == .validationFailure else { exit(withError: error) }
        Console.error(fullMessage(for: error))
        ExitStatus.usage.exit()
    }
}
