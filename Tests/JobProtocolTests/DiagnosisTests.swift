import JobProtocol
import Testing

struct DiagnosisTests {
    private func job(
        _ state: JobState,
        id: Int64 = 7,
        priority: Int = 0,
        maxWorkers: Int? = nil,
        pauseReason: String? = nil,
        shards: [ShardState: Int] = [:]
    ) -> JobStatus {
        let count = shards.values.reduce(0, +)
        return JobStatus(
            job: JobID(rawValue: id),
            state: state,
            source: "/in",
            destination: "/out",
            modelID: "",
            priority: priority,
            maxWorkers: maxWorkers,
            workers: shards[.leased] ?? 0,
            failure: state == .failed ? "The disk burned." : nil,
            pauseReason: pauseReason,
            isScanFinished: true,
            total: Tally(shards: count, samples: count, sourceBytes: 1, outputBytes: 0),
            committed: .zero,
            inFlight: .zero,
            shards: shards.reduce(into: [:]) { $0[$1.key.rawValue] = $1.value },
            failedAttempts: 0,
            stuckAttempts: 0,
            problems: 2,
            createdMilliseconds: 0,
            startedMilliseconds: nil,
            finishedMilliseconds: nil,
            sourceBytesPerSecond: nil,
            remainingSeconds: nil,
            datasetDigest: nil
        )
    }

    private func worker(_ state: WorkerState, silentSeconds: Double = 1) throws -> WorkerStatus {
        WorkerStatus(
            worker: try #require(WorkerID("w")),
            state: state,
            suspicion: state == .suspect ? "It made other bytes." : nil,
            version: "9",
            host: "oak",
            device: "cpu",
            instructionSet: "avx2",
            slots: 1,
            leases: 3,
            completed: 0,
            failed: 0,
            sourceBytesPerSecond: 0,
            silentSeconds: silentSeconds
        )
    }

    private func findings(
        _ job: JobStatus,
        beside others: [JobStatus] = [],
        _ workers: [WorkerStatus] = [],
        _ troubles: [JobEvent] = []
    ) -> [Diagnosis.Finding] {
        Diagnosis(job: job, others: others, workers: workers, troubles: troubles).findings
    }

    @Test func aJobWithoutWorkersNeedsOne() {
        let found = findings(job(.queued, shards: [.pending: 2]))
        #expect(
            found == [
                .init(
                    "No worker asks for work.",
                    next: "start flowpack-worker on some machine"
                ), .init("2 shards wait for a worker."),
            ]
        )
    }

    @Test func aMovingJobNeedsNothing() throws {
        let found = findings(job(.running, shards: [.leased: 2]), [try worker(.active)])
        #expect(found == [.init("2 shards are in work, 0 of their samples are done.")])
    }

    @Test func aSilentWorkerIsNamedBeforeItsLeaseRunsOut() throws {
        let silent = try worker(.active, silentSeconds: 31)
        let found = findings(job(.running, shards: [.leased: 3]), [silent])
        #expect(found[0].text.hasPrefix("Worker w on oak is silent for 31 s; after 60 s its 3"))
        #expect(found[0].next != nil)
    }

    @Test(arguments: [WorkerState.paused, .incompatible])
    func aWorkerThatGetsNoWorkIsNamedWithItsReason(state: WorkerState) throws {
        let found = findings(job(.running), [try worker(state)])
        #expect(found.map { $0.next != nil } == [true, true])
        #expect(found[1].text.hasPrefix("Worker w on oak"))
    }

    @Test func aJobAtItsLimitOfWorkersSaysSo() throws {
        let limited = job(.running, maxWorkers: 2, shards: [.leased: 2, .pending: 5])
        let found = findings(limited, [try worker(.active)])
        #expect(found[0].text == "2 workers hold shards of it, as many as it was submitted with.")
        let done = job(.running, maxWorkers: 2, shards: [.leased: 2])
        #expect(findings(done, [try worker(.active)]).count == 1)
    }

    @Test func theJobsThatComeFirstAreNamed() throws {
        let others = [
            job(.running, id: 8, priority: 1, shards: [.pending: 4]),
            job(.paused, id: 9, priority: 1, shards: [.pending: 4]),
            job(.running, id: 10, priority: 1, shards: [.leased: 4]),
            job(.running, id: 11, priority: -1, shards: [.pending: 4]),
            job(.queued, id: 12, shards: [.pending: 4]),
        ]
        let waiting = job(.queued, shards: [.pending: 1])
        let found = findings(waiting, beside: others, [try worker(.active)])
        #expect(
            found == [
                .init(
                    "4 shards of job 8 come first: its priority is 1, this one's 0.",
                    next: "wait for it, or flowpack pause 8"
                ), .init("It shares the workers with jobs of its priority: 12."),
                .init("1 shards wait for a worker."),
            ]
        )
    }

    @Test func aSuspectWorkerIsNamedWithTheReason() throws {
        let found = findings(job(.running), [try worker(.suspect)])
        #expect(
            found.map(\.text) == [
                "Every worker is suspect; they get work when their selftest is well.",
                "Worker w on oak is suspect: It made other bytes.",
            ]
        )
    }

    @Test func aPausedJobIsToBeResumed() {
        let found = findings(job(.paused, shards: [.leased: 1]))
        #expect(found.map(\.next) == ["flowpack resume 7"])
    }

    @Test func aJobThatTheCoordinatorPausedTellsWhy() {
        let found = findings(job(.paused, pauseReason: "11 of the last 20 attempts failed"))
        #expect(
            found == [
                .init(
                    "The job was paused: 11 of the last 20 attempts failed",
                    next: "mend the cause, then flowpack resume 7"
                )
            ]
        )
    }

    @Test func aFailedJobTellsItsReason() {
        #expect(findings(job(.failed)).map(\.text) == ["The job failed. The disk burned."])
    }

    @Test(arguments: JobState.allCases)
    func everyStateHasAnExplanation(state: JobState) {
        #expect(!findings(job(state)).isEmpty)
    }

    @Test func theLatestTroublesAreTold() throws {
        let event = JobEvent(
            id: 1,
            milliseconds: 0,
            job: JobID(rawValue: 7),
            ordinal: 4,
            worker: nil,
            kind: .attemptFailed,
            detail: "no space"
        )
        let found = findings(job(.running), [try worker(.active)], [event])
        #expect(found == [.init("Before: shard 4, attempt failed: no space")])
    }
}
