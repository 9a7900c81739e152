import Codec
import Raster

/// An image that mode flow might hold.
struct Candidate: Sendable {
    /// The sample's number in the shard.
    let sample: Int
    let image: Image
    /// Of the source file without the metadata, which either mode holds: the image stays in mode
    /// flow while it costs less.
    let limitBytes: Int
}

/// Images that are coded together.
enum PlannedBlock: Sendable {
    /// Images of one size; each stays in the block or leaves it.
    case images([Candidate])
    /// Rows of a large image, which stays or leaves as a whole.
    case band(of: Candidate, rows: Range<Int>)
}

/// Decides which images share a block; the rules are in `Format.md`, "How an encoder fills a shard".
struct BlockPlanner {
    /// Most pixels of a block with several images.
    static let blockPixels = 1 << 20
    /// Most pixels of open blocks together: bounds memory at three bytes each.
    static let openPixels = 1 << 24

    private struct Size: Hashable {
        let width: Int
        let height: Int
    }

    private let paddingMultiple: Int
    private var open: [Size: [Candidate]] = [:]
    private var openPixels = 0

    init(paddingMultiple: Int) {
        self.paddingMultiple = paddingMultiple
    }

    /// Whether an image of this size can be in mode flow.
    func accepts(_ image: Image) -> Bool {
        bands(of: image) != nil
    }

    /// Adds the next candidate, whose image is accepted.
    ///
    /// - Returns: The blocks that closed, in order.
    mutating func add(_ candidate: Candidate) -> [PlannedBlock] {
        let image = candidate.image
        guard let bands = bands(of: image) else {
            preconditionFailure("a candidate's image is accepted")
        }
        if bands.count > 1 { return bands.map { .band(of: candidate, rows: $0) } }
        var closed: [PlannedBlock] = []
        let size = Size(width: image.width, height: image.height)
        if let count = open[size]?.count, (count + 1) * image.pixelCount > Self.blockPixels {
            closed.append(close(size))
        }
        open[size, default: []].append(candidate)
        openPixels += image.pixelCount
        if open[size]?.count == BlockLimits.images { closed.append(close(size)) }
        while openPixels > Self.openPixels, let oldest = oldestOpen { closed.append(close(oldest)) }
        return closed
    }

    /// Closes all blocks, that with the earliest first image first.
    mutating func finish() -> [PlannedBlock] {
        let sizes = open.sorted { $0.value[0].sample < $1.value[0].sample }.map(\.key)
        return sizes.map { close($0) }
    }

    private var oldestOpen: Size? {
        open.min { $0.value[0].sample < $1.value[0].sample }?.key
    }

    private mutating func close(_ size: Size) -> PlannedBlock {
        let candidates = open.removeValue(forKey: size) ?? []
        openPixels -= candidates.count * size.width * size.height
        return .images(candidates)
    }

    private func bands(of image: Image) -> [Range<Int>]? {
        BlockLimits.bands(width: image.width, height: image.height, multiple: paddingMultiple)
    }
}
