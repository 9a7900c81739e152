import Coordinator
import Foundation
import JobProtocol
import Testing

/// The scan of a folder and its cut into shards.
struct PlanningTests {
    private func entries(
        of root: String,
        after last: String? = nil
    ) throws -> [SourceScan.Entry] {
        var scan = try SourceScan(.folder(path: root), after: last)
        var entries: [SourceScan.Entry] = []
        while let entry = try scan.next() {
            entries.append(entry)
        }
        return entries
    }

    private func names(_ entries: [SourceScan.Entry]) -> [String] {
        entries.map { entry in
            switch entry {
            case .sample(let sample): sample.name
            case .skipped(let problem): "skipped \(problem.name)"
            }
        }
    }

    /// Files whose order differs by path, by locale and by byte.
    private static let order = [
        ".hidden", "B.png", "a/x/1.png", "a/x.png", "a.png", "a0/z.png", "b.png", "é.png",
    ]

    private func makeTree(in folder: String) throws {
        for name in Self.order.reversed() {
            try write(name, to: folder + "/" + name)
        }
    }

    @Test func filesComeDepthFirstInTheOrderOfTheBytesOfTheirNames() async throws {
        try await withTemporaryFolder { folder in
            try makeTree(in: folder)
            #expect(names(try entries(of: folder)) == Self.order)
            #expect(
                try entries(of: folder).first == .sample(ShardSample(name: ".hidden", bytes: 7))
            )
        }
    }

    @Test func aScanGoesOnAfterAnySample() async throws {
        try await withTemporaryFolder { folder in
            try makeTree(in: folder)
            for (index, name) in Self.order.enumerated() {
                let rest = names(try entries(of: folder, after: name))
                #expect(rest == Array(Self.order[(index + 1)...]), "\(name)")
            }
        }
    }

    @Test func aScanGoesOnAfterASampleThatIsGone() async throws {
        try await withTemporaryFolder { folder in
            try makeTree(in: folder)
            try FileManager.default.removeItem(atPath: folder + "/a/x")
            #expect(
                names(try entries(of: folder, after: "a/x/1.png")) == Array(Self.order[3...])
            )
            #expect(names(try entries(of: folder, after: "zzz")) == ["é.png"])
            #expect(names(try entries(of: folder, after: "\u{10ffff}")) == [])
        }
    }

    @Test func whatIsNoSampleIsNamed() async throws {
        try await withTemporaryFolder { folder in
            try write("x", to: folder + "/real/file")
            let files = FileManager.default
            try files.createSymbolicLink(
                atPath: folder + "/link-to-file",
                withDestinationPath: "real/file"
            )
            try files.createSymbolicLink(
                atPath: folder + "/link-to-folder",
                withDestinationPath: "real"
            )
            try files.createSymbolicLink(atPath: folder + "/ring", withDestinationPath: "ring")
            #expect(mkfifo(folder + "/pipe", 0o600) == 0)
            let invalid = Array(folder.utf8) + Array("/bad-".utf8) + [0xff, 0]
            let descriptor = invalid.map { CChar(bitPattern: $0) }.withUnsafeBufferPointer {
                $0.baseAddress.map { creat($0, 0o600) } ?? -1
            }
            #expect(descriptor >= 0)
            close(descriptor)

            #expect(
                names(try entries(of: folder)) == [
                    "skipped bad-\u{fffd}", "link-to-file", "skipped link-to-folder",
                    "skipped pipe", "real/file", "skipped ring",
                ]
            )
        }
    }

    @Test func aMissingSourceIsAnErrorWithItsPath() {
        #expect {
            try SourceScan(.folder(path: "/nonexistent"))
        } throws: { error in
            (error as? SourceError)?.path == "/nonexistent/"
        }
    }

    private func plan(
        _ root: String,
        shardBytes: Int64,
        after last: String? = nil
    ) throws -> [ShardPlanner.Part] {
        let scan = try SourceScan(.folder(path: root), after: last)
        var planner = ShardPlanner(scan: scan, shardBytes: shardBytes)
        var parts = [try planner.next()]
        while parts.last?.samples.isEmpty == false {
            parts.append(try planner.next())
        }
        return parts
    }

    @Test func aShardIsFullWithTheSampleThatReachesItsBytes() async throws {
        try await withTemporaryFolder { folder in
            for (name, bytes) in [("a", 3), ("b", 4), ("c", 10), ("d", 0), ("e", 6)] {
                try write(String(repeating: "x", count: bytes), to: folder + "/" + name)
            }
            let shards = try plan(folder, shardBytes: 7).map { $0.samples.map(\.name) }
            #expect(shards == [["a", "b"], ["c"], ["d", "e"], []])
        }
    }

    @Test func aShardIsFullWithThisManySamples() async throws {
        try await withTemporaryFolder { folder in
            for index in 0..<Limits.shardSamples + 1 {
                close(creat("\(folder)/\(index)", 0o600))
            }
            let shards = try plan(folder, shardBytes: .max).map(\.samples.count)
            #expect(shards == [Limits.shardSamples, 1, 0])
        }
    }

    @Test func anEmptySourceHasOneEmptyLastPart() async throws {
        try await withTemporaryFolder { folder in
            let parts = try plan(folder, shardBytes: 7)
            #expect(parts.count == 1)
            #expect(parts.flatMap(\.samples) == [])
        }
    }

    @Test func aPlanThatWasInterruptedGoesOnAsIfItWasNot() async throws {
        try await withTemporaryFolder { folder in
            // A sample, two links, a sample, two links … in the order of their names.
            for index in 0..<5 {
                try write("four", to: "\(folder)/\(index)-a")
                for letter in ["b", "c"] {
                    try FileManager.default.createSymbolicLink(
                        atPath: "\(folder)/\(index)-\(letter)",
                        withDestinationPath: "nowhere"
                    )
                }
            }
            let whole = try plan(folder, shardBytes: 8)
            #expect(whole.map(\.samples.count) == [2, 2, 1, 0])
            #expect(whole.map(\.skipped.count) == [2, 4, 2, 2])
            for done in 0..<whole.count {
                let last = whole.prefix(done).last?.samples.last?.name
                #expect(try plan(folder, shardBytes: 8, after: last) == Array(whole[done...]))
            }
        }
    }
}
