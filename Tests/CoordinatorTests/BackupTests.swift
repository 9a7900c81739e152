import Coordinator
import Foundation
import GRDB
import JobProtocol
import Testing

struct BackupTests {
    /// Flips every bit of some bytes in the middle of a file.
    private func damage(_ path: String) throws {
        var data = try Data(contentsOf: URL(filePath: path))
        // All but the first page: which of the others are in use depends on the migrations.
        for index in 4096..<data.count {
            data[index] ^= 255
        }
        try data.write(to: URL(filePath: path))
    }

    @Test func aCopyOfARunningQueueHoldsWhatWasCommitted() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            _ = try await queue.makeJob(shards: 3)
            try await queue.perform(.register(try registration("w")), now: at(0))
            let lease = try #require(try await queue.lease("w", 1, now: at(0)).first)
            _ = await queue.complete(completion(of: lease), now: at(1))

            let report = try Backup.make(of: folder, at: folder + "/copy")

            #expect(report.jobs == 1)
            #expect(report.shards == 3)
            #expect(report.committedShards == 1)
            #expect(try Backup.test(folder + "/copy") == report)
            // The queue goes on, and only the copy was added.
            #expect(try await queue.lease("w", 2, now: at(2)).count == 2)
            let files = try FileManager.default.contentsOfDirectory(atPath: folder)
            #expect(files.filter { !$0.hasPrefix("state.db") } == ["copy"])
        }
    }

    @Test func aCopyIsNotWrittenOverAFile() async throws {
        try await withTemporaryFolder { folder in
            _ = try JobQueue(folder: folder)
            try write("precious", to: folder + "/copy")
            #expect(throws: StartError.self) { try Backup.make(of: folder, at: folder + "/copy") }
            #expect(try String(contentsOfFile: folder + "/copy", encoding: .utf8) == "precious")
        }
    }

    @Test func thereIsNothingToCopyWithoutAQueue() async throws {
        try await withTemporaryFolder { folder in
            #expect(throws: StartError.self) { try Backup.make(of: folder, at: folder + "/copy") }
            let files = try FileManager.default.contentsOfDirectory(atPath: folder)
            #expect(files == [])
        }
    }

    @Test func aDamagedCopyIsRefusedAndChangesNothing() async throws {
        try await withTemporaryFolder { folder in
            _ = try await JobQueue(folder: folder).makeJob(shards: 300)
            let copy = folder + "/copy"
            _ = try Backup.make(of: folder, at: copy)
            try damage(copy)

            #expect {
                try Backup.restore(copy, to: folder, now: at(0))
            } throws: { error in
                guard case .damaged(copy, _) = error as? StartError else { return false }
                return true
            }

            let queue = try JobQueue(folder: folder)
            #expect(try await queue.statuses(now: at(0)).count == 1)
        }
    }

    @Test func aCopyWithAWrongCounterIsRefused() async throws {
        try await withTemporaryFolder { folder in
            _ = try await JobQueue(folder: folder).makeJob(shards: 3)
            let copy = folder + "/copy"
            _ = try Backup.make(of: folder, at: copy)
            do {
                let database = try DatabaseQueue(path: copy)
                try await database.write { try $0.execute(sql: "UPDATE counter SET n = n + 1") }
            }
            #expect(throws: StartError.self) { try Backup.test(copy) }
        }
    }

    @Test func aDatabaseOfAnotherKindIsNoCopy() async throws {
        try await withTemporaryFolder { folder in
            let other = folder + "/other"
            do {
                let database = try DatabaseQueue(path: other)
                try await database.write { try $0.execute(sql: "CREATE TABLE poem (line TEXT)") }
            }
            #expect(throws: StartError.self) {
                try Backup.restore(other, to: folder, now: at(0))
            }
        }
    }

    @Test func noFenceOutlivesARestoration() async throws {
        try await withTemporaryFolder { folder in
            let copy = folder + "/copy"
            var held: [LeaseID] = []
            do {
                let queue = try JobQueue(folder: folder)
                _ = try await queue.makeJob(shards: 4)
                try await queue.perform(.register(try registration("w")), now: at(0))
                held = try await queue.lease("w", 1, now: at(0))
                _ = try Backup.make(of: folder, at: copy)
                held += try await queue.lease("w", 1, now: at(1))
            }
            // The same copy twice: leases from between the two must not be valid either.
            for second in [2.0, 3.0] {
                let restoration = try Backup.restore(copy, to: folder, now: at(second))
                #expect(restoration.replaced != nil)
                let queue = try JobQueue(folder: folder)
                for lease in held {
                    let answer = await queue.complete(completion(of: lease), now: at(second))
                    #expect(answer == .code(.fenced))
                }
                held += try await queue.lease("w", 4, now: at(second))
                #expect(Set(held.map(\.fence)).count > 2)
                #expect(try await queue.miscounts() == [])
            }
            #expect(held.count == 2 + 4 + 4)
        }
    }

    @Test func fencesRiseThoughTheReplacedQueueIsLost() async throws {
        try await withTemporaryFolder { folder in
            let copy = folder + "/copy"
            do {
                _ = try await JobQueue(folder: folder).makeJob(shards: 1)
                _ = try Backup.make(of: folder, at: copy)
            }
            let incarnations = try [1.0, 2.0].map { second in
                try FileManager.default.removeItem(atPath: folder + "/state.db")
                let restoration = try Backup.restore(copy, to: folder, now: at(second))
                #expect(restoration.replaced == nil)
                return restoration.queue.incarnation
            }
            #expect(incarnations[0] < incarnations[1])
        }
    }

    @Test func aRunningCoordinatorKeepsItsQueue() async throws {
        try await withTemporaryFolder { folder in
            let queue = try JobQueue(folder: folder)
            _ = try Backup.make(of: folder, at: folder + "/copy")
            #expect(throws: StartError.locked(path: folder + "/state.db.lock")) {
                try Backup.restore(folder + "/copy", to: folder, now: at(0))
            }
            withExtendedLifetime(queue) {}
        }
    }

    @Test func aMigrationKeepsTheDatabaseAsItWas() async throws {
        try await withTemporaryFolder { folder in
            let path = folder + "/state.db"
            do {
                let database = try DatabaseQueue(path: path)
                let first = try #require(Schema.migrator().migrations.first)
                try Schema.migrator().migrate(database, upTo: first)
            }

            _ = try await JobQueue(folder: folder).makeJob(shards: 1)

            let copy = try DatabaseQueue(path: path + ".schema-1")
            let (jobs, applied) = try await copy.read { db in
                (
                    try Int.fetchOne(db, sql: "SELECT count(*) FROM job"),
                    try Schema.migrator().appliedMigrations(db).count
                )
            }
            #expect(jobs == 0)
            #expect(applied == 1)
            // Nothing to migrate any more, nothing to keep.
            _ = try JobQueue(folder: folder)
            let copies = try FileManager.default.contentsOfDirectory(atPath: folder)
                .filter { $0.contains(".schema-") }
            #expect(copies == ["state.db.schema-1"])
        }
    }

    @Test(arguments: [
        ("3.36.0", true, true), ("3.40.1", false, true), ("3.51.2", false, true),
        ("3.51.3", false, false), ("3.100.0", false, false),
    ])
    func releasesOfSQLiteAreRefusedOrWarnedOf(text: String, isTooOld: Bool, isWarnedOf: Bool) {
        let version = SQLiteVersion(text)
        #expect((version < .oldest) == isTooOld)
        #expect((version.warning != nil) == isWarnedOf)
    }

    @Test func aFolderOnANetworkIsKnownByItsMount() async throws {
        let mounts = """
            22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
            37 22 0:52 / /srv/photos rw,nosuid shared:9 master:2 - nfs4 nas:/photos rw,vers=4.2
            """
        #expect(NetworkFileSystem.type(ofDevice: 8 << 8 | 1, in: mounts) == "ext4")
        #expect(NetworkFileSystem.type(ofDevice: 52, in: mounts) == "nfs4")
        #expect(NetworkFileSystem.type(ofDevice: 53, in: mounts) == nil)
        #expect(["nfs4", "cifs", "fuse.sshfs"].allSatisfy(NetworkFileSystem.isNetwork))
        #expect(!["ext4", "fuseblk", "overlay"].contains(where: NetworkFileSystem.isNetwork))
        try await withTemporaryFolder { try NetworkFileSystem.refuse($0) }
    }
}
