import Coordinator
import Foundation
import Hummingbird
import HummingbirdTesting
import JobProtocol
import TestSupport
import Testing

/// Requests that no client sends: each is taken or refused with a problem, and work goes on.
struct HostileRequestTests {
    private static let requests = 500

    @Test(.timeLimit(.minutes(5)), arguments: [0, 1, 2, 3, 4, 5] as [UInt64])
    func nobodyBringsTheCoordinatorDown(seed: UInt64) async throws {
        try await withTemporaryFolder { folder in
            try write("image", to: "\(folder)/in/a.png")
            try write("model", to: "\(folder)/out/\(DatasetLayout.modelFile(id: digest("d")))")
            let coordinator = try LocalCoordinator(folder: "\(folder)/state", logger: silent)
            try await coordinator.withClient { client in
                var hostility = Hostility(seed: seed, folder: folder)
                var taken: Set<Route> = []
                for round in 0..<Self.requests {
                    if round % 20 == 0 {
                        hostility.lease = try await honestLease(coordinator, round: round)
                    }
                    let request = try hostility.next()
                    if try await isTaken(request, client) { taken.insert(request.route) }
                }
                #expect(taken.isSuperset(of: [.submit, .register, .heartbeat, .lease, .fail]))
                _ = try await honestLease(coordinator, round: Self.requests)
                try await checkEverythingCanBeRead(client)
            }
        }
    }

    /// A new worker finds work in a new job.
    private func honestLease(_ coordinator: LocalCoordinator, round: Int) async throws -> LeaseID {
        let name = "honest-\(round)"
        _ = try await coordinator.queue.makeJob(
            submission(destination: "/out-\(round)", priority: 100),
            shards: 1
        )
        _ = try await coordinator.register(try registration(name))
        let reply = try await coordinator.lease(
            LeaseRequest(worker: try worker(name), shards: 1, waitSeconds: 0)
        )
        return try #require(reply.leases.first).lease
    }

    /// Sends a request and checks the answer; whether it was taken.
    private func isTaken(
        _ request: Hostility.Request,
        _ client: any TestClientProtocol
    ) async throws -> Bool {
        let response = try await client.execute(
            uri: request.path,
            method: request.route.method.request,
            body: ByteBuffer(bytes: request.body)
        )
        let said = Comment(
            "\(request.route.rawValue) \(request.path): \(String(decoding: request.body, as: UTF8.self))"
        )
        #expect(response.status.code < 500 || response.status == .serviceUnavailable, said)
        guard response.status.code >= 400, request.route.method != .head else {
            return response.status == .ok
        }
        let body = Array(response.body.readableBytesView)
        #expect(throws: Never.self, said) { try Wire.decode(Problem.self, from: body) }
        return false
    }

    /// What hostile requests left in the queue can be shown.
    private func checkEverythingCanBeRead(_ client: any TestClientProtocol) async throws {
        func read<Value: Decodable>(_ type: Value.Type, _ path: String) async throws -> Value {
            let response = try await client.execute(uri: path, method: .get)
            #expect(response.status == .ok)
            return try Wire.decode(type, from: Array(response.body.readableBytesView))
        }
        for job in try await read(JobList.self, Route.jobs.path()).jobs {
            _ = try await read(JobStatus.self, Route.job.path(job.job))
            _ = try await read(Diagnosis.self, Route.explain.path(job.job))
            _ = try await read(EventList.self, Route.events.path(job.job))
            _ = try await read(ShardList.self, Route.shards.path(job.job))
        }
        _ = try await read(WorkerList.self, Route.workers.path())
        #expect(try await client.execute(uri: Route.metrics.path(), method: .get).status == .ok)
    }
}

/// Makes requests of every kind with values that are wrong, odd or missing.
private struct Hostility {
    struct Request {
        let route: Route
        let path: String
        let body: [UInt8]
    }

    /// Something to aim at.
    var lease: LeaseID?
    private var random: SeededGenerator
    private let folder: String

    init(seed: UInt64, folder: String) {
        random = SeededGenerator(seed: seed)
        self.folder = folder
    }

    mutating func next() throws -> Request {
        let route = try #require(Route.allCases.randomElement(using: &random))
        var body = Array("{}".utf8)
        var parameter = Self.oddWords.randomElement(using: &random) ?? ""
        if let honest = try honestRequest(route), chance(9, of: 10) {
            body = Wire.encode(honest.body)
            parameter = honest.parameter ?? parameter
        }
        if chance(9, of: 10) {
            let value = try JSONSerialization.jsonObject(with: Data(body))
            let changed = (0..<Int.random(in: 0...2, using: &random)).reduce(value) { value, _ in
                change(value)
            }
            body = [UInt8](
                try JSONSerialization.data(withJSONObject: changed, options: .fragmentsAllowed)
            )
        } else {
            damage(&body)
        }
        let query = chance(1, of: 3) ? "?" + oddQuery() : ""
        return Request(route: route, path: path(route, parameter) + query, body: body)
    }

