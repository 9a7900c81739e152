import Coordinator
import Foundation
import GRDB
import JobProtocol
import Testing

/// A disk that is full: SQLite says so when a file may not grow (PRAGMA max_page_count).
struct FullDiskTests {
    private func setPageLimit(_ pages: Int?, _ queue: JobQueue) throws {
        try queue.database.inDatabase { db in
            let limit = try pages ?? Int.fetchOne(db, sql: "PRAGMA page_count") ?? 0
            try db.execute(sql: "PRAGMA max_page_count = \(limit)")
        }
    }

    private func ballastBytes(_ queue: JobQueue) -> Int64 {
        var status = stat()
        return stat(queue.ballast.path, &status) == 0 ? Int64(status.st_blocks) * 512 : 0
    }

    /// A report that does not fit in the pages that there are.
    private func longReport(of lease: LeaseID) -> Completion {
        let reason = String(repeating: "long ", count: 200)
        let problems = (0..<200).map { SampleProblem(name: "\($0)", reason: reason) }
        return completion(of: lease, problems: problems)
    }

    @Test func aFullDiskGetsTheBallastAndTakesNoNewWork() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder, hasBallast: true)
            try await queue.perform(.register(try registration("w")), now: at(0))
            let job = try await queue.makeJob(shards: 3)
            let leases = try await queue.lease("w", 2, now: at(0))
            #expect(ballastBytes(queue) > 0)
            #expect(!queue.ballast.isSpent)

            try setPageLimit(nil, queue)
            let report = longReport(of: leases[0])
            #expect(await queue.complete(report, now: at(1)) == .code(.unavailable))
            #expect(ballastBytes(queue) == 0)
            #expect(queue.ballast.isSpent)

            // With the room that the ballast leaves on a real disk, what was begun is finished.
            try setPageLimit(1 << 30, queue)
            #expect(await queue.complete(report, now: at(2)) == .outcome(.committed))
            let beat = try await queue.beat("w", [leases[1]], now: at(2))
            #expect(beat.leases[0].directive == .continue)
            for command in [
                .submit(submission(destination: "/other"), obstacle: nil),
                .lease(try worker("w"), shards: 1), .retry(job, obstacle: nil),
            ] as [Command] {
                let error = await #expect(throws: APIError.self) {
                    try await queue.perform(command, now: at(3))
                }
                #expect(error?.code == .unavailable)
            }

            #expect(queue.ballast.refill())
            #expect(ballastBytes(queue) > 0)
            #expect(try await queue.lease("w", 1, now: at(4)).count == 1)
            #expect(try await queue.miscounts() == [])
        }
    }

    @Test func theBallastOfAnEarlierLifeIsKept() async throws {
        try await withTemporaryFolder { folder in
            func inode() throws -> UInt64? {
                let path = folder + "/ballast"
                let attributes = try FileManager.default.attributesOfItem(atPath: path)
                return attributes[.systemFileNumber] as? UInt64
            }
            _ = try JobQueue(folder: folder, hasBallast: true)
            let first = try inode()
            let queue = try JobQueue(folder: folder, hasBallast: true)
            #expect(!queue.ballast.isSpent)
            #expect(try inode() == first)
        }
    }

    @Test func withoutBallastNothingIsKeptAndNothingRefused() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            #expect(!FileManager.default.fileExists(atPath: queue.ballast.path))
            #expect(!queue.ballast.isSpent)
        }
    }
}
