import Testing
import Worker

struct ProgressTests {
    private func snapshot(_ done: Int, of total: Int = 1_000_000_000) -> ProgressSnapshot {
        ProgressSnapshot(
            images: done / 1_000_000,
            imagesTotal: total / 1_000_000,
            sourceBytes: done,
            sourceBytesTotal: total,
            committedBytes: done,
            outputBytes: done / 2,
            workers: 2,
            isPlanComplete: true
        )
    }

    /// What a reporter says to each snapshot at each time.
    private func texts(
        _ style: ProgressStyle,
        _ updates: (ProgressSnapshot, seconds: Double)...
    ) -> [String?] {
        var reporter = ProgressReporter(style: style)
        return updates.map { reporter.update($0, atSeconds: $1) }
    }

    @Test func aBarTellsEverythingOnOneLine() {
        let lines = texts(.bar, (snapshot(0), 100), (snapshot(250_000_000), 110))

        #expect(
            lines[1]
                == "\r[#####---------------] 25 % · 250/1000 images · 25.0 MB/s in · ratio 2.00 · 2 workers · ETA 30s\u{1b}[K"
        )
    }

    @Test func ratesLeaveOutWhatAnEarlierRunDid() throws {
        let lines = texts(.bar, (snapshot(900_000_000), 0), (snapshot(950_000_000), 10))

        let line = try #require(lines[1])

        #expect(line.contains(" 5.0 MB/s in "))
        #expect(line.contains("ETA 10s"))
    }

    @Test func totalsAreNotShownAsFinalWhileScanning() throws {
        var scanning = snapshot(0)
        scanning.isPlanComplete = false

        let line = try #require(texts(.bar, (scanning, 0))[0])

        #expect(line.contains("scanning · 0/1000+ images"))
        #expect(!line.contains("%"))
    }

    @Test func plainLinesComeEveryFivePercentOrThirtySeconds() {
        let lines = texts(
            .plain,
            (snapshot(0), 0),
            (snapshot(49_000_000), 1),
            (snapshot(50_000_000), 2),
            (snapshot(99_000_000), 31),
            (snapshot(99_000_000), 32)
        )

        #expect(lines.map { $0 != nil } == [false, false, true, false, true])
    }

    @Test func jsonLinesComeOnceASecond() {
        let lines = texts(.json, (snapshot(0), 0), (snapshot(1), 0.9), (snapshot(1), 1))

        #expect(lines.map { $0 != nil } == [true, false, true])
        #expect(
            lines[0]?.hasSuffix("\"megabytes_per_second\":null,\"seconds_left\":null}\n") == true
        )
    }

    @Test(arguments: ProgressStyle.allCases)
    func onlyABarHasAnEnd(style: ProgressStyle) {
        var reporter = ProgressReporter(style: style)
        let first = reporter.update(snapshot(5), atSeconds: 0)
        let end = reporter.finish(snapshot(5), atSeconds: 1)

        #expect((end != nil) == (style == .bar))
        #expect((first != nil) == (style == .bar || style == .json))
    }

    @Test(arguments: [
        (0.0, "0s"), (0.2, "1s"), (59.0, "59s"), (65.0, "1m05s"), (3_600.0, "1h00m"),
        (9_610.0, "2h40m"), (273_600.0, "3d04h"), (Double.infinity, "-"),
    ])
    func durationsShowTwoUnits(seconds: Double, text: String) {
        #expect(duration(seconds) == text)
    }

    @Test(arguments: [
        (0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (1_540_000, "1.5 MB"),
        (999_960, "1.0 MB"), (23_400_000_000, "23.4 GB"), (5_000_000_000_000, "5.0 TB"),
    ])
    func byteCountsUseDecimalUnits(bytes: Int, text: String) {
        #expect(byteCount(bytes) == text)
    }

    @Test(arguments: [
        (1.005, 2, "1.00"), (0.996, 2, "1.00"), (-0.001, 2, "0.00"), (-1.5, 1, "-1.5"),
        (12.0, 0, "12"), (3.04, 3, "3.040"), (Double.nan, 1, "-"),
    ])
    func decimalsAreFixed(value: Double, count: Int, text: String) {
        #expect(decimals(value, count) == text)
    }
}
