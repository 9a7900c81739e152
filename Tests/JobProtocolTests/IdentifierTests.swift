import JobProtocol
import Testing

struct IdentifierTests {
    private let lease = LeaseID(
        shard: ShardID(rawValue: 17),
        fence: Fence(incarnation: 1, counter: 2)
    )

    @Test func aLeaseIsWrittenAndReadAsText() {
        #expect(lease.description == "17.1.2")
        #expect(LeaseID("17.1.2") == lease)
    }

    @Test(arguments: [
        "", "17", "17.1", "17.1.2.3", "17..2", "x.1.2", "0.1.2", "-1.1.2", "17.-1.2",
        "17.1.4294967296", " 17.1.2", "+17.1.2", "017.1.2", "17.1.02",
    ])
    func textThatIsNoLeaseIsRefused(text: String) {
        #expect(LeaseID(text) == nil)
    }

    @Test(arguments: ["a", "Worker_1.example-2", String(repeating: "x", count: 64)])
    func aPlainNameIsAWorker(name: String) {
        #expect(WorkerID(name)?.description == name)
    }

    @Test(arguments: ["", ".", "..", "a b", "a/b", "é", "a\n", String(repeating: "x", count: 65)])
    func aNameThatCouldHurtIsNoWorker(name: String) {
        #expect(WorkerID(name) == nil)
    }

    @Test func aRandomWorkerHas32HexadecimalDigits() {
        var generator = SystemRandomNumberGenerator()
        let worker = WorkerID.random(using: &generator)
        #expect(worker.rawValue.count == 32)
        #expect(worker != WorkerID.random(using: &generator))
    }

    @Test(arguments: ["0", "-1", "+1", "01", "x", "", "1.5", "99999999999999999999"])
    func textThatIsNoJobIsRefused(text: String) {
        #expect(JobID(text) == nil)
    }

    @Test func aHigherIncarnationBeatsAnyCounter() {
        let old = Fence(incarnation: 1, counter: .max)
        let new = Fence(incarnation: 2, counter: 1)
        #expect(old < new)
    }
}
