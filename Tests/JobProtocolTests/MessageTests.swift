import JobProtocol
import TestSupport
import Testing

/// `Fixtures/messages`: a body of every kind, from which the fuzzer starts.
struct MessageTests {
    private func check<Message: Codable & Equatable>(_ type: Message.Type, _ name: String) throws {
        let message = try Wire.decode(type, from: Fixtures.bytes("messages/\(name).json"))
        #expect(try Wire.decode(type, from: Wire.encode(message)) == message)
    }

    @Test func everyFixtureIsAMessage() throws {
        try check(Completion.self, "completion")
        try check(Diagnosis.self, "diagnosis")
        try check(EventList.self, "events")
        try check(FailureReport.self, "failure")
        try check(Heartbeat.self, "heartbeat")
        try check(HeartbeatReply.self, "heartbeat-reply")
        try check(JobStatus.self, "job-status")
        try check(LeaseReply.self, "lease-reply")
        try check(LeaseRequest.self, "lease-request")
        try check(Problem.self, "problem")
        try check(WorkerRegistration.self, "registration")
        try check(ReleaseRequest.self, "release")
        try check(SubmitRequest.self, "submit")
        try check(WorkerList.self, "workers")
    }
}
