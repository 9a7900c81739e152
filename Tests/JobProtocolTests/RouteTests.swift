import JobProtocol
import Testing

struct RouteTests {
    @Test func noTwoRoutesAreTheSame() {
        let requests = Route.allCases.map { "\($0.method.rawValue) \($0.template)" }
        #expect(Set(requests).count == requests.count)
    }

    @Test func aPathTakesItsParameter() {
        #expect(Route.jobs.path() == "/v1/jobs")
        #expect(Route.job.path(JobID(rawValue: 7)) == "/v1/jobs/7")
        #expect(Route.complete.path(LeaseID("17.1.2")) == "/v1/leases/17.1.2/complete")
        #expect(Route.complete.parameter == "lease")
        #expect(Route.jobs.parameter == nil)
    }

    @Test func aRouteMatchesItsPaths() {
        #expect(Route.jobs.matches("/v1/jobs"))
        #expect(Route.jobs.matches("/v1/jobs/"))
        #expect(Route.complete.matches("/v1/leases/17.1.2/complete"))
        #expect(!Route.complete.matches("/v1/leases//complete"))
        #expect(!Route.complete.matches("/v1/leases/17.1.2/fail"))
        #expect(!Route.jobs.matches("/v1/jobs/7"))
    }

    @Test(arguments: [
        (TokenScope.read, [TokenScope.read]),
        (.submit, [.read, .submit]),
        (.worker, [.worker]),
        (.admin, [.read, .submit, .worker, .admin]),
    ])
    func aScopeOpensThese(scope: TokenScope, opened: [TokenScope]) {
        #expect(TokenScope.allCases.filter { scope.allows($0) } == opened)
    }

    @Test func nothingChangesWithoutAToken() {
        let open = Route.allCases.filter { $0.scope == nil }
        #expect(open == [.health, .readiness, .version, .openapi])
        let readable = Route.allCases.filter { $0.scope == .read }
        #expect(readable.allSatisfy { $0.method == .get })
    }

    @Test func placesInADatasetHaveTheseNames() {
        let digest = String(repeating: "0123456789abcdef", count: 4)
        #expect(DatasetLayout.modelFile(id: digest) == "model-0123456789abcdef.safetensors")
        #expect(DatasetLayout.shardFile(ordinal: 7, sha256: digest) == "shards/00007-\(digest).fpk")
        #expect(
            DatasetLayout.shardFile(ordinal: 123_456, sha256: digest)
                == "shards/123456-\(digest).fpk"
        )
    }
}
