internal import CKernelABI

#if arch(x86_64)
internal import KernelsAVX512VNNI
#endif

/// The expanded distributions as the loops of the entropy coder see them.
///
/// Layouts as in `LogisticCDF`. The pointers are borrowed.
package struct DistributionRows {
    package let edges: UnsafePointer<UInt16>
    package let centres: UnsafePointer<Int32>
    package let windows: UnsafePointer<Int32>
    package let quantiles: UnsafePointer<Int32>

    package init(
        edges: UnsafePointer<UInt16>,
        centres: UnsafePointer<Int32>,
        windows: UnsafePointer<Int32>,
        quantiles: UnsafePointer<Int32>
    ) {
        self.edges = edges
        self.centres = centres
        self.windows = windows
        self.quantiles = quantiles
    }

    fileprivate var pointers: CoderRows {
        CoderRows(edges: edges, centres: centres, windows: windows, quantiles: quantiles)
    }
}

/// The distributions of consecutive latents, `count` of each; the pointers are borrowed.
package struct Distributions {
    package let rows: DistributionRows
    /// Means in 1/32 pixel.
    package let means: UnsafePointer<Int16>
    /// Scale indices, below 128.
    package let scales: UnsafePointer<UInt8>
    package let count: Int

    package init(
        rows: DistributionRows,
        means: UnsafePointer<Int16>,
        scales: UnsafePointer<UInt8>,
        count: Int
    ) {
        self.rows = rows
        self.means = means
        self.scales = scales
        self.count = count
    }
}

/// The loops of the entropy coder on vectors, for the instruction sets that have them.
///
/// They compute what the scalar loops of `EntropyCoding` define, and leave to those the groups of
/// 32 symbols in which there is an escape.
package struct VectorCoder: Sendable {
    /// Returns nil for an instruction set without such loops.
    ///
    /// - Precondition: The instruction set is supported.
    package init?(_ isa: InstructionSet) {
        precondition(InstructionSet.supported.contains(isa), "the instruction set is supported")
        guard isa == .avx512vnni || isa == .amx else { return nil }
    }

    /// Writes the interval of each latent, of at most 2^16 at once.
    ///
    /// - Parameters:
    ///   - values: The latents.
    ///   - distributions: Their distributions.
    ///   - costs: `BitCost.steps`.
    ///   - intervals: Receives for each latent its start and its frequency as two UInt16.
    /// - Returns: The sum of their costs, escapes without their raw values, and the escapes.
    package func findIntervals(
        _ values: UnsafePointer<Int16>,
        _ distributions: Distributions,
        costs: UnsafePointer<UInt16>,
        intervals: UnsafeMutableRawPointer
    ) -> (cost: UInt64, escapes: Int) {
        var call = IntervalCall()
        call.rows = distributions.rows.pointers
        call.values = values
        call.means = distributions.means
        call.scales = distributions.scales
        call.count = distributions.count
        call.costs = costs
        call.intervals = intervals.assumingMemoryBound(to: UInt32.self)
        #if arch(x86_64)
        KernelsAVX512VNNI.findIntervals(&call)
        #endif
        return (UInt64(call.cost), call.escapes)
    }

    /// Encodes symbols from the last one down to a group with an escape, or all.
    ///
    /// - Parameters:
    ///   - intervals: The symbols, as of ``findIntervals(_:_:costs:intervals:)``.
    ///   - count: The number of symbols; becomes the number of those that are left.
    ///   - firstLane: The lane of the first symbol, 0…31.
    ///   - states: 32 states by lane.
    ///   - words: The words of the stream, filled from the end.
    ///   - firstWord: The index of the first word; up to 16 words before it are overwritten.
    package func encode(
        _ intervals: UnsafeRawPointer,
        count: inout Int,
        firstLane: Int,
        states: UnsafeMutablePointer<UInt32>,
        words: UnsafeMutablePointer<UInt16>,
        firstWord: inout Int
    ) {
        var call = EncoderCall()
        call.intervals = intervals.assumingMemoryBound(to: UInt32.self)
        call.count = count
        call.firstLane = firstLane
        call.states = states
        call.words = words
        call.firstWord = firstWord
        #if arch(x86_64)
        KernelsAVX512VNNI.encode(&call)
        #endif
        (count, firstWord) = (call.count, call.firstWord)
    }

    /// Decodes latents up to a group with an escape, up to the last word, or all.
    ///
    /// - Parameters:
    ///   - values: Receives the latents of the pass.
    ///   - distributions: Their distributions.
    ///   - index: The latent to begin with, a multiple of 32; becomes that of the first one left.
    ///   - states: 32 states by lane.
    ///   - words: The words of the stream and 32 more.
    ///   - nextWord: The index of the next word; above `wordCount` says that the stream was too short.
    ///   - wordCount: The words of the stream.
    package func decode(
        _ values: UnsafeMutablePointer<Int16>,
        _ distributions: Distributions,
        index: inout Int,
        states: UnsafeMutablePointer<UInt32>,
        words: UnsafePointer<UInt16>,
        nextWord: inout Int,
        wordCount: Int
    ) {
        var call = DecoderCall()
        call.rows = distributions.rows.pointers
        call.values = values
        call.means = distributions.means
        call.scales = distributions.scales
        call.count = distributions.count
        call.index = index
        call.states = states
        call.words = words
        call.nextWord = nextWord
        call.wordCount = wordCount
        #if arch(x86_64)
        KernelsAVX512VNNI.decode(&call)
        #endif
        (index, nextWord) = (call.index, call.nextWord)
    }
}
