import JobProtocol
import Testing

struct WireTests {
    private func text(_ value: some Encodable) -> String {
        String(decoding: Wire.encode(value), as: UTF8.self)
    }

    private func read<Value: Decodable>(_ type: Value.Type, _ text: String) throws -> Value {
        try Wire.decode(type, from: Array(text.utf8))
    }

    private let lease = Lease(
        lease: LeaseID(shard: ShardID(rawValue: 17), fence: Fence(incarnation: 1, counter: 2)),
        purpose: .probe,
        job: JobID(rawValue: 3),
        ordinal: 4,
        source: "/data/in",
        destination: "/data/out",
        modelID: String(repeating: "a", count: 64),
        samples: [ShardSample(name: "ä/\"b\".png", bytes: 5)],
        verbatim: [0],
        leaseSeconds: 60
    )

    @Test func aLeaseHasThisForm() throws {
        let form =
            #"{"destination":"/data/out","job":3,"lease":"17.1.2","leaseSeconds":60,"modelID":""#
            + String(repeating: "a", count: 64)
            + #"","ordinal":4,"purpose":"probe","samples":[{"bytes":5,"name":"ä/\"b\".png"}],"#
            + #""source":"/data/in","verbatim":[0]}"#
        #expect(text(lease) == form)
        #expect(try read(Lease.self, form) == lease)
    }

    @Test func aDirectiveHasThisForm() {
        let reply = HeartbeatReply(
            directive: .reRegister,
            leases: [LeaseDirective(lease: lease.lease, directive: .cancel)],
            leaseSeconds: 60,
            heartbeatSeconds: 15
        )
        #expect(
            text(reply)
                == #"{"directive":"re_register","heartbeatSeconds":15,"leaseSeconds":60,"#
                + #""leases":[{"directive":"cancel","lease":"17.1.2"}]}"#
        )
    }

    @Test func aProblemHasThisForm() throws {
        let problem = Problem(
            .unavailable,
            "The disk is full.",
            next: "Free it.",
            retryAfterSeconds: 30
        )
        let form =
            #"{"code":"unavailable","detail":"The disk is full.","next":"Free it.","retryAfterSeconds":30,"#
            + #""retryable":true,"status":503,"title":"The coordinator cannot answer now.","#
            + #""type":"/problems/unavailable"}"#
        #expect(text(problem) == form)
        #expect(try read(Problem.self, form) == problem)
    }

    @Test func aCodeOfALaterReleaseIsReadAsOther() throws {
        #expect(
            try read([Problem.Code].self, #"["not_yet_thought_of","fenced"]"#) == [.other, .fenced]
        )
    }

    @Test func unknownKeysAreIgnored() throws {
        let release = try read(
            ReleaseRequest.self,
            #"{"lease":"17.1.2","reason":"drained","later":{"a":[1]}}"#
        )
        #expect(release == ReleaseRequest(lease: lease.lease, reason: "drained"))
    }

    @Test(arguments: [
        (#"{"reason":"x"}"#, "lease"),
        (#"{"lease":"17.1","reason":"x"}"#, "lease"),
        (#"{"lease":"17.1.2","reason":7}"#, "reason"),
        (#"[]"#, ""),
        (#"{"lease""#, ""),
        ("", ""),
    ])
    func anErrorNamesItsPlace(text: String, path: String) {
        #expect {
            try read(ReleaseRequest.self, text)
        } throws: { error in
            (error as? WireError)?.path == path
        }
    }

    @Test func textThatIsNestedTooDeeplyIsRefused() {
        let text = String(repeating: "[", count: 100_000)
        #expect(throws: WireError.self) { try read(ReleaseRequest.self, text) }
    }

    @Test func reasonsAddUpOverShards() {
        var totals = ShardTotals.zero
        totals.storedReasons = ["grey": 2, "jpeg": 1]
        var other = ShardTotals.zero
        other.storedReasons = ["grey": 3, "palette": 1]
        totals += other
        #expect(totals.storedReasons == ["grey": 5, "jpeg": 1, "palette": 1])
    }
}
