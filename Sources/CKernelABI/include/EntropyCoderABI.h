// What the vector loops of the entropy coder and their caller share: the call structures, and the
// operations on 16 lanes of the instruction set being compiled for. The stream: EntropyCoding.docc.

#ifndef ENTROPYCODERABI_H
#define ENTROPYCODERABI_H

#include <stdint.h>

// ------------------------------------------------------------------------------------------
// The calls
// ------------------------------------------------------------------------------------------

/// The expanded distributions; a row is one of 128 scales and 32 phases, `32·scale + phase`.
typedef struct CoderRows {
    /// Lower edges of the bins, all rows one after another; see `LogisticCDF`.
    const uint16_t *edges;
    /// Where each row has its bin 0, as an index into `edges`: `[row]`.
    const int32_t *centres;
    /// The bins to each side of bin 0: `[scale]`.
    const int32_t *windows;
    /// Where a bucket's first slot is, in 1/32 pixel from the mean: `[scale][bucket]`.
    const int32_t *quantiles;
} CoderRows;

/// Finding the intervals of at most 2^16 latents.
typedef struct IntervalCall {
    CoderRows rows;
    const int16_t *values, *means;
    const uint8_t *scales;
    intptr_t count;
    /// The costs of 2^15 to 2^16 - 1 in 512 steps; see `BitCost`.
    const uint16_t *costs;
    /// Receives for each latent the start in the lower and the frequency in the upper half.
    uint32_t *intervals;
    /// Receives the sum of the costs, escapes without their raw values, and the number of escapes.
    uint32_t cost;
    intptr_t escapes;
} IntervalCall;

/// Encoding intervals from the last to the first.
typedef struct EncoderCall {
    /// As of `IntervalCall`.
    const uint32_t *intervals;
    /// How many there are; receives how many are left, up to a group of lanes with an escape.
    intptr_t count;
    /// The lane of the first one, 0…31.
    intptr_t firstLane;
    /// 32 states by lane.
    uint32_t *states;
    /// The words, filled from the end; 16 words before the first one are overwritten.
    uint16_t *words;
    /// The index of the first word.
    intptr_t firstWord;
} EncoderCall;

/// Decoding latents.
typedef struct DecoderCall {
    CoderRows rows;
    int16_t *values;
    const int16_t *means;
    const uint8_t *scales;
    intptr_t count;
    /// The latent to begin with, a multiple of 32; receives where decoding stopped.
    intptr_t index;
    /// 32 states by lane.
    uint32_t *states;
    /// The words of the stream; 32 more can be read.
    const uint16_t *words;
    /// The index of the next word.
    intptr_t nextWord;
    intptr_t wordCount;
} DecoderCall;

// ------------------------------------------------------------------------------------------
// Vector operations
// ------------------------------------------------------------------------------------------

#if defined(__AVX512VNNI__)
#include <immintrin.h>

#define CODER_INLINE static inline __attribute__((always_inline))

/// 16 lanes of 32 bits.
typedef uint32_t coder_lanes __attribute__((vector_size(64)));

/// One bit for each lane, lane 0 lowest.
typedef uint16_t coder_mask;

// Memory. Lanes that are not `active` are neither read nor written, and read as 0.

CODER_INLINE coder_lanes coder_load(const uint32_t *source) {
    return (coder_lanes)_mm512_loadu_si512(source);
}
CODER_INLINE coder_lanes coder_load_active(const uint32_t *source, coder_mask active) {
    return (coder_lanes)_mm512_maskz_loadu_epi32(active, source);
}
CODER_INLINE coder_lanes coder_load_words(const int16_t *source, coder_mask active) {
    return (coder_lanes)_mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(active, source));
}
CODER_INLINE coder_lanes coder_load_bytes(const uint8_t *source, coder_mask active) {
    return (coder_lanes)_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(active, source));
}
CODER_INLINE void coder_store(uint32_t *destination, coder_lanes a) {
    _mm512_storeu_si512(destination, (__m512i)a);
}
CODER_INLINE void coder_store_active(uint32_t *destination, coder_lanes a, coder_mask active) {
    _mm512_mask_storeu_epi32(destination, active, (__m512i)a);
}
CODER_INLINE void coder_store_words(int16_t *destination, coder_lanes a, coder_mask active) {
    _mm256_mask_storeu_epi16(destination, active, _mm512_cvtepi32_epi16((__m512i)a));
}

