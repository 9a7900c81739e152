import Coordinator
import Foundation
import JobProtocol
import Testing

struct CoordinatorSelftestTests {
    private func check(
        _ name: String,
        in folder: String,
        tokenFile: String? = nil
    ) throws -> SelftestCheck {
        let checks = CoordinatorSelftest(folder: folder, tokenFile: tokenFile).run().checks
        return try #require(checks.first { $0.name == name }, "\(checks)")
    }

    @Test func aHealthyFolderHasNothingToDoNext() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            _ = try await queue.makeJob(shards: 3)
            let (checks, damage) = CoordinatorSelftest(folder: folder, tokenFile: nil).run()
            #expect(damage == nil)
            let database = try #require(checks.first { $0.name == "database" })
            #expect(database.isOK)
            #expect(checks.allSatisfy { $0.isOK == ($0.next == nil) }, "\(checks)")
            let lock = try check("lock", in: folder)
            #expect(lock.detail == "a coordinator runs on the folder")
            // It has not touched the queue, which goes on.
            _ = try await queue.makeJob(submission(destination: "/other"), shards: 1)
        }
    }

    @Test func aFolderWithoutACoordinatorIsSaidToHaveNone() async throws {
        try await withTemporaryFolder { folder in
            _ = try JobQueue(folder: folder)
            let lock = try check("lock", in: folder)
            #expect(lock.detail == "no coordinator runs on the folder")
        }
    }

    @Test func aDamagedDatabaseIsFound() async throws {
        try await withTemporaryFolder { folder in
            do {
                let queue = try JobQueue(folder: folder)
                _ = try await queue.makeJob(shards: 3)
            }
            try damageHalf(of: folder + "/state.db")
            let (checks, damage) = CoordinatorSelftest(folder: folder, tokenFile: nil).run()
            guard case .damaged = damage else {
                Issue.record("\(String(describing: damage))")
                return
            }
            #expect(checks.first { $0.name == "database" }?.isOK == false)
        }
    }

    @Test func aTokenFileThatOthersMayReadIsFound() async throws {
        try await withTemporaryFolder { folder in
            let path = folder + "/tokens"
            try write("admin a-token-0123456789", to: path)
            for (mode, isOK) in [(0o600, true), (0o640, false), (0o604, false)] {
                try FileManager.default.setAttributes(
                    [.posixPermissions: mode],
                    ofItemAtPath: path
                )
                let found = try check("token file", in: folder, tokenFile: path)
                #expect(found.isOK == isOK, "\(String(mode, radix: 8))")
            }
            try write("boss a-token-0123456789", to: path)
            #expect(try check("token file", in: folder, tokenFile: path).detail.contains("boss"))
        }
    }

    @Test func aFolderThatIsNotThereIsFound() throws {
        let checks = CoordinatorSelftest(folder: "/nonexistent", tokenFile: nil).run().checks
        #expect(checks.map(\.isOK) == [false])
    }
}
