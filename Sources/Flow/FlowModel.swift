import Crypto
import Foundation

/// A coupling: shifts the target channels by what a network makes of the context channels.
package struct Coupling: Sendable {
    /// The channels that the network reads, in its input order.
    package let context: [Int]
    /// The channels that are shifted, in the order of the network's result; disjoint from `context`.
    package let target: [Int]
    /// From `context.count` latents to `target.count` translations.
    package let network: Network
}

/// A group of channels that leaves the flow at one level and is coded in one pass.
package struct PriorGroup: Sendable {
    /// Where means and scales come from.
    package enum Prior: Sendable {
        /// A network on the channels before the group: `first` in, `2 · channels` out.
        case network(Network)
        /// The same `2 · channels` numbers at every position.
        case constant([Int16])
    }

    /// The group's first channel in the level's final order; the channels before it are its context.
    package let first: Int
    /// The number of channels n.
    package let channels: Int
    /// n means in 1/32 pixel, then n scale indices, clamped to 0…127 on use.
    package let prior: Prior
}

/// One level of the flow, after its 2×2 squeeze.
package struct Level: Sendable {
    /// Channels after the squeeze.
    package let channels: Int
    /// The couplings in forward order.
    package let couplings: [Coupling]
    /// The final order: new channel i is channel `order[i]` of the couplings' numbering.
    package let order: [Int]
    /// The first `keep` channels of the final order go on to the next level.
    package let keep: Int
    /// The channels behind them, in coding order.
    package let groups: [PriorGroup]
}

/// The size of one pass over a block: every symbol of one group of one level.
package struct PassShape: Equatable, Sendable {
    /// The level, 0 = finest.
    package let level: Int
    /// The group in its level.
    package let group: Int
    /// Positions per row and rows per image at this level.
    package let width: Int
    package let height: Int
    /// Channels of the group.
    package let channels: Int

    /// Symbols of one image.
    package var symbolsPerImage: Int { width * height * channels }
}

/// A flow read from a model file: networks, priors and CDF tables, all checked.
///
/// Nothing in it is a float; a checked model cannot overflow or trap on any image. The file format is
/// `ModelFile.md`.
package final class FlowModel: Sendable {
    /// The version of the format that this reader knows.
    static let format = "1"
    /// The most levels, so that padding stays below 256 pixels.
    static let maximumLevels = 8
    /// The most couplings in one level.
    static let maximumCouplings = 1024
    /// The largest scale index.
    package static let maximumScale: Int16 = 127

    /// SHA-256 of the whole file, 64 lower-case hexadecimal digits.
    package let id: String
    /// The profile's name, such as `fast`.
    package let profile: String
    /// Where the weights come from, JSON text for people and reports; not interpreted.
    package let provenance: String
    /// The colour transform.
    package let colour: ColourTransform
    /// Whether blocks carry corrections of the scales (`Codec.md`).
    package let correctsScales: Bool
    /// Whether blocks carry corrections of the means (`Codec.md`).
    package let correctsMeans: Bool
    /// Whether images are coded mirrored as is cheapest (`Codec.md`).
    package let mirrors: Bool
    /// The levels, finest first.
    package let levels: [Level]
    /// The master logistic table T, 1537 entries from 0 to 65536 (`ModelFile.md` §6).
    package let logistic: [Int32]
    /// The inverse of each of the 128 scales.
    package let inverseScale: [Int32]
    /// The half window of each of the 128 scales.
    package let window: [Int32]

    /// Images are padded right and below to a multiple of this.
    package var paddingMultiple: Int { 1 << levels.count }

    /// The networks' multiply-accumulates per byte of 8-bit RGB, padding excluded.
    package var macsPerByte: Double {
        let side = paddingMultiple
        return Double(macs(width: side, height: side)) / Double(PlanarImage.channels * side * side)
    }

    /// Returns the networks' multiply-accumulates for one image of a size, padding included.
    package func macs(width: Int, height: Int) -> Int {
        var macs = 0
        for (index, level) in levels.enumerated() {
            let positions = (padded(width) >> (index + 1)) * (padded(height) >> (index + 1))
            for coupling in level.couplings { macs += coupling.network.macs * positions }
            for group in level.groups {
                if case .network(let network) = group.prior { macs += network.macs * positions }
            }
        }
        return macs
    }

    /// Returns the passes of a block of images of one size, in decode order.
    ///
    /// - Parameters: the size of the images before padding.
    package func passShapes(width: Int, height: Int) -> [PassShape] {
        let columns = padded(width)
        let rows = padded(height)
        return levels.indices.reversed().flatMap { level in
            levels[level].groups.enumerated().map { group, prior in
                PassShape(
                    level: level,
                    group: group,
                    width: columns >> (level + 1),
                    height: rows >> (level + 1),
                    channels: prior.channels
                )
            }
        }
    }

    /// Returns a side of the padded image.
    func padded(_ side: Int) -> Int {
        (side + paddingMultiple - 1) & ~(paddingMultiple - 1)
    }

    /// Returns the number of a level's first pass in decode order.
    func firstPass(ofLevel level: Int) -> Int {
        levels[(level + 1)...].reduce(0) { $0 + $1.groups.count }
    }

    /// Reads a model file and checks all of it.
    ///
    /// - Parameter bytes: The whole file.
    /// - Throws: `ModelError`, which names the tensor or the field.
    package init(bytes: [UInt8]) throws(ModelError) {
        let file = try TensorFile(bytes)
        func metadata(_ name: String) throws(ModelError) -> String {
            guard let text = file.metadata[name] else {
                throw ModelError(
                    .missing,
                    at: name,
                    "is not in __metadata__; this is no flowpack model file."
                )
            }
            return text
        }
        let format = try metadata("flowpack.format")
        guard format == Self.format else {
            throw ModelError(
                .unsupported,
                at: "flowpack.format",
                "version \"\(format)\"; this flowpack reads \"\(Self.format)\", use a newer one."
            )
        }
        self.profile = try metadata("flowpack.profile")
        self.provenance = try metadata("flowpack.provenance")
        let description = try decodeJSON(
            FlowDescription.self,
            from: Data(try metadata("flowpack.flow").utf8),
            root: "flowpack.flow"
        )
        guard description.channels == PlanarImage.channels else {
            throw ModelError(
                .unsupported,
                at: "flowpack.flow.channels",
                "\(description.channels) channels; this version codes RGB, 3 channels."
            )
        }
        self.colour = description.colour
        self.correctsScales = description.correctsScales
        self.correctsMeans = description.correctsMeans
        self.mirrors = description.mirrors
        self.levels = try Self.levels(description, file: file)
        (self.logistic, self.inverseScale, self.window) = try Self.tables(file)
        self.id = SHA256.hash(data: bytes).hexadecimal
    }
}

