import Coordinator
import Crypto
import Foundation
import GRDB
import JobProtocol
import Testing

/// The coordinator in one process, with a worker that writes shards of plain text.
struct LocalCoordinatorTests {
    /// Runs a test beside a running coordinator.
    private func withCoordinator(
        in folder: String,
        _ body: (LocalCoordinator) async throws -> Void
    ) async throws {
        // No worker is silent for so long, however slow the machine.
        let coordinator = try LocalCoordinator(
            folder: folder + "/state",
            leaseSeconds: 3600,
            logger: silent
        )
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await coordinator.run() }
            try await body(coordinator)
            group.cancelAll()
        }
    }

    /// Makes a source of some files and a destination with a model; returns what to submit.
    private func prepare(_ folder: String, files: Int) throws -> SubmitRequest {
        for index in 0..<files {
            try write("image \(index)", to: "\(folder)/in/\(index % 3)/\(index).png")
        }
        let model = digest("d")
        try write("model", to: "\(folder)/out/\(DatasetLayout.modelFile(id: model))")
        return SubmitRequest(
            source: folder + "/in",
            destination: folder + "/out",
            modelID: model,
            shardBytes: 20
        )
    }

    /// Writes the shard of a lease into its place and returns what to report.
    private func work(
        on lease: Lease,
        problems: [SampleProblem] = []
    ) throws -> Completion {
        let text = lease.samples.map(\.name).joined(separator: "\n")
        let sha256 = SHA256.hash(data: Data(text.utf8)).map { byte in
            String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
        }.joined()
        let file = DatasetLayout.shardFile(ordinal: lease.ordinal, sha256: sha256)
        try write(text, to: lease.destination + "/" + file)
        return Completion(
            lease: lease.lease,
            sha256: sha256,
            bytes: Int64(text.utf8.count),
            totals: ShardTotals(
                samples: lease.samples.count,
                flowSamples: 0,
                storedSamples: lease.samples.count,
                sourceBytes: lease.samples.reduce(0) { $0 + $1.bytes },
                flowDimensions: 0,
                flowBytes: 0
            ),
            problems: problems,
            seconds: 0
        )
    }

    /// Works until the job has ended.
    private func finish(
        _ job: JobID,
        _ coordinator: LocalCoordinator,
        problems: (Lease) -> [SampleProblem] = { _ in [] }
    ) async throws -> JobStatus {
        let name = try worker("w")
        _ = try await coordinator.register(try registration("w"))
        while true {
            let status = try await coordinator.job(job)
            if status.state.isFinal { return status }
            let reply = try await coordinator.lease(
                LeaseRequest(worker: name, shards: 3, waitSeconds: 1)
            )
            for lease in reply.leases {
                let done = try work(on: lease, problems: problems(lease))
                #expect(try await coordinator.complete(done).outcome == .committed)
            }
            if reply.leases.isEmpty {
                await Task.yield()
            }
        }
    }

    private func manifest(_ folder: String) throws -> DatasetManifest {
        let data = try Data(contentsOf: URL(filePath: folder + "/out/manifest.json"))
        return try Wire.decode(DatasetManifest.self, from: [UInt8](data))
    }

    @Test(.timeLimit(.minutes(5)))
    func aFolderBecomesADataset() async throws {
        try await withTemporaryFolder { folder in
            let request = try prepare(folder, files: 20)
            try write("half a shard", to: folder + "/out/shards/.partial-1")
            try await withCoordinator(in: folder) { coordinator in
                let job = try await coordinator.submit(request).job
                let status = try await finish(job, coordinator)
                #expect(status.state == .completed)
                #expect(status.committed.samples == 20)

                let manifest = try manifest(folder)
                #expect(manifest.shards.map(\.ordinal) == Array(0..<7))
                #expect(manifest.shards.reduce(0) { $0 + $1.samples } == 20)
                #expect(manifest.totals.content.samples == 20)
                #expect(manifest.totals.outputBytes == status.committed.outputBytes)
                #expect(manifest.datasetDigest == status.datasetDigest)
                #expect(manifest.modelFile == DatasetLayout.modelFile(id: digest("d")))
                #expect(manifest.problems == [])
                let files = try FileManager.default.contentsOfDirectory(
                    atPath: folder + "/out/shards"
                )
                #expect(Set(files.map { "shards/" + $0 }) == Set(manifest.shards.map(\.file)))

                await #expect {
                    try await coordinator.submit(request)
                } throws: { error in
                    (error as? APIError)?.code == .destinationComplete
                }
            }
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func problemsAreListedByNameHoweverTheyCame() async throws {
        try await withTemporaryFolder { folder in
            let request = try prepare(folder, files: 6)
            try FileManager.default.createSymbolicLink(
                atPath: folder + "/in/1/link",
                withDestinationPath: ".."
            )
            try await withCoordinator(in: folder) { coordinator in
                let job = try await coordinator.submit(request).job
                let status = try await finish(job, coordinator) { lease in
                    lease.samples.reversed().map { SampleProblem(name: $0.name, reason: "grey") }
                }
                #expect(status.state == .completedWithFallbacks)
                #expect(status.problems == 7)
                #expect(
                    try manifest(folder).problems.map(\.name) == [
                        "0/0.png", "0/3.png", "1/1.png", "1/4.png", "1/link", "2/2.png", "2/5.png",
                    ]
                )
            }
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func anEmptyFolderBecomesAnEmptyDataset() async throws {
        try await withTemporaryFolder { folder in
            let request = try prepare(folder, files: 0)
            try FileManager.default.createDirectory(
                atPath: folder + "/in",
                withIntermediateDirectories: true
            )
            try await withCoordinator(in: folder) { coordinator in
                let job = try await coordinator.submit(request).job
                #expect(try await finish(job, coordinator).state == .completed)
                let manifest = try manifest(folder)
                #expect(manifest.shards == [])
                // SHA-256 of nothing.
                #expect(manifest.datasetDigest.hasPrefix("e3b0c44298fc1c149afbf4c8996fb924"))
            }
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func aJobSurvivesItsCoordinator() async throws {
        try await withTemporaryFolder { folder in
            let request = try prepare(folder, files: 20)
            var job = JobID(rawValue: 0)
            try await withCoordinator(in: folder) { coordinator in
                job = try await coordinator.submit(request).job
                _ = try await coordinator.register(try registration("first"))
                let reply = try await coordinator.lease(
                    LeaseRequest(worker: try worker("first"), shards: 2, waitSeconds: 10)
                )
                let done = try work(on: try #require(reply.leases.first))
                #expect(try await coordinator.complete(done).outcome == .committed)
                for lease in reply.leases.dropFirst() {
                    _ = try await coordinator.release(
                        ReleaseRequest(lease: lease.lease, reason: "ends")
                    )
                }
            }
            try await withCoordinator(in: folder) { coordinator in
                let again = try await coordinator.submit(request)
                #expect(again == SubmitReply(job: job, isReplay: true))
                let status = try await finish(job, coordinator)
                #expect(status.committed.samples == 20)
                #expect(status.committed.shards == 7)
            }
        }
    }

    @Test func anOutputIsCheckedBeforeItIsCommitted() async throws {
        try await withTemporaryFolder { folder in
            let request = try prepare(folder, files: 1)
            try await withCoordinator(in: folder) { coordinator in
                _ = try await coordinator.submit(request)
                _ = try await coordinator.register(try registration("w"))
                let reply = try await coordinator.lease(
                    LeaseRequest(worker: try worker("w"), shards: 1, waitSeconds: 10)
                )
                let lease = try #require(reply.leases.first)
                let done = try work(on: lease)
                let path =
                    folder + "/out/"
                    + DatasetLayout.shardFile(ordinal: 0, sha256: done.sha256)

                // Missing, too short, of the right size but with another byte, right.
                let good = try String(contentsOfFile: path, encoding: .utf8)
                for text in [nil, String(good.dropLast()), String(good.dropLast()) + "!"] {
                    try FileManager.default.removeItem(atPath: path)
                    if let text {
                        try write(text, to: path)
                    } else {
                        try write("", to: path + ".aside")
                    }
                    await #expect {
                        try await coordinator.complete(done)
                    } throws: { error in
                        (error as? APIError)?.code == .outputMismatch
                    }
                    try write(good, to: path)
                }
                #expect(try await coordinator.complete(done).outcome == .committed)
            }
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func aHeartbeatIsAnsweredWhileLargeOutputsAreRead() async throws {
        try await withTemporaryFolder { folder in
            let coordinator = try LocalCoordinator(folder: folder + "/state", logger: silent)
            let queue = coordinator.queue
            let now = Timestamp(milliseconds: Int64(Date().timeIntervalSince1970 * 1000))
            try await queue.perform(.register(try registration("w")), now: now)
            _ = try await queue.makeJob(
                submission(destination: folder + "/out"),
                shards: 4,
                now: now
            )
            // Holes take no space, but time to read. They do not have the digest of the report.
            let bytes: Int64 = 256 << 20
            let reports = try await queue.lease("w", 4, now: now).enumerated().map { index, lease in
                let file = DatasetLayout.shardFile(ordinal: index, sha256: digest("a"))
                try write("", to: "\(folder)/out/\(file)")
                try #require(truncate("\(folder)/out/\(file)", off_t(bytes)) == 0)
                var report = completion(of: lease)
                report.bytes = bytes
                return report
            }
            try await withThrowingTaskGroup(of: Problem.Code?.self) { group in
                for report in reports {
                    group.addTask {
                        do throws(APIError) {
                            _ = try await coordinator.complete(report)
                            return nil
                        } catch {
                            return error.code
                        }
                    }
                }
                while coordinator.leasesUnderCheck.isEmpty {
                    try await Task.sleep(for: .milliseconds(1))
                }

                let beat = Heartbeat(worker: try worker("w"))
                _ = try await queue.perform(.heartbeat(beat), now: now)
                #expect(!coordinator.leasesUnderCheck.isEmpty)

                for try await code in group { #expect(code == .outputMismatch) }
            }
            #expect(coordinator.leasesUnderCheck.isEmpty)
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func aReportThatIsSentTwiceIsCommittedOnce() async throws {
        try await withTemporaryFolder { folder in
            let request = try prepare(folder, files: 1)
            try await withCoordinator(in: folder) { coordinator in
                _ = try await coordinator.submit(request)
                _ = try await coordinator.register(try registration("w"))
                let reply = try await coordinator.lease(
                    LeaseRequest(worker: try worker("w"), shards: 1, waitSeconds: 10)
                )
                let done = try work(on: try #require(reply.leases.first))
                async let first = coordinator.complete(done).outcome
                async let second = coordinator.complete(done).outcome
                let outcomes = try await [first, second]
                #expect(Set(outcomes) == [.committed, .replay])
            }
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func aWaitingWorkerIsWokenByNewWork() async throws {
        try await withTemporaryFolder { folder in
            try await withCoordinator(in: folder) { coordinator in
                _ = try await coordinator.register(try registration("w"))
                let wish = LeaseRequest(worker: try worker("w"), shards: 1, waitSeconds: 25)
                var waits: [Duration] = []
                // On a busy machine the clock may run away from one of them, hardly from all.
                repeat {
                    let request = try prepare("\(folder)/\(waits.count)", files: 1)
                    let start = ContinuousClock.now
                    async let reply = coordinator.lease(wish)
                    _ = try await coordinator.submit(request)
                    #expect(try await reply.leases.count == 1)
                    waits.append(ContinuousClock.now - start)
                } while waits.count < 5 && waits.allSatisfy { $0 >= .seconds(20) }
                #expect(waits.contains { $0 < .seconds(20) }, "\(waits)")
            }
        }
    }

    @Test func aWaitInVainSaysThatNothingIsLeft() async throws {
        try await withTemporaryFolder { folder in
            try await withCoordinator(in: folder) { coordinator in
                _ = try await coordinator.register(try registration("w"))
                let wish = LeaseRequest(worker: try worker("w"), shards: 1, waitSeconds: 0)
                let reply = try await coordinator.lease(wish)
                #expect(reply == LeaseReply(leases: [], isDrained: true, directive: .continue))
            }
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func aSourceThatVanishesFailsTheJobWithItsPath() async throws {
        try await withTemporaryFolder { folder in
            let request = try prepare(folder, files: 1)
            let coordinator = try LocalCoordinator(folder: folder + "/state", logger: silent)
            let job = try await coordinator.submit(request).job
            try FileManager.default.removeItem(atPath: folder + "/in")
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await coordinator.run() }
                while try await !coordinator.job(job).state.isFinal {
                    await coordinator.queue.bell.wait(
                        past: coordinator.queue.bell.rings,
                        atMost: .milliseconds(20)
                    )
                }
                group.cancelAll()
            }
            let status = try await coordinator.job(job)
            #expect(status.state == .failed)
            #expect(status.failure?.contains(folder + "/in") == true)
        }
    }

    @Test func aDamagedPlanFailsItsJobAndNoOther() async throws {
        try await withTemporaryFolder { folder in
            try FileManager.default.createDirectory(
                atPath: folder + "/state",
                withIntermediateDirectories: true
            )
            let coordinator = try LocalCoordinator(folder: folder + "/state", logger: silent)
            _ = try await coordinator.register(try registration("w"))
            let damaged = try await coordinator.queue.makeJob(shards: 1)
            let sound = try await coordinator.queue.makeJob(
                submission(destination: "/elsewhere"),
                shards: 1
            )
            try await coordinator.queue.database.write { db in
                try db.execute(
                    sql: "UPDATE plan SET samples = replace(samples, '}', '{') WHERE shard = 1"
                )
            }

            let wish = LeaseRequest(worker: try worker("w"), shards: 2, waitSeconds: 0)
            let leases = try await coordinator.lease(wish).leases

            #expect(leases.map(\.job) == [sound])
            let status = try await coordinator.job(damaged)
            #expect(status.state == .failed)
            #expect(status.failure?.contains("The plan of shard 0 is damaged") == true)
        }
    }

    @Test func aWallClockThatWasSetBackGoesOnFromTheLastEvent() async throws {
        try await withTemporaryFolder { folder in
            let request = try prepare(folder, files: 1)
            try FileManager.default.createDirectory(
                atPath: folder + "/state",
                withIntermediateDirectories: true
            )
            let tomorrow = Int64(Date().timeIntervalSince1970 * 1000) + 86_400_000
            do {
                var other = request
                other.destination = folder + "/other"
                let queue = try JobQueue(folder: folder + "/state")
                try await queue.perform(
                    .submit(other, obstacle: nil),
                    now: Timestamp(milliseconds: tomorrow)
                )
            }
            let coordinator = try LocalCoordinator(folder: folder + "/state", logger: silent)
            let job = try await coordinator.submit(request).job
            #expect(try await coordinator.job(job).createdMilliseconds >= tomorrow)
        }
    }

    @Test func aSubmissionNeedsItsFolders() async throws {
        try await withTemporaryFolder { folder in
            let good = try prepare(folder, files: 1)
            let coordinator = try LocalCoordinator(folder: folder + "/state", logger: silent)
            let cases: [(WritableKeyPath<SubmitRequest, String>, String, Problem.Code)] = [
                (\.source, folder + "/missing", .sourceMissing),
                (\.source, folder + "/in/0/0.png", .sourceMissing),
                (\.source, "relative", .malformedRequest),
                (\.source, folder + "/in/../in", .malformedRequest),
                (\.source, folder + "/in/", .malformedRequest),
                (\.source, "/", .malformedRequest),
                (\.source, folder, .malformedRequest),
                (\.destination, folder + "/in", .malformedRequest),
                (\.destination, folder + "/in/out", .malformedRequest),
                (\.destination, folder + "/out/../elsewhere", .malformedRequest),
                (\.destination, folder + "/elsewhere", .modelMissing),
                (\.modelID, digest("e"), .modelMissing),
                (\.modelID, digest("D"), .malformedRequest),
                (\.modelID, "../../etc", .malformedRequest),
            ]
            for (field, value, code) in cases {
                var request = good
                request[keyPath: field] = value
                await #expect {
                    try await coordinator.submit(request)
                } throws: { error in
                    (error as? APIError)?.code == code
                }
            }
            #expect(try await coordinator.jobs().jobs == [])
        }
    }

    @Test func aCompletionWithTooManyReasonsIsRefused() async throws {
        try await withTemporaryFolder { folder in
            try await withCoordinator(in: folder) { coordinator in
                let fence = Fence(incarnation: 1, counter: 1)
                var report = completion(
                    of: LeaseID(shard: ShardID(rawValue: 1), fence: fence)
                )
                for number in 0...Limits.storedReasons {
                    report.totals.storedReasons["reason \(number)"] = 1
                }
                let error = await #expect(throws: APIError.self) {
                    try await coordinator.complete(report)
                }
                #expect(error?.message.contains("reasons") == true)
            }
        }
    }
}
