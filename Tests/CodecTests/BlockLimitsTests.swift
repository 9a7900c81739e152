import Codec
import Testing

@Suite struct BlockLimitsTests {
    @Test(arguments: [
        (1, 1), (64, 64), (1 << 11, 1 << 10), (1, 1 << 21), (1 << 21, 1), (1 << 17, 16),
    ])
    func anImageWithinTheLimitIsOneBand(width: Int, height: Int) {
        let bands = BlockLimits.bands(width: width, height: height, multiple: 8)

        #expect(bands == (width <= 1 << 17 ? [0..<height] : nil))
    }

    @Test func aLargeImageIsCutIntoEqualBandsAndARest() {
        #expect(
            BlockLimits.bands(width: 4000, height: 3000, multiple: 8)
                == [0..<520, 520..<1040, 1040..<1560, 1560..<2080, 2080..<2600, 2600..<3000]
        )
        #expect(
            BlockLimits.bands(width: 1, height: (1 << 21) + 1, multiple: 4)
                == [0..<1 << 21, 1 << 21..<(1 << 21) + 1]
        )
        #expect(
            BlockLimits.bands(width: 1 << 17, height: 33, multiple: 16)
                == [0..<16, 16..<32, 32..<33]
        )
    }

    @Test func anImageThatIsTooWideHasNoBands() {
        #expect(BlockLimits.bands(width: (1 << 17) + 1, height: 1, multiple: 4) == nil)
        #expect(BlockLimits.bands(width: .max, height: .max, multiple: 4) == nil)
        #expect(BlockLimits.bands(width: 1 << 17, height: 17, multiple: 32) == nil)
        #expect(BlockLimits.bands(width: 1 << 17, height: 16, multiple: 32) == [0..<16])
    }

    @Test func bandsCoverTheImageWithinTheLimits() {
        for width in [1, 3, 1000, 1449, 65537, 1 << 17] {
            for height in [1, 16, 17, 1447, 40_000, 3_000_000] {
                for multiple in [2, 8, 16] {
                    let bands =
                        BlockLimits.bands(width: width, height: height, multiple: multiple) ?? []
                    let ends = bands.map(\.upperBound)
                    let isCover =
                        bands.map(\.lowerBound) == [0] + ends.dropLast() && ends.last == height
                    #expect(isCover, "\(width) × \(height)")
                    let isAllowed = bands.allSatisfy {
                        BlockLimits.allow(count: 1, width: width, height: $0.count)
                    }
                    #expect(isAllowed, "\(width) × \(height)")
                    let isAligned = bands.dropLast().allSatisfy { $0.count % multiple == 0 }
                    #expect(isAligned, "\(width) × \(height)")
                }
            }
        }
    }
}
