import JobProtocol
import OpenAPI
import Testing
import Yams

/// The document says what the code says.
struct OpenAPITests {
    private let document: Node

    init() throws {
        document = try #require(try Yams.compose(yaml: OpenAPI.document))
    }

    private struct Operation: Hashable {
        let name: String
        let method: String
        let path: String
        let scope: String?
    }

    private func value(_ keys: String...) throws -> Node {
        try keys.reduce(document) { node, key in try #require(node[key], "\(key) is there") }
    }

    @Test func itsOperationsAreTheRoutes() throws {
        let methods: Set = ["get", "head", "post", "put", "delete", "patch", "options", "trace"]
        let paths = try #require(try value("paths").mapping)
        let operations = try paths.flatMap { path, item in
            try #require(item.mapping)
                .filter { methods.contains($0.key.string ?? "") }
                .map { method, operation in
                    Operation(
                        name: try #require(operation["operationId"]?.string),
                        method: try #require(method.string).uppercased(),
                        path: try #require(path.string),
                        scope: operation["x-flowpack-scope"]?.string
                    )
                }
        }
        let routes = Route.allCases.map { route in
            Operation(
                name: route.rawValue,
                method: route.method.rawValue,
                path: route.template,
                scope: route.scope?.rawValue
            )
        }
        #expect(operations.count == routes.count)
        #expect(Set(operations) == Set(routes))
    }

    @Test func operationsWithoutAScopeNeedNoToken() throws {
        for route in Route.allCases {
            let operation = try value("paths", route.template, route.method.rawValue.lowercased())
            let isOpen = operation["security"]?.sequence?.isEmpty ?? false
            #expect(isOpen == (route.scope == nil), "\(route.rawValue)")
        }
    }

    @Test func itsVersionIsTheProtocols() throws {
        #expect(try value("info", "version").string == String(Limits.protocolVersion))
    }

    @Test func itsEnumerationsAreTheCodes() throws {
        func values(_ schema: String) throws -> [String] {
            try value("components", "schemas", schema, "enum").sequence?.compactMap(\.string) ?? []
        }
        #expect(try values("JobState") == JobState.allCases.map(\.rawValue))
        #expect(try values("ShardState") == ShardState.allCases.map(\.rawValue))
        #expect(try values("WorkerState") == WorkerState.allCases.map(\.rawValue))
        #expect(try values("Directive") == Directive.allCases.map(\.rawValue))
        #expect(try values("FailureClass") == FailureClass.allCases.map(\.rawValue))
        let codes = Problem.Code.allCases.filter { $0 != .other }.map(\.rawValue)
        #expect(try values("Problem.Code") == codes)
    }
}
