import Raster

/// Gathers samples and coded blocks and writes them in their fixed order.
struct ShardAssembly {
    /// What is known of a sample whose bytes may have been let go.
    fileprivate struct Sample {
        let name: String
        let format: ImageFormat?
        let sourceBytes: Int
        let sourceDigest: SampleDigest
        let pixelDigest: SampleDigest?
        let width: Int
        let height: Int
        let metadata: [UInt8]
        /// The file, as long as it may become a stored one.
        var bytes: [UInt8]?
        var outcome: Outcome
    }

    fileprivate enum Outcome {
        case undecided
        case flow
        case stored(reason: String, isProblem: Bool)
        case missing(reason: String)
    }

    private let modelID: Digest
    private var planner: BlockPlanner
    private var samples: [Sample] = []
    private var names: Set<[UInt8]> = []
    /// Coded blocks by the order in which they were planned.
    private var blocks: [CodedBlock?] = []

    init(codec: any BlockCoding, count: Int) {
        modelID = codec.modelID
        planner = BlockPlanner(paddingMultiple: codec.paddingMultiple)
        samples.reserveCapacity(count)
    }

    var sampleCount: Int { samples.count }

    /// Adds the next sample.
    ///
    /// - Returns: The blocks that are to be coded now, with the numbers to hand them back under.
    /// - Throws: When the name is none, or another sample has it.
    mutating func add(
        _ digested: DigestedInput
    ) throws(ArchiveError) -> [(ordinal: Int, block: PlannedBlock)] {
        let input = digested.input
        guard
            SampleRecord.isValidName(input.name),
            names.insert(Array(input.name.utf8)).inserted
        else { throw ArchiveError(.malformed("name"), in: .sample(input.name), at: 0) }
        var image: DecodedImage? = nil
        var outcome: Outcome
        switch input.content {
        case .image(let decoded) where planner.accepts(decoded.image):
            image = decoded
            outcome = .undecided
        case .image:
            outcome = .stored(reason: "wider than the model can take", isProblem: false)
        case .stored(let reason, let isProblem):
            outcome = .stored(reason: reason, isProblem: isProblem)
        case .missing(let reason):
            outcome = .missing(reason: reason)
        }
        samples.append(
            Sample(
                name: input.name,
                format: input.format,
                sourceBytes: input.bytes.count,
                sourceDigest: digested.sourceDigest,
                pixelDigest: digested.pixelDigest,
                width: image?.image.width ?? 0,
                height: image?.image.height ?? 0,
                metadata: image?.metadata ?? [],
                bytes: input.bytes,
                outcome: outcome
            )
        )
        guard let image else { return [] }
        let candidate = Candidate(
            sample: samples.count - 1,
            image: image.image,
            limitBytes: input.bytes.count - image.metadata.count
        )
        return number(planner.add(candidate))
    }

    /// Ends the planning: no sample follows.
    mutating func planRest() -> [(ordinal: Int, block: PlannedBlock)] {
        number(planner.finish())
    }

    private mutating func number(
        _ planned: [PlannedBlock]
    ) -> [(ordinal: Int, block: PlannedBlock)] {
        defer { blocks += [CodedBlock?](repeating: nil, count: planned.count) }
        return planned.enumerated().map { (blocks.count + $0.offset, $0.element) }
    }

    /// Takes a block back that ``add(_:)`` or ``planRest()`` gave out.
    mutating func add(_ block: CodedBlock, ordinal: Int) {
        blocks[ordinal] = block
        guard !block.isBand else { return }
        for sample in block.kept { decide(sample, isFlow: true) }
        for sample in block.dropped { decide(sample, isFlow: false) }
    }

    private mutating func decide(_ sample: Int, isFlow: Bool) {
        if isFlow {
            samples[sample].outcome = .flow
            samples[sample].bytes = nil
        } else {
            samples[sample].outcome = .stored(reason: "smaller as it was", isProblem: false)
        }
    }

    /// Writes the shard once every block is back.
    consuming func finish() -> ShardEncoder.Shard {
        decideLargeImages()
        var writer = ShardWriter(modelID: modelID)
        var summary = ShardSummary()
        var places = [Range<Int>](repeating: 0..<0, count: samples.count)
        for case let block? in blocks {
            let members = block.kept.filter { samples[$0].isFlow }
            guard !members.isEmpty else { continue }
            let number = writer.appendFlowBlock(
                continuesImage: !places[members[0]].isEmpty,
                count: members.count,
                width: block.width,
                height: block.height,
                payload: block.payload
            )
            summary.flowBytes += block.payload.count
            for sample in members {
                let isFirst = places[sample].isEmpty
                places[sample] = (isFirst ? number : places[sample].lowerBound)..<(number + 1)
            }
        }
        writeStored(&writer, &places)
        for (sample, blocks) in zip(samples, places) {
            let record = sample.record(blocks: blocks)
            writer.append(record)
            summary.count(record)
        }
        let (bytes, sha256) = writer.finish()
        return ShardEncoder.Shard(bytes: bytes, sha256: sha256, summary: summary)
    }

    /// Large images stay in mode flow when their bands together are smaller than the file.
    private mutating func decideLargeImages() {
        var costs: [Int: Int] = [:]
        for case let block? in blocks where block.isBand {
            costs[block.kept[0], default: 0] += block.shardBytes
        }
        for (sample, cost) in costs {
            let limit = samples[sample].sourceBytes - samples[sample].metadata.count
            decide(sample, isFlow: cost < limit)
        }
    }

    private mutating func writeStored(_ writer: inout ShardWriter, _ places: inout [Range<Int>]) {
        var files: [Int] = []
        var payload: [UInt8] = []
        func close() {
            guard !files.isEmpty else { return }
            let number = writer.appendStoredBlock(count: files.count, payload: payload)
            for file in files { places[file] = number..<(number + 1) }
            files.removeAll(keepingCapacity: true)
            payload.removeAll(keepingCapacity: true)
        }
        for index in samples.indices {
            guard case .stored = samples[index].outcome, let bytes = samples[index].bytes else {
                continue
            }
            if payload.count + bytes.count > ShardEncoder.storedBlockBytes { close() }
            files.append(index)
            payload += bytes
            samples[index].bytes = nil
            if files.count == ShardEncoder.storedBlockFiles { close() }
        }
        close()
    }
}

extension ShardAssembly.Sample {
    var isFlow: Bool {
        if case .flow = outcome { true } else { false }
    }

    func record(blocks: Range<Int>) -> SampleRecord {
        switch outcome {
        case .undecided:
            preconditionFailure("every image was decided when its block came back")
        case .flow:
            guard let format, let pixelDigest else {
                preconditionFailure("an image has a format and a pixel digest")
            }
            return .flow(
                name: name,
                format: format,
                sourceBytes: sourceBytes,
                sourceDigest: sourceDigest,
                blocks: blocks,
                width: width,
                height: height,
                pixelDigest: pixelDigest,
                metadata: metadata
            )
        case .stored(let reason, let isProblem):
            return .stored(
                name: name,
                format: format,
                reason: reason,
                isProblem: isProblem,
                sourceBytes: sourceBytes,
                sourceDigest: sourceDigest,
                block: blocks.lowerBound
            )
        case .missing(let reason):
            return .missing(name: name, reason: reason)
        }
    }
}
