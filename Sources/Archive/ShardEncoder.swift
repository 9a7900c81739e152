import Codec
package import Raster

/// Turns the samples of a shard into the bytes of a shard file.
///
/// The bytes depend on the samples, their order and the model only, not on the number of threads.
/// The rules are in `Format.md`, "How an encoder fills a shard".
package struct ShardEncoder: Sendable {
    /// A file of the source and what it was found to be.
    package struct Input: Sendable {
        package enum Content: Sendable {
            /// An image that its samples and metadata restore (``Raster/DecodedImage/isRGB8``).
            case image(DecodedImage)
            /// Anything else.
            case stored(reason: String, isProblem: Bool)
            /// A file that could not be read.
            case missing(reason: String)
        }

        package let name: String
        /// The whole file.
        package let bytes: [UInt8]
        package let format: ImageFormat?
        package let content: Content

        package init(name: String, bytes: [UInt8], format: ImageFormat?, content: Content) {
            self.name = name
            self.bytes = bytes
            self.format = format
            self.content = content
        }
    }

    /// A finished shard.
    package struct Shard: Sendable {
        /// The whole file.
        package let bytes: [UInt8]
        /// Of the whole file.
        package let sha256: Digest
        package let summary: ShardSummary
    }

    /// Most files in a stored block.
    static let storedBlockFiles = 4096
    /// Most bytes of a stored block with several files.
    static let storedBlockBytes = 1 << 20
    /// What a record in mode flow has more than one in mode stored, in bytes: the digest of the
    /// pixels.
    static let flowRecordBytes = SampleDigest.byteCount

    private let codec: any BlockCoding

    package init(codec: any BlockCoding) {
        self.codec = codec
    }

    /// The most memory that encoding a shard takes, and verifying it afterwards, in bytes.
    ///
    /// It holds where no image has more than 2^21 pixels:
    ///
    ///     2 · source                  the files and the shard, which is no longer than they are
    ///     3 · 2^24                    images that wait for others of their size
    ///     threads · 2 · 3 · 2^21      images read ahead
    ///     threads · (block + 2 · 3 · 2^21)
    ///
    /// where a block takes `BlockLimits.workingBytes` beside its images and its payload.
    ///
    /// - Parameters:
    ///   - sourceBytes: Of the samples.
    ///   - threads: Most child tasks at a time.
    /// - Returns: Bytes.
    package static func memoryBound(sourceBytes: Int, threads: Int) -> Int {
        let image = 3 * BlockLimits.pixels
        return 2 * sourceBytes + 3 * BlockPlanner.openPixels
            + threads * (2 * image + BlockLimits.workingBytes + 2 * image)
    }

    /// Encodes a shard.
    ///
    /// Reading inputs and coding blocks run in child tasks, at most `threads` at a time and in no
    /// particular order. Memory is bounded by ``memoryBound(sourceBytes:threads:)``.
    ///
    /// - Parameters:
    ///   - count: The number of samples.
    ///   - threads: Most child tasks at a time, at least 1.
    ///   - input: Reads and classifies the sample of a number.
    /// - Returns: The shard.
    /// - Throws: What `input` throws, `ArchiveError` for a name that is not
    ///   ``SampleRecord/isValidName(_:)`` or comes twice, and `CancellationError`.
    package func encode(
        count: Int,
        threads: Int,
        input: @escaping @Sendable (Int) async throws -> Input
    ) async throws -> Shard {
        precondition(threads >= 1, "work needs a thread")
        var assembly = ShardAssembly(codec: codec, count: count)
        try await withThrowingTaskGroup(of: StepResult.self) { group in
            var waiting: [(ordinal: Int, block: PlannedBlock)] = []
            var read: [Int: DigestedInput] = [:]
            var nextRead = 0
            var running = 0
            while true {
                while running < threads {
                    if !waiting.isEmpty {
                        let (ordinal, block) = waiting.removeFirst()
                        group.addTask { [codec] in .coded(ordinal, CodedBlock(block, codec)) }
                    } else if nextRead < count, nextRead < assembly.sampleCount + 2 * threads {
                        let number = nextRead
                        nextRead += 1
                        group.addTask { .read(number, DigestedInput(try await input(number))) }
                    } else {
                        break
                    }
                    running += 1
                }
                guard let result = try await group.next() else { return }
                try Task.checkCancellation()
                running -= 1
                switch result {
                case .coded(let ordinal, let block):
                    assembly.add(block, ordinal: ordinal)
                case .read(let number, let input):
                    read[number] = input
                    while let input = read.removeValue(forKey: assembly.sampleCount) {
                        waiting += try assembly.add(input)
                    }
                    if assembly.sampleCount == count { waiting += assembly.planRest() }
                }
            }
        }
        return assembly.finish()
    }

    private enum StepResult: Sendable {
        case read(Int, DigestedInput)
        case coded(Int, CodedBlock)
    }
}

/// An input with the digests that its record needs.
struct DigestedInput: Sendable {
    let input: ShardEncoder.Input
    let sourceDigest: SampleDigest
    /// Of an image.
    let pixelDigest: SampleDigest?

    init(_ input: ShardEncoder.Input) {
        self.input = input
        sourceDigest = SampleDigest(of: input.bytes)
        if case .image(let decoded) = input.content {
            precondition(decoded.isRGB8 && decoded.image.channels == 3, "an image is 8-bit RGB")
            pixelDigest = SampleDigest(of: decoded.image.samples)
        } else {
            pixelDigest = nil
        }
    }
}

/// A planned block after coding.
struct CodedBlock: Sendable {
    /// The images in the block, as numbers of samples, in order.
    let kept: [Int]
    /// The images that are smaller as they were.
    let dropped: [Int]
    let isBand: Bool
    let width: Int
    let height: Int
    let payload: [UInt8]

    /// What the block takes in a shard, its header twice.
    var shardBytes: Int { Self.shardBytes(of: payload) }

    private static func shardBytes(of payload: [UInt8]) -> Int {
        payload.count + 2 * BlockHeader.byteCount
    }

    init(_ block: PlannedBlock, _ codec: any BlockCoding) {
        switch block {
        case .images(let candidates):
            var kept: [Candidate] = []
            let payload = codec.encode(candidates.map(\.image)) { index, costBytes in
                let candidate = candidates[index]
                let isKept = costBytes + ShardEncoder.flowRecordBytes < candidate.limitBytes
                if isKept { kept.append(candidate) }
                return isKept
            }
            let isWorthIt = Self.shardBytes(of: payload) < kept.reduce(0) { $0 + $1.limitBytes }
            let keptNumbers = isWorthIt ? kept.map(\.sample) : []
            self.payload = isWorthIt ? payload : []
            self.kept = keptNumbers
            dropped = candidates.map(\.sample).filter { !keptNumbers.contains($0) }
            isBand = false
            width = candidates[0].image.width
            height = candidates[0].image.height
        case .band(let candidate, let rows):
            payload = codec.encode([candidate.image.band(rows)]) { _, _ in true }
            kept = [candidate.sample]
            dropped = []
            isBand = true
            width = candidate.image.width
            height = rows.count
        }
    }
}