extension Sequence<UInt8> {
    fileprivate var hexadecimal: String {
        let digits = Array("0123456789abcdef".utf8)
        let text = flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
        return String(decoding: text, as: UTF8.self)
    }
}

// MARK: - Levels

extension FlowModel {
    private static func levels(
        _ description: FlowDescription,
        file: TensorFile
    ) throws(ModelError) -> [Level] {
        let path = "flowpack.flow.levels"
        guard (1...maximumLevels).contains(description.levels.count) else {
            throw ModelError(
                .outOfRange,
                at: path,
                "\(description.levels.count) levels, not 1…\(maximumLevels)."
            )
        }
        var levels: [Level] = []
        var channels = 4 * description.channels
        for (index, level) in description.levels.enumerated() {
            let isLast = index == description.levels.count - 1
            levels.append(
                try Self.level(
                    level,
                    channels: channels,
                    isLast: isLast,
                    file: file,
                    path: "\(path).\(index)"
                )
            )
            channels = 4 * level.keep
        }
        return levels
    }

    private static func level(
        _ level: LevelDescription,
        channels: Int,
        isLast: Bool,
        file: TensorFile,
        path: String
    ) throws(ModelError) -> Level {
        guard isLast ? level.keep == 0 : (1..<channels).contains(level.keep) else {
            throw ModelError(
                .mismatch,
                at: "\(path).keep",
                isLast
                    ? "the last level keeps \(level.keep) channels, must be 0."
                    : "keeps \(level.keep) of \(channels) channels, must be 1…\(channels - 1)."
            )
        }
        guard level.steps.count <= maximumCouplings else {
            throw ModelError(
                .tooLarge,
                at: "\(path).steps",
                "\(level.steps.count) couplings; a level has at most \(maximumCouplings)."
            )
        }
        var couplings: [Coupling] = []
        for (index, step) in level.steps.enumerated() {
            couplings.append(
                try coupling(step, channels: channels, file: file, path: "\(path).steps.\(index)")
            )
        }
        let order = level.order ?? Array(0..<channels)
        guard order.count == channels, isSelection(order, of: channels) else {
            throw ModelError(
                .mismatch,
                at: "\(path).order",
                "is not a permutation of the level's \(channels) channels."
            )
        }

        var groups: [PriorGroup] = []
        var first = level.keep
        for (index, group) in level.groups.enumerated() {
            let place = "\(path).groups.\(index)"
            guard (1...channels).contains(group.channels), first + group.channels <= channels else {
                throw ModelError(
                    .mismatch,
                    at: place,
                    "has \(group.channels) channels; \(channels - first) of \(channels) are left."
                )
            }
            groups.append(
                PriorGroup(
                    first: first,
                    channels: group.channels,
                    prior: try prior(group, context: first, file: file, path: place)
                )
            )
            first += group.channels
        }
        guard first == channels else {
            throw ModelError(
                .mismatch,
                at: "\(path).groups",
                "keep and groups make \(first) channels, the level has \(channels)."
            )
        }
        return Level(
            channels: channels,
            couplings: couplings,
            order: order,
            keep: level.keep,
            groups: groups
        )
    }

