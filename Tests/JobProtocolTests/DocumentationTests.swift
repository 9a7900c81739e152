import Foundation
import JobProtocol
import Testing

/// The pages in JobProtocol.docc say what the code says.
struct DocumentationTests {
    private func page(_ name: String) throws -> [String] {
        let url = URL(filePath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Sources/JobProtocol/JobProtocol.docc/\(name).md")
        return try String(contentsOf: url, encoding: .utf8).components(separatedBy: "\n")
    }

    /// Reads the block that begins with ```` ```states name ````: each state with its successors.
    private func diagram(_ name: String) throws -> [String: Set<String>] {
        let lines = try page("JobLifecycle").drop { $0 != "```states \(name)" }.dropFirst()
            .prefix { $0 != "```" }
        return lines.reduce(into: [:]) { diagram, line in
            let sides = line.components(separatedBy: "→").map {
                $0.trimmingCharacters(in: .whitespaces)
            }
            let successors = sides.count < 2 ? [] : sides[1].components(separatedBy: ", ")
            diagram[sides[0]] = Set(successors)
        }
    }

    private func machine<State: LifecycleState>(_ type: State.Type) -> [String: Set<String>] {
        State.allCases.reduce(into: [:]) { machine, state in
            machine[state.rawValue] = Set(state.successors.map(\.rawValue))
        }
    }

    @Test func theDiagramsAreTheEnumerations() throws {
        #expect(try diagram("job") == machine(JobState.self))
        #expect(try diagram("shard") == machine(ShardState.self))
        #expect(try diagram("attempt") == machine(AttemptState.self))
        #expect(try diagram("worker") == machine(WorkerState.self))
    }

    @Test func theTableOfRoutesIsTheListOfRoutes() throws {
        let routes = Route.allCases.map { route in
            "| \(route.rawValue) | \(route.method.rawValue) \(route.template) "
                + "| \(route.scope?.rawValue ?? "none") |"
        }
        let lines = try page("HTTPAPI")
        let table = lines.drop { !$0.hasPrefix("| route |") }.dropFirst(2)
            .prefix { $0.hasPrefix("|") }
        #expect(table.count == routes.count)
        for (line, route) in zip(table, routes) {
            #expect(line.hasPrefix(route))
        }
    }

    @Test func theTableOfProblemsIsTheListOfCodes() throws {
        let codes = Problem.Code.allCases.filter { $0 != .other }.map { code in
            "| \(code.rawValue) | \(code.status) | \(code.title) |"
        }
        let lines = try page("HTTPAPI")
        let table = lines.drop { !$0.hasPrefix("| code |") }.dropFirst(2)
            .prefix { $0.hasPrefix("|") }
        #expect(Array(table) == codes)
    }
}