// Tables.

CODER_INLINE coder_lanes coder_gather(const int32_t *table, coder_lanes index) {
    return (coder_lanes)_mm512_i32gather_epi32((__m512i)index, table, 4);
}
/// Entries `index` and `index + 1`, the former in the lower half; `other` where not `active`.
CODER_INLINE coder_lanes coder_gather_pairs(
    const void *table, coder_lanes index, coder_lanes other, coder_mask active) {
    return (coder_lanes)_mm512_mask_i32gather_epi32(
        (__m512i)other, active, (__m512i)index, table, 2);
}
/// Entries `index` to `index + 3` of lanes 0…7, two lanes of the result for each.
CODER_INLINE coder_lanes coder_gather_low_quads(const void *table, coder_lanes index) {
    return (coder_lanes)_mm512_i32gather_epi64(
        _mm512_castsi512_si256((__m512i)index), table, 2);
}
/// Entries `index` to `index + 3` of lanes 8…15.
CODER_INLINE coder_lanes coder_gather_high_quads(const void *table, coder_lanes index) {
    return (coder_lanes)_mm512_i32gather_epi64(
        _mm512_extracti64x4_epi64((__m512i)index, 1), table, 2);
}
/// The first two entries of each lane's quad.
CODER_INLINE coder_lanes coder_first_pairs(coder_lanes low, coder_lanes high) {
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return (coder_lanes)_mm512_permutex2var_epi32((__m512i)low, even, (__m512i)high);
}
/// The last two entries of each lane's quad.
CODER_INLINE coder_lanes coder_last_pairs(coder_lanes low, coder_lanes high) {
    const __m512i odd =
        _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return (coder_lanes)_mm512_permutex2var_epi32((__m512i)low, odd, (__m512i)high);
}

// Arithmetic, modulo 2^32.