    private static func coupling(
        _ step: StepDescription,
        channels: Int,
        file: TensorFile,
        path: String
    ) throws(ModelError) -> Coupling {
        guard !step.context.isEmpty, !step.target.isEmpty,
            isSelection(step.context + step.target, of: channels)
        else {
            throw ModelError(
                .mismatch,
                at: path,
                "context and target must be disjoint channels of 0..<\(channels), neither empty."
            )
        }
        return Coupling(
            context: step.context,
            target: step.target,
            network: try Network(
                step.network,
                inputChannels: step.context.count,
                outputChannels: step.target.count,
                file: file,
                path: "\(path).network"
            )
        )
    }

    private static func prior(
        _ group: GroupDescription,
        context: Int,
        file: TensorFile,
        path: String
    ) throws(ModelError) -> PriorGroup.Prior {
        switch group.prior {
        case .network(let network):
            guard context > 0 else {
                throw ModelError(
                    .mismatch,
                    at: path,
                    "has no channels before it to condition on; use \"static\"."
                )
            }
            return .network(
                try Network(
                    network,
                    inputChannels: context,
                    outputChannels: 2 * group.channels,
                    file: file,
                    path: "\(path).network"
                )
            )
        case .constant(let name):
            let values = try file.int16(name)
            guard try file.shape(of: name) == [2 * group.channels] else {
                throw ModelError(
                    .mismatch,
                    at: name,
                    "shape \(try file.shape(of: name)), expected [\(2 * group.channels)]."
                )
            }
            return .constant(values)
        }
    }

    /// Returns whether all numbers are different and below `count`.
    private static func isSelection(_ channels: [Int], of count: Int) -> Bool {
        channels.allSatisfy { (0..<count).contains($0) } && Set(channels).count == channels.count
    }
}

// MARK: - CDF tables

extension FlowModel {
    /// The number of scales.
    static let scales = 128
    /// The number of intervals of the master logistic table, 1/64 wide, from −12 to 12.
    static let logisticIntervals = 1536
    /// The largest half window, so that the escape keeps its place in 16 bits.
    static let maximumWindow: Int32 = 4096

    private static func tables(
        _ file: TensorFile
    ) throws(ModelError) -> (logistic: [Int32], inverseScale: [Int32], window: [Int32]) {
        func table(_ name: String, _ count: Int) throws(ModelError) -> [Int32] {
            guard try file.shape(of: name) == [count] else {
                throw ModelError(
                    .mismatch,
                    at: name,
                    "shape \(try file.shape(of: name)), expected [\(count)]."
                )
            }
            return try file.int32(name)
        }
        let logistic = try table("cdf.logistic", logisticIntervals + 1)
        guard logistic.first == 0, logistic.last == 65536,
            zip(logistic, logistic.dropFirst()).allSatisfy({ $0 <= $1 })
        else {
            throw ModelError(
                .outOfRange,
                at: "cdf.logistic",
                "must rise from 0 to 65536 without falling."
            )
        }
        let inverseScale = try table("cdf.inverse_scale", scales)
        let window = try table("cdf.window", scales)
        for (index, (inverse, half)) in zip(inverseScale, window).enumerated() {
            guard inverse > 0 else {
                throw ModelError(
                    .outOfRange,
                    at: "cdf.inverse_scale",
                    "entry \(index) is \(inverse), not above 0."
                )
            }
            guard (1...maximumWindow).contains(half) else {
                throw ModelError(
                    .outOfRange,
                    at: "cdf.window",
                    "entry \(index) is \(half), not 1…\(maximumWindow)."
                )
            }
            guard (32 * Int(half) + 48) * Int(inverse) <= Int(Int32.max) else {
                throw ModelError(
                    .outOfRange,
                    at: "cdf.inverse_scale",
                    "entry \(index) with window \(half) leaves 32 bits; narrow the window."
                )
            }
        }
        return (logistic, inverseScale, window)
    }
}
