import EntropyCoding
package import Raster

/// Restores the samples of a shard.
package struct ShardDecoder: Sendable {
    package let reader: ShardReader
    private let codec: any BlockCoding

    /// A decoder of a shard's samples.
    ///
    /// - Throws: When the shard was coded by another model than the codec's.
    package init(reader: ShardReader, codec: any BlockCoding) throws(ArchiveError) {
        guard reader.modelID == codec.modelID else {
            throw ArchiveError(.otherModel(reader.modelID), in: .header, at: 8)
        }
        self.reader = reader
        self.codec = codec
    }

    /// The pixels of a sample in mode flow, their digest checked; decodes its blocks only.
    package func image(at number: Int) throws(ArchiveError) -> Image {
        let sample = reader.samples[number]
        precondition(sample.mode == .flow, "only samples in mode flow have pixels")
        var bands: [Image] = []
        for block in sample.blocks {
            let images = try decode(block: block)
            for (member, image) in zip(reader.members[block], images) where member == number {
                bands.append(image)
            }
        }
        return try checked(Image(bands: bands), number)
    }

    /// The file of a sample: in mode stored the source file itself; in mode flow one with the same
    /// pixels and metadata; nil in mode missing.
    package func file(at number: Int) throws(ArchiveError) -> [UInt8]? {
        let sample = reader.samples[number]
        switch sample.mode {
        case .missing:
            return nil
        case .flow:
            return try file(of: try image(at: number), number)
        case .stored:
            let block = sample.blocks.lowerBound
            let start = reader.members[block].prefix { $0 != number }
                .reduce(0) { $0 + reader.samples[$1].sourceBytes }
            let payload = try reader.payload(ofBlock: block)
            return try checked(payload[start..<(start + sample.sourceBytes)], number)
        }
    }

    /// Decodes every sample that is not missing and checks its digest.
    ///
    /// - Parameter threads: Most child tasks at a time, at least 1.
    /// - Returns: What is wrong, by the sample's number; empty for a sound shard.
    /// - Throws: `CancellationError`.
    package func verify(threads: Int) async throws -> [Int: ArchiveError] {
        var failures: [Int: ArchiveError] = [:]
        try await forEachUnit(threads: threads) { unit in
            contents(of: unit).compactMap { number, content in
                if case .failure(let error) = content { (number, error) } else { nil }
            }
        } deliver: { found in
            for (number, error) in found { failures[number] = error }
        }
        return failures
    }

    /// Restores the files of samples.
    ///
    /// A damaged block costs the samples in it and no others.
    ///
    /// - Parameters:
    ///   - threads: Most child tasks at a time, at least 1.
    ///   - isWanted: Says for a sample's number whether to restore it.
    ///   - body: Takes a sample's number with its file, or with what is wrong; called from child
    ///     tasks, in no particular order, never for missing samples.
    /// - Throws: What `body` throws, and `CancellationError`.
    package func restore(
        threads: Int,
        where isWanted: @escaping @Sendable (Int) -> Bool = { _ in true },
        body: @escaping @Sendable (Int, Result<[UInt8], ArchiveError>) throws -> Void
    ) async throws {
        try await forEachUnit(threads: threads) { unit in
            guard members(of: unit).contains(where: isWanted) else { return }
            for (number, content) in contents(of: unit) where isWanted(number) {
                let restored = Result { () throws(ArchiveError) -> [UInt8] in
                    switch try content.get() {
                    case .image(let image): try file(of: image, number)
                    case .file(let bytes): bytes
                    }
                }
                try body(number, restored)
            }
        } deliver: { _ in
        }
    }
}

// MARK: - Decoding

extension ShardDecoder {
    /// Work that decodes each block it needs once.
    private enum Unit: Sendable {
        /// All samples of a block.
        case block(Int)
        /// An image in bands.
        case bands(sample: Int)
    }

    /// What decoding gives: pixels in mode flow, the file in mode stored.
    private enum Content {
        case image(Image)
        case file([UInt8])
    }

