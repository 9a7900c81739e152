import ArgumentParser
import Kernels
import Worker

struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures this machine.",
        subcommands: [BenchKernels.self, BenchCodec.self, BenchQueue.self]
    )
}

/// What a benchmark prints as JSON.
struct BenchReport<Row: Encodable>: Encodable {
    let rows: [Row]
}

/// Values of an option with commas between them, such as `1,2,4`; at least one.
struct CommaSeparated<Element: ExpressibleByArgument>: ExpressibleByArgument {
    let elements: [Element]

    init(_ elements: [Element]) {
        self.elements = elements
    }

    init?(argument: String) {
        let words = argument.split(separator: ",", omittingEmptySubsequences: false)
        elements = words.compactMap { Element(argument: String($0)) }
        guard elements.count == words.count else { return nil }
    }

    static var allValueStrings: [String] { Element.allValueStrings }

    var defaultValueDescription: String {
        elements.map(\.defaultValueDescription).joined(separator: ",")
    }
}

extension InstructionSet: ExpressibleByArgument {}

/// `--isa`.
struct InstructionSetOptions: ParsableArguments {
    @Option(help: "Instruction sets, with commas between them (default: see above).")
    var isa: CommaSeparated<InstructionSet>?

    func validate() throws {
        if let other = isa?.elements.first(where: { !InstructionSet.supported.contains($0) }) {
            throw ValidationError("This processor has no \(other.rawValue).")
        }
    }
}

/// `--seconds` and `--json`.
struct BenchOptions: ParsableArguments {
    @Option(help: "Seconds for each measurement.")
    var seconds = 0.2

    @Flag(help: "Print the result as JSON.")
    var json = false

    func validate() throws {
        guard seconds > 0, seconds <= 60 else {
            throw ValidationError("--seconds takes more than 0, at most 60.")
        }
    }
}

/// A share of the core's peak, 1 being all of it.
struct ShareOfPeak: Encodable {
    /// nil, `null` in JSON, where nothing is compared with the peak.
    let value: Double?

    /// The share for a table.
    var text: String { value.map { "\(decimals($0 * 100, 1)) %" } ?? "-" }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(value)
    }
}
