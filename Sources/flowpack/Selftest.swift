import ArgumentParser
import CoordinatorClient
import Foundation
import HTTPTransport
import JobProtocol
import Kernels
import Worker

struct Selftest: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Checks this machine's kernels and what flowpack needs here.",
        discussion: """
            Every instruction set must give the golden result of a small network, and the same \
            bytes for a small image.

            EXIT CODES: 0 all well · 1 something is missing · 8 a kernel gives other numbers
            """
    )

    @Flag(help: "Print the result as JSON.")
    var json = false

    func run() async throws {
        let calculations = KernelSelftest.checks()
        let checks = [checkSelection()] + calculations + checkSurroundings()
        if json {
            Console.print(json: checks)
        } else {
            Console.table(checks.map { [$0.isOK ? "ok" : "FAIL", $0.name, $0.detail] })
            for check in checks where !check.isOK {
                if let next = check.next { Console.error("Next (\(check.name)): \(next)") }
            }
        }
        if calculations.contains(where: { !$0.isOK }) {
            throw ExitStatus.integrityFailure.code
        }
        if checks.contains(where: { !$0.isOK }) { throw ExitStatus.error.code }
    }

    private func checkSelection() -> SelftestCheck {
        let names = InstructionSet.supported.map(\.rawValue).joined(separator: ", ")
        do {
            let selected = try InstructionSet.selected(
                environment: ProcessInfo.processInfo.environment
            )
            return SelftestCheck(
                name: "instruction sets",
                isOK: true,
                detail:
                    "\(names); using \(selected.rawValue), checking with \(selected.verifier.rawValue)"
            )
        } catch {
            return SelftestCheck(
                name: "instruction sets",
                isOK: false,
                detail: "\(error)",
                next: "unset FLOWPACK_ISA, or set it to one of \(names)"
            )
        }
    }

    private func checkSurroundings() -> [SelftestCheck] {
        var checks: [SelftestCheck] = []
        if ModelStore.profiles().isEmpty {
            checks.append(
                SelftestCheck(
                    name: "models",
                    isOK: false,
                    detail: "none is installed",
                    next: "set \(ModelStore.folderVariable) to a folder of .safetensors files"
                )
            )
        }
        checks.append(
            SelftestCheck(name: "libcurl", isOK: true, detail: HTTPConnection.libraryVersion)
        )
        let cores = ProcessInfo.processInfo.activeProcessorCount
        let memory = Int(ProcessInfo.processInfo.physicalMemory)
        checks.append(
            SelftestCheck(
                name: "machine",
                isOK: true,
                detail: "\(cores) cores, \(byteCount(memory)) memory"
            )
        )
        return checks
    }
}