    private var units: [Unit] {
        reader.blocks.indices.compactMap { block in
            let first = reader.members[block][0]
            let blocks = reader.samples[first].blocks
            if blocks.count == 1 { return .block(block) }
            return block == blocks.lowerBound ? .bands(sample: first) : nil
        }
    }

    private func members(of unit: Unit) -> [Int] {
        switch unit {
        case .block(let block): reader.members[block]
        case .bands(let sample): [sample]
        }
    }

    /// Runs work for each unit in child tasks and hands on what it returns, in no order.
    private func forEachUnit<Value: Sendable>(
        threads: Int,
        _ work: @escaping @Sendable (Unit) throws -> Value,
        deliver: (Value) -> Void
    ) async throws {
        precondition(threads >= 1, "work needs a thread")
        try await withThrowingTaskGroup(of: Value.self) { group in
            for (index, unit) in units.enumerated() {
                if index >= threads, let value = try await group.next() { deliver(value) }
                try Task.checkCancellation()
                group.addTask { try work(unit) }
            }
            for try await value in group { deliver(value) }
        }
    }

    private func contents(of unit: Unit) -> [(Int, Result<Content, ArchiveError>)] {
        switch unit {
        case .bands(let sample):
            [(sample, Result { () throws(ArchiveError) in .image(try image(at: sample)) })]
        case .block(let block) where reader.blocks[block].kind == .flow:
            contents(ofFlowBlock: block)
        case .block(let block):
            contents(ofStoredBlock: block)
        }
    }

    private func contents(ofFlowBlock block: Int) -> [(Int, Result<Content, ArchiveError>)] {
        let members = reader.members[block]
        do {
            return zip(members, try decode(block: block)).map { number, image in
                (number, Result { () throws(ArchiveError) in .image(try checked(image, number)) })
            }
        } catch {
            return members.map { ($0, .failure(error)) }
        }
    }

    private func contents(ofStoredBlock block: Int) -> [(Int, Result<Content, ArchiveError>)] {
        let members = reader.members[block]
        do {
            var rest = try reader.payload(ofBlock: block)[...]
            return members.map { number in
                let file = rest.prefix(reader.samples[number].sourceBytes)
                rest = rest[file.endIndex...]
                return (
                    number, Result { () throws(ArchiveError) in .file(try checked(file, number)) }
                )
            }
        } catch {
            return members.map { ($0, .failure(error)) }
        }
    }

    private func decode(block number: Int) throws(ArchiveError) -> [Image] {
        let header = reader.blocks[number]
        let payload = try reader.payload(ofBlock: number)
        do {
            return try codec.decode(
                payload,
                count: header.count,
                width: header.width,
                height: header.height
            )
        } catch {
            throw ArchiveError(
                .corruptStream(error),
                in: .block(number),
                at: reader.payloadOffset(ofBlock: number) + error.byteOffset
            )
        }
    }

    private func checked(_ image: Image, _ number: Int) throws(ArchiveError) -> Image {
        guard SampleDigest(of: image.samples) == reader.samples[number].pixelDigest else {
            throw mismatch(number)
        }
        return image
    }

    private func checked(_ file: ArraySlice<UInt8>, _ number: Int) throws(ArchiveError) -> [UInt8] {
        let bytes = Array(file)
        guard SampleDigest(of: bytes) == reader.samples[number].sourceDigest else {
            throw mismatch(number)
        }
        return bytes
    }

    private func mismatch(_ number: Int) -> ArchiveError {
        let sample = reader.samples[number]
        return ArchiveError(
            .digestMismatch,
            in: .sample(sample.name),
            at: reader.payloadOffset(ofBlock: sample.blocks.lowerBound)
        )
    }

    private func file(of image: Image, _ number: Int) throws(ArchiveError) -> [UInt8] {
        let sample = reader.samples[number]
        do {
            return sample.format == .pnm
                ? try PNM.write(image, metadata: sample.metadata)
                : try PNG.write(image, metadata: sample.metadata)
        } catch {
            throw ArchiveError(
                .corruptMetadata(error),
                in: .sample(sample.name),
                at: reader.recordOffset(ofSample: number)
            )
        }
    }
}
