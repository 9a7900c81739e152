package import CKernelABI

#if arch(x86_64)
internal import KernelsAVX2
internal import KernelsAVX512VNNI
#endif

/// The loops of the entropy coder on vectors, for the instruction sets that have them.
///
/// They compute what the scalar loops of `EntropyCoding` define, and leave to those the groups of
/// 32 symbols that are not full or have an escape.
package struct VectorCoder: Sendable {
    /// The loops are those of AVX-512, otherwise those of AVX2.
    private let hasAVX512: Bool

    /// Returns nil for an instruction set without such loops.
    ///
    /// - Precondition: The instruction set is supported.
    package init?(_ isa: InstructionSet) {
        precondition(InstructionSet.supported.contains(isa), "the instruction set is supported")
        switch isa {
        case .reference, .sse41, .neon: return nil
        case .avx2, .avxvnni: hasAVX512 = false
        case .avx512vnni, .amx: hasAVX512 = true
        }
    }

    /// Writes the intervals of the first latents, as many as fill vectors, of at most 2^16 at once.
    ///
    /// - Parameters:
    ///   - values: The latents.
    ///   - distributions: Their distributions.
    ///   - costs: `BitCost.steps`.
    ///   - intervals: Receives for each latent its start and its frequency as two UInt16.
    /// - Returns: How many latents they are, the sum of their costs, escapes without their raw
    ///   values, and the number of escapes.
    package func findIntervals(
        _ values: UnsafePointer<Int16>,
        _ distributions: Distributions,
        costs: UnsafePointer<Int32>,
        intervals: UnsafeMutableRawPointer
    ) -> (count: Int, cost: UInt32, escapes: Int) {
        #if arch(x86_64)
        let find =
            hasAVX512 ? KernelsAVX512VNNI.findIntervals : KernelsAVX2.findIntervals
        return find(values, distributions, costs, intervals)
        #else
        preconditionFailure("an instruction set with vector loops is one of x86")
        #endif
    }

    /// Encodes full groups of 32 lanes, the last one first, up to one that has an escape.
    ///
    /// - Parameters:
    ///   - intervals: The symbols, as of ``findIntervals(_:_:costs:intervals:)``.
    ///   - count: The number of symbols; becomes the number of those that are left, which is all of
    ///     them where the last group is not full.
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
        #if arch(x86_64)
        let encode = hasAVX512 ? KernelsAVX512VNNI.encode : KernelsAVX2.encode
        encode(intervals, &count, firstLane, states, words, &firstWord)
        #else
        preconditionFailure("an instruction set with vector loops is one of x86")
        #endif
    }

    /// Decodes full groups of 32 lanes, up to one that has an escape, or up to the last word.
    ///
    /// - Parameters:
    ///   - values: Receives the latents of the pass.
    ///   - distributions: Their distributions.
    ///   - index: The latent to begin with, a multiple of 32; becomes that of the first one left.
    ///   - states: 32 states by lane.
    ///   - words: The words of the stream and 32 more.
    ///   - nextWord: The index of the next word; above `wordCount`, the stream was too short.
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
        #if arch(x86_64)
        let decode = hasAVX512 ? KernelsAVX512VNNI.decode : KernelsAVX2.decode
        decode(values, distributions, &index, states, words, &nextWord, wordCount)
        #else
        preconditionFailure("an instruction set with vector loops is one of x86")
        #endif
    }
}
