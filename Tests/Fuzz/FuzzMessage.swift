import JobProtocol

/// Reads JSON as every message; what is accepted comes back from its own JSON.
func fuzzMessage(_ bytes: [UInt8]) {
    checkRoundTrip(SubmitRequest.self, bytes)
    checkRoundTrip(WorkerRegistration.self, bytes)
    checkRoundTrip(Heartbeat.self, bytes)
    checkRoundTrip(LeaseRequest.self, bytes)
    checkRoundTrip(Completion.self, bytes)
    checkRoundTrip(FailureReport.self, bytes)
    checkRoundTrip(ClearRequest.self, bytes)
    checkRoundTrip(ReleaseRequest.self, bytes)
    checkRoundTrip(LeaseReply.self, bytes)
    checkRoundTrip(HeartbeatReply.self, bytes)
    checkRoundTrip(JobStatus.self, bytes)
    checkRoundTrip(EventList.self, bytes)
    checkRoundTrip(WorkerList.self, bytes)
    checkRoundTrip(Diagnosis.self, bytes)
    checkRoundTrip(Problem.self, bytes)
    checkRoundTrip(DatasetManifest.self, bytes)
}

private func checkRoundTrip<Message: Codable & Equatable>(_ type: Message.Type, _ bytes: [UInt8]) {
    guard let message = try? Wire.decode(type, from: bytes) else { return }
    do {
        let again = try Wire.decode(type, from: Wire.encode(message))
        precondition(again == message, "JSON restores a \(type)")
    } catch {
        fatalError("a \(type) that was read is written and read again: \(error)")
    }
}
