import Archive
import Codec
import CrashPoints
import Dataset
package import JobProtocol
import Raster
import Synchronization

/// Why a shard was not done.
package struct JobRunError: Error, Equatable, Sendable {
    package enum Reason: Equatable, Sendable {
        /// To be reported to the coordinator.
        case failed(FailureClass)
        /// The lease is gone: report nothing.
        case lost
    }

    package let reason: Reason
    /// What failed and where, for people.
    package let message: String
    /// The destination's device or quota is full.
    package let isNoSpace: Bool

    package init(_ reason: Reason, _ message: String, isNoSpace: Bool = false) {
        self.reason = reason
        self.message = message
        self.isNoSpace = isNoSpace
    }
}

extension JobRunError {
    fileprivate init(_ error: DataPlaneError) {
        self.init(
            error.reason == .lost ? .lost : .failed(.transient),
            error.message,
            isNoSpace: error.reason == .noSpace
        )
    }
}

/// One shard, or a probe of some of its samples, top to bottom: read, encode, verify, place.
///
/// Nothing is placed that was not decoded on another kernel path and compared with the source, and
/// nothing while it is uncertain whether the lease is still held.
package struct JobRun: Sendable {
    /// From this lease of a shard on, a file that cannot be read is missing, whatever the reason:
    /// an error that may pass has had its chances, and a job must end.
    static let lastPatientLease: UInt32 = 3

    private let lease: Lease
    private let models: ModelStore
    private let keeper: LeaseKeeper
    private let plane: any DataPlane
    /// Tasks at a time.
    private let threads: Int

    package init(
        lease: Lease,
        models: ModelStore,
        keeper: LeaseKeeper,
        plane: any DataPlane,
        threads: Int
    ) {
        self.lease = lease
        self.models = models
        self.keeper = keeper
        self.plane = plane
        self.threads = threads
    }

    /// What to report of a lease that went well.
    package enum Outcome: Sendable {
        case completed(Completion)
        /// The worker survived a probe.
        case cleared(ClearRequest)
    }

    /// Does what the lease asks for and returns what to report.
    ///
    /// - Returns: What to hand in.
    /// - Throws: ``JobRunError``, or `CancellationError` when the task is cancelled.
    package func run() async throws -> Outcome {
        let start = monotonicSeconds()
        let model = try await loadModel()
        let sources = SourceChecks(count: lease.samples.count)
        let shard = try await encode(model, sources)
        CrashPoint.reached(.afterEncoding)
        try await verify(shard, model, sources)
        CrashPoint.reached(.afterVerifying)
        guard lease.purpose == .shard else { return .cleared(ClearRequest(lease: lease.lease)) }
        try await place(shard)
        return .completed(completion(of: shard, seconds: monotonicSeconds() - start))
    }

    private func loadModel() async throws(JobRunError) -> ModelStore.Loaded {
        do {
            return try await models.model(id: lease.modelID, from: plane)
        } catch {
            // A file that is there but does not read may read later or elsewhere.
            throw JobRunError(
                .failed(error.reason == .unreadable ? .transient : .config),
                error.message
            )
        }
    }

    /// A codec whose blocks count as steps of the lease.
    private func observed(_ codec: BlockCodec) -> ObservedCodec {
        ObservedCodec(codec: codec) { [keeper, lease = lease.lease] in keeper.advance(lease) }
    }

    // MARK: - Reading and encoding

    /// What each sample of the source was, as seen before encoding.
    private final class SourceChecks: Sendable {
        struct Check: Equatable {
            let name: String
            /// Of the file; nil when it could not be read.
            let file: SampleDigest?
            /// Of the pixels and of the metadata of an image that the model may take.
            let pixels: SampleDigest?
            let metadata: Digest?
        }

        private let checks: Mutex<[Check?]>

        init(count: Int) {
            checks = Mutex([Check?](repeating: nil, count: count))
        }

        func note(_ check: Check, at index: Int) {
            checks.withLock { $0[index] = check }
        }

        /// Whether a record describes this sample.
        func match(_ record: SampleRecord, at index: Int) -> Bool {
            guard let check = checks.withLock({ $0[index] }), check.name == record.name,
                check.file == record.sourceDigest
            else { return false }
            return switch record.mode {
            case .missing, .stored: true
            case .flow:
                check.pixels != nil && check.pixels == record.pixelDigest
                    && check.metadata == Digest(of: record.metadata)
            }
        }
    }

    private func encode(
        _ model: ModelStore.Loaded,
        _ sources: SourceChecks
    ) async throws -> ShardEncoder.Shard {
        do {
            try await plane.checkSource()
        } catch {
            throw JobRunError(error)
        }
        return try await ShardEncoder(codec: observed(model.codec)).encode(
            count: lease.samples.count,
            threads: threads
        ) { index in
            let input = try await read(lease.samples[index].name, index)
            var pixels: SampleDigest?
            var metadata: Digest?
            if case .image(let decoded) = input.content {
                pixels = SampleDigest(of: decoded.image.samples)
                metadata = Digest(of: decoded.metadata)
            }
            var file: SampleDigest? = SampleDigest(of: input.bytes)
            if case .missing = input.content { file = nil }
            sources.note(
                .init(name: input.name, file: file, pixels: pixels, metadata: metadata),
                at: index
            )
            keeper.advance(lease.lease, samples: 1, sourceBytes: Int64(input.bytes.count))
            return input
        }
    }

    private func read(
        _ name: String,
        _ index: Int
    ) async throws(JobRunError) -> ShardEncoder.Input {
        let bytes: [UInt8]
        do {
            bytes = try await plane.read(index)
        } catch {
            let isLastTry = lease.lease.fence.counter >= Self.lastPatientLease
            guard case .sample(let isPermanent) = error.reason, isPermanent || isLastTry else {
                throw JobRunError(error)
            }
            return ShardEncoder.Input(
                name: name,
                bytes: [],
                format: nil,
                content: .missing(reason: error.message)
            )
        }
        guard !lease.verbatim.contains(index) else {
            return ShardEncoder.Input(
                name: name,
                bytes: bytes,
                format: ImageFormat.sniff(bytes),
                content: .stored(reason: "workers were lost on it", isProblem: true)
            )
        }
        let found = classify(name: name, bytes: bytes)
        let content: ShardEncoder.Input.Content =
            switch found.content {
            case .image(let image): .image(image)
            case .stored(let reason):
                .stored(reason: "\(reason)", isProblem: reason.isProblem)
            }
        return ShardEncoder.Input(name: name, bytes: bytes, format: found.format, content: content)
    }

    // MARK: - Verifying and placing

    /// Opens the bytes as a reader would, decodes every block on another kernel path and compares
    /// every pixel and byte, by SHA-256, with what was read from the source.
    private func verify(
        _ shard: ShardEncoder.Shard,
        _ model: ModelStore.Loaded,
        _ sources: SourceChecks
    ) async throws {
        let reader: ShardReader
        let decoder: ShardDecoder
        do {
            reader = try ShardReader(shard.bytes)
            try reader.checkDigest()
            decoder = try ShardDecoder(reader: reader, codec: observed(model.verifier))
        } catch {
            throw JobRunError(.failed(.integrity), "The new shard does not open: \(error).")
        }
        let isComplete =
            reader.samples.count == lease.samples.count
            && reader.samples.indices.allSatisfy { sources.match(reader.samples[$0], at: $0) }
        guard isComplete else {
            throw JobRunError(.failed(.integrity), "The new shard's index is not the source's.")
        }
        if let failure = try await decoder.verify(threads: threads).min(by: { $0.key < $1.key }) {
            throw JobRunError(
                .failed(.integrity),
                "The new shard does not decode to its source: \(failure.value)"
            )
        }
    }

    private func place(_ shard: ShardEncoder.Shard) async throws {
        try Task.checkCancellation()
        guard await keeper.settledStanding(of: lease.lease) == .held else {
            throw JobRunError(.lost, "The lease \(lease.lease) is no longer held.")
        }
        do {
            try await plane.place(shard.bytes, sha256: shard.sha256.hex)
        } catch {
            throw JobRunError(error)
        }
    }

    private func completion(of shard: ShardEncoder.Shard, seconds: Double) -> Completion {
        let summary = shard.summary
        let storedBytes = summary.sourceBytes - summary.flowSourceBytes
        return Completion(
            lease: lease.lease,
            sha256: shard.sha256.hex,
            bytes: Int64(shard.bytes.count),
            totals: ShardTotals(
                samples: summary.samples,
                flowSamples: summary.flowSamples,
                storedSamples: summary.storedSamples,
                sourceBytes: Int64(summary.sourceBytes),
                flowDimensions: Int64(summary.flowDimensions),
                // Everything in the file but stored files: headers, index and metadata count.
                flowBytes: summary.flowSamples == 0 ? 0 : Int64(shard.bytes.count - storedBytes),
                storedReasons: summary.storedReasons
            ),
            problems: summary.problems.map { SampleProblem(name: $0.name, reason: $0.reason) },
            seconds: seconds
        )
    }
}
