import CrashPoints
import Foundation
import JobProtocol
import Testing

/// The files of a folder by name.
private func content(of folder: Folder, _ name: String) throws -> [String: [UInt8]] {
    Dictionary(
        uniqueKeysWithValues: try folder.files(name).map { ($0, try folder.bytes("\(name)/\($0)")) }
    )
}

/// A source of three shards of 16 KiB.
private func makeSource(_ folder: Folder) throws {
    for index in 0..<3 as Range<UInt64> {
        try folder.write(picture(64, 64, seed: index), "source/\(index).ppm")
        try folder.write("label \(index)\n".utf8, "source/\(index).txt")
    }
}

@Suite(.timeLimit(.minutes(10)))
struct CrashTests {
    private let folder: Folder
    /// What an undisturbed run makes of the source.
    private let undisturbed: [String: [UInt8]]

    init() throws {
        folder = try Folder()
        try makeSource(folder)
        let ending = try Self.compress(folder, to: "undisturbed")
        try #require(ending.status == 0, "\(ending.errors)")
        undisturbed = try content(of: folder, "undisturbed")
    }

    private static func compress(
        _ folder: Folder,
        to output: String,
        crashAt step: String? = nil
    ) throws -> Program.Ending {
        try Program("flowpack").run(
            [
                "compress", "\(folder.path)/source", "-o", "\(folder.path)/\(output)",
                "--shard-bytes", "16KiB", "--threads", "1", "--progress", "none",
            ],
            environment: step.map { ["FLOWPACK_CRASH_AT": $0] } ?? [:]
        )
    }

    /// All but those of jobs with an output in S3.
    private static let steps = CrashPoint.allCases.filter { $0 != .duringUpload }

    /// Every visit of the step is the end of a run, which the same command completes.
    @Test(arguments: steps)
    func aRunThatIsLostAtAnyStepCompletesWithTheSameBytes(point: CrashPoint) throws {
        var visit = 1
        while true {
            let output = "lost-\(visit)"
            let step = "\(point.rawValue):\(visit)"
            let lost = try Self.compress(folder, to: output, crashAt: step)
            guard lost.signal == SIGKILL else {
                #expect(lost.status == 0, "\(step): \(lost.errors)")
                break
            }
            let again = try Self.compress(folder, to: output)
            let wasFinished = again.errors.contains("holds a finished dataset")
            #expect(again.status == 0 || wasFinished, "\(step): \(again.errors)")
            #expect(try content(of: folder, output) == undisturbed, "\(step)")
            visit += 1
        }
        #expect(visit > 1, "\(point) is a step of every job")
    }
}
