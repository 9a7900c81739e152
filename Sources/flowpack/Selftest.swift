import Archive
import ArgumentParser
import Codec
import CoordinatorClient
import Foundation
import Kernels
import Raster
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

    private struct Check: Encodable {
        let name: String
        let isOK: Bool
        let detail: String
        /// What to do when it is not well.
        let next: String?

        enum CodingKeys: String, CodingKey {
            case name, detail, next
            case isOK = "ok"
        }
    }

    func run() async throws {
        let kernels = checkKernels()
        let codecs = checkCodecs()
        let checks = [checkSelection()] + kernels + codecs + checkSurroundings()
        if json {
            Console.print(json: checks)
        } else {
            Console.table(checks.map { [$0.isOK ? "ok" : "FAIL", $0.name, $0.detail] })
            for check in checks where !check.isOK {
                if let next = check.next { Console.error("Next (\(check.name)): \(next)") }
            }
        }
        if (kernels + codecs).contains(where: { !$0.isOK }) {
            throw ExitStatus.integrityFailure.code
        }
        if checks.contains(where: { !$0.isOK }) { throw ExitStatus.error.code }
    }

    private func checkSelection() -> Check {
        let names = InstructionSet.supported.map(\.rawValue).joined(separator: ", ")
        do {
            let selected = try InstructionSet.selected(
                environment: ProcessInfo.processInfo.environment
            )
            return Check(
                name: "instruction sets",
                isOK: true,
                detail:
                    "\(names); using \(selected.rawValue), checking with \(selected.verifier.rawValue)",
                next: nil
            )
        } catch {
            return Check(
                name: "instruction sets",
                isOK: false,
                detail: "\(error)",
                next: "unset FLOWPACK_ISA, or set it to one of \(names)"
            )
        }
    }

    private func checkKernels() -> [Check] {
        InstructionSet.supported.map { isa in
            let digest = KernelProbe.digest(isa)
            let isOK = digest == KernelProbe.golden
            return Check(
                name: "kernels \(isa.rawValue)",
                isOK: isOK,
                detail: isOK
                    ? "the golden numbers, \(digest.prefix(16))"
                    : "\(digest) instead of \(KernelProbe.golden)",
                next: isOK
                    ? nil
                    : "do not compress on this machine; force another set with FLOWPACK_ISA, and report this"
            )
        }
    }

    /// The same image through every installed model on every instruction set.
    private func checkCodecs() -> [Check] {
        let image = KernelProbe.image
        return ModelStore.profiles().map { profile in
            let name = "model \(profile)"
            do {
                let path = try ModelStore.path(ofModel: profile)
                let bytes = try ModelStore.read(path)
                var payloads: Set<[UInt8]> = []
                var id = ""
                for isa in InstructionSet.supported {
                    let model = try ModelStore(instructionSet: isa).load(bytes, path: path)
                    id = model.id
                    let payload = model.codec.analyse([image]).encode { _ in true }
                    payloads.insert(payload)
                    let decoded = try model.verifier.decode(
                        payload,
                        count: 1,
                        width: image.width,
                        height: image.height
                    )
                    guard decoded == [image], payloads.count == 1 else {
                        return Check(
                            name: name,
                            isOK: false,
                            detail: "\(isa.rawValue) differs",
                            next: "do not compress on this machine, and report this"
                        )
                    }
                }
                return Check(
                    name: name,
                    isOK: true,
                    detail:
                        "\(byteCount(bytes.count)), \(id.prefix(16)), the same bytes on every set",
                    next: nil
                )
            } catch {
                return Check(
                    name: name,
                    isOK: false,
                    detail: CommandFailure(error)?.message ?? "\(error)",
                    next: "replace the model file"
                )
            }
        }
    }

    private func checkSurroundings() -> [Check] {
        var checks: [Check] = []
        if ModelStore.profiles().isEmpty {
            checks.append(
                Check(
                    name: "models",
                    isOK: false,
                    detail: "none is installed",
                    next: "set \(ModelStore.folderVariable) to a folder of .safetensors files"
                )
            )
        }
        checks.append(
            Check(name: "libcurl", isOK: true, detail: HTTPConnection.libraryVersion, next: nil)
        )
        let cores = ProcessInfo.processInfo.activeProcessorCount
        let memory = Int(ProcessInfo.processInfo.physicalMemory)
        checks.append(
            Check(
                name: "machine",
                isOK: true,
                detail: "\(cores) cores, \(byteCount(memory)) memory",
                next: nil
            )
        )
        return checks
    }
}