    /// What an honest worker or user could send; nil where that has no body.
    private func honestRequest(
        _ route: Route
    ) throws -> (parameter: String?, body: any Encodable)? {
        let (name, lease) = (try worker("honest-0"), try #require(lease))
        let text = lease.description
        switch route {
        case .submit:
            let request = SubmitRequest(
                source: "\(folder)/in",
                destination: "\(folder)/out",
                modelID: digest("d")
            )
            return (nil, request)
        case .register:
            return (nil, try registration("honest-0"))
        case .heartbeat:
            let progress = LeaseProgress(lease: lease, samples: 1, sourceBytes: 9, steps: 3)
            return (name.rawValue, Heartbeat(worker: name, leases: [progress]))
        case .selftest:
            let check = SelftestCheck(name: "kernels", isOK: true, detail: "well")
            return (name.rawValue, SelftestReport(worker: name, checks: [check]))
        case .lease:
            return (nil, LeaseRequest(worker: name, shards: 1, waitSeconds: 0))
        case .complete:
            return (text, completion(of: lease))
        case .fail:
            let report = FailureReport(
                lease: lease,
                failureClass: .transient,
                message: "out of memory",
                retryAfterSeconds: 1
            )
            return (text, report)
        case .clear:
            return (text, ClearRequest(lease: lease))
        case .release:
            return (text, ReleaseRequest(lease: lease, reason: "preempted"))
        case .uploadURLs:
            return (text, UploadRequest(lease: lease, sha256: digest("a"), bytes: 5))
        default:
            return nil
        }
    }

    /// Words for paths and queries.
    private static let oddWords = [
        "0", "1", "-1", "9223372036854775807", "9223372036854775808", "1e3", "0x10", "+1", "%00",
        "%2e%2e", "..", "%2F", "%", "%zz", "a%20b", "%F0%9F%92%A5", "honest-0", "1.1.1", "0.0.0",
        "1.2.-3", "99999999999999999999.1.1", String(repeating: "7", count: 3000), digest("a"),
    ]

    /// What takes the place of a value.
    private static var oddValues: [Any] {
        [
            NSNull(), true, 0, -1, 1, 2, Int64.max, Int64.min, Int64(1) << 53, 0.5, 1e300, -1e300,
            1e-300, "", " ", "\u{0}", "..", "/", "/a/../b", "//", "s3://", "s3://b/../c", "1.1.1",
            "honest-0", "ü\u{202e}💥", String(repeating: "a", count: 5000), digest("f"), [Any](),
            [String: Any](), [[[[[[1]]]]]],
        ]
    }

    private mutating func chance(_ part: Int, of whole: Int) -> Bool {
        Int.random(in: 0..<whole, using: &random) < part
    }

    private mutating func oddQuery() -> String {
        let names = [
            Route.afterParameter, Route.stateParameter, Route.fromParameter, Route.leaseParameter,
        ]
        let name = names.randomElement(using: &random) ?? ""
        return "\(name)=\(Self.oddWords.randomElement(using: &random) ?? "")"
    }

    private func path(_ route: Route, _ parameter: String) -> String {
        guard let name = route.parameter else { return route.template }
        return route.template.replacing("{\(name)}", with: parameter)
    }

    /// Changes one value anywhere in a JSON document.
    private mutating func change(_ value: Any) -> Any {
        switch value {
        case var object as [String: Any] where chance(7, of: 8):
            guard let key = object.keys.sorted().randomElement(using: &random) else { break }
            if chance(1, of: 6) {
                object[key] = nil
            } else {
                object[key] = object[key].map { change($0) }
            }
            return object
        case var array as [Any] where chance(7, of: 8):
            guard let index = array.indices.randomElement(using: &random) else { break }
            if chance(1, of: 3) {
                return Array(repeating: array[index], count: 3000)
            }
            array[index] = change(array[index])
            return array
        default:
            break
        }
        return Self.oddValues.randomElement(using: &random) ?? value
    }

    /// Makes a document that is no JSON, or has numbers that no type holds.
    private mutating func damage(_ body: inout [UInt8]) {
        switch Int.random(in: 0..<4, using: &random) {
        case 0:
            body.removeLast(Int.random(in: 0...body.count, using: &random))
        case 1:
            for _ in 0..<4 where !body.isEmpty {
                let index = Int.random(in: body.indices, using: &random)
                body[index] = .random(in: 0...255, using: &random)
            }
        case 2:
            let text = String(decoding: body, as: UTF8.self)
            let number = ["1e999", "-1e999", "99999999999999999999", "NaN", "01"]
                .randomElement(using: &random)
            body = Array(text.replacing(/[0-9]+/, with: number ?? "").utf8)
        default:
            body = Array(repeating: UInt8(ascii: "["), count: 100_000)
        }
    }
}