CODER_INLINE coder_lanes coder_broadcast(uint32_t value) {
    return (coder_lanes)_mm512_set1_epi32((int32_t)value);
}
CODER_INLINE coder_lanes coder_add(coder_lanes a, coder_lanes b) { return a + b; }
CODER_INLINE coder_lanes coder_subtract(coder_lanes a, coder_lanes b) { return a - b; }
CODER_INLINE coder_lanes coder_multiply(coder_lanes a, coder_lanes b) { return a * b; }
CODER_INLINE coder_lanes coder_and(coder_lanes a, coder_lanes b) { return a & b; }
CODER_INLINE coder_lanes coder_or(coder_lanes a, coder_lanes b) { return a | b; }
CODER_INLINE coder_lanes coder_minimum(coder_lanes a, coder_lanes b) {
    return (coder_lanes)_mm512_min_epu32((__m512i)a, (__m512i)b);
}
CODER_INLINE coder_lanes coder_maximum(coder_lanes a, coder_lanes b) {
    return (coder_lanes)_mm512_max_epu32((__m512i)a, (__m512i)b);
}
CODER_INLINE coder_lanes coder_magnitude(coder_lanes a) {
    return (coder_lanes)_mm512_abs_epi32((__m512i)a);
}
CODER_INLINE coder_lanes coder_shift_left(coder_lanes a, uint32_t count) { return a << count; }
CODER_INLINE coder_lanes coder_shift_right(coder_lanes a, uint32_t count) { return a >> count; }
CODER_INLINE coder_lanes coder_shift_left_each(coder_lanes a, coder_lanes counts) {
    return (coder_lanes)_mm512_sllv_epi32((__m512i)a, (__m512i)counts);
}
CODER_INLINE coder_lanes coder_leading_zeros(coder_lanes a) {
    return (coder_lanes)_mm512_lzcnt_epi32((__m512i)a);
}
CODER_INLINE coder_lanes coder_shift_right_signed(coder_lanes a, uint32_t count) {
    return (coder_lanes)_mm512_srai_epi32((__m512i)a, count);
}
/// The bits of the lanes as floating-point numbers; exact below 2^24.
CODER_INLINE coder_lanes coder_float_bits(coder_lanes a) {
    return (coder_lanes)_mm512_cvtepi32_ps((__m512i)a);
}
/// a / b rounded down, or one less; a / b is below 2^16 and b too.
///
/// With both roundings toward zero, a and the quotient lose less than 2^-23 of themselves each.
/// So the result before it is truncated is at most a / b and more than a / b - 2^16 · 2^-22.
CODER_INLINE coder_lanes coder_divide(coder_lanes a, coder_lanes b) {
    const __m512 quotient = _mm512_div_round_ps(
        _mm512_cvt_roundepu32_ps((__m512i)a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC),
        _mm512_cvtepu32_ps((__m512i)b), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    return (coder_lanes)_mm512_cvttps_epu32(quotient);
}

// Masks.

static const coder_mask coder_all = 0xffff;
/// The first lanes, as many as `count`, which may be negative or more than 16.
CODER_INLINE coder_mask coder_first_lanes(intptr_t count) {
    return count >= 16 ? 0xffff : count <= 0 ? 0 : (coder_mask)((1u << count) - 1);
}
CODER_INLINE intptr_t coder_count(coder_mask mask) { return __builtin_popcount(mask); }
CODER_INLINE coder_mask coder_equal(coder_lanes a, coder_lanes b, coder_mask active) {
    return _mm512_mask_cmpeq_epu32_mask(active, (__m512i)a, (__m512i)b);
}
CODER_INLINE coder_mask coder_less(coder_lanes a, coder_lanes b, coder_mask active) {
    return _mm512_mask_cmplt_epu32_mask(active, (__m512i)a, (__m512i)b);
}
CODER_INLINE coder_mask coder_less_or_equal(coder_lanes a, coder_lanes b, coder_mask active) {
    return _mm512_mask_cmple_epu32_mask(active, (__m512i)a, (__m512i)b);
}
CODER_INLINE coder_lanes coder_select(coder_mask mask, coder_lanes a, coder_lanes b) {
    return (coder_lanes)_mm512_mask_blend_epi32(mask, (__m512i)b, (__m512i)a);
}

// Words of the stream.

/// The words from `source` on, one after another, in the lanes that are `active`.
CODER_INLINE coder_lanes coder_take_words(const uint16_t *source, coder_mask active) {
    const __m512i words =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)source));
    return (coder_lanes)_mm512_maskz_expand_epi32(active, words);
}
/// Stores the lower halves of the lanes that are `active` so that they end before `end`.
///
/// What lies before them, up to 16 words before `end`, is overwritten.
CODER_INLINE void coder_prepend_words(uint16_t *end, coder_lanes a, coder_mask active) {
    const __m512i first = _mm512_maskz_compress_epi32(active, (__m512i)a);
    const __m512i lane =
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    // Indices count modulo 16, so this rotates the words to the end.
    const __m512i index = _mm512_add_epi32(lane, _mm512_set1_epi32(__builtin_popcount(active)));
    const __m512i last = _mm512_permutexvar_epi32(index, first);
    _mm256_storeu_si256((__m256i *)(end - 16), _mm512_cvtepi32_epi16(last));
}

CODER_INLINE uint32_t coder_total(coder_lanes a) {
    return (uint32_t)_mm512_reduce_add_epi32((__m512i)a);
}

#endif  // __AVX512VNNI__

#endif  // ENTROPYCODERABI_H
