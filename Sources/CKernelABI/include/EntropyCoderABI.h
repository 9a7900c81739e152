// What the vector loops of the entropy coder and their callers share: the distributions, and the
// operations on 16 lanes of the instruction set being compiled for. The stream: EntropyCoding.docc.

#ifndef ENTROPYCODERABI_H
#define ENTROPYCODERABI_H

#include <stdint.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#pragma clang assume_nonnull begin

// ------------------------------------------------------------------------------------------
// Distributions
// ------------------------------------------------------------------------------------------

/// The expanded distributions; a row is one of 128 scales and 32 phases, `32·scale + phase`.
///
/// Layouts as in `LogisticCDF`. The pointers are borrowed.
typedef struct DistributionRows {
    /// Lower edges of the bins, all rows one after another.
    const uint16_t *edges;
    /// Where each row has its bin 0, as an index into `edges`: `[row]`.
    const int32_t *centres;
    /// The bins to each side of bin 0: `[scale]`.
    const int32_t *windows;
    /// Where a bucket's first slot is, in 1/32 pixel from the mean: `[scale][bucket]`.
    const int32_t *quantiles;
} DistributionRows;

/// The distributions of consecutive latents, `count` of each; the pointers are borrowed.
typedef struct Distributions {
    DistributionRows rows;
    /// Means in 1/32 pixel.
    const int16_t *means;
    /// Scale indices, below 128.
    const uint8_t *scales;
    intptr_t count;
} Distributions;

// ------------------------------------------------------------------------------------------
// Vector operations
// ------------------------------------------------------------------------------------------

#if defined(__AVX2__)

#define CODER_INLINE static inline __attribute__((always_inline))

// How vectors longer than a register are passed is of no concern: no call of these is left.
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpsabi"

/// 16 lanes of 32 bits: one register with AVX-512, two with AVX2.
typedef uint32_t coder_lanes __attribute__((vector_size(64)));
typedef int32_t coder_signed_lanes __attribute__((vector_size(64)));
typedef float coder_float_lanes __attribute__((vector_size(64)));
typedef int16_t coder_words __attribute__((vector_size(32)));
typedef uint8_t coder_bytes __attribute__((vector_size(16)));

/// All ones in the lanes for which something holds, 0 in the others.
typedef coder_lanes coder_mask;

// Halves: lanes 0…7 and 8…15.

CODER_INLINE __m256i coder_low(coder_lanes a) {
    return (__m256i)__builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7);
}
CODER_INLINE __m256i coder_high(coder_lanes a) {
    return (__m256i)__builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15);
}
CODER_INLINE coder_lanes coder_join(__m256i low, __m256i high) {
    return (coder_lanes)__builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
}

// Memory.

CODER_INLINE coder_lanes coder_load(const void *source) {
    coder_lanes a;
    __builtin_memcpy(&a, source, sizeof a);
    return a;
}
CODER_INLINE coder_lanes coder_load_words(const int16_t *source) {
    coder_words words;
    __builtin_memcpy(&words, source, sizeof words);
    return (coder_lanes)__builtin_convertvector(words, coder_signed_lanes);
}
CODER_INLINE coder_lanes coder_load_bytes(const uint8_t *source) {
    coder_bytes bytes;
    __builtin_memcpy(&bytes, source, sizeof bytes);
    return __builtin_convertvector(bytes, coder_lanes);
}
CODER_INLINE void coder_store(void *destination, coder_lanes a) {
    __builtin_memcpy(destination, &a, sizeof a);
}
CODER_INLINE void coder_store_words(int16_t *destination, coder_lanes a) {
    const coder_words words = __builtin_convertvector(a, coder_words);
    __builtin_memcpy(destination, &words, sizeof words);
}

// Arithmetic, modulo 2^32.

CODER_INLINE coder_lanes coder_broadcast(uint32_t value) { return (coder_lanes){} + value; }
CODER_INLINE coder_lanes coder_add(coder_lanes a, coder_lanes b) { return a + b; }
CODER_INLINE coder_lanes coder_subtract(coder_lanes a, coder_lanes b) { return a - b; }
CODER_INLINE coder_lanes coder_multiply(coder_lanes a, coder_lanes b) { return a * b; }
CODER_INLINE coder_lanes coder_and(coder_lanes a, coder_lanes b) { return a & b; }
CODER_INLINE coder_lanes coder_or(coder_lanes a, coder_lanes b) { return a | b; }
CODER_INLINE coder_lanes coder_minimum(coder_lanes a, coder_lanes b) {
    return __builtin_elementwise_min(a, b);
}
CODER_INLINE coder_lanes coder_maximum(coder_lanes a, coder_lanes b) {
    return __builtin_elementwise_max(a, b);
}
CODER_INLINE coder_lanes coder_magnitude(coder_lanes a) {
    return (coder_lanes)__builtin_elementwise_abs((coder_signed_lanes)a);
}
CODER_INLINE coder_lanes coder_shift_left(coder_lanes a, uint32_t count) { return a << count; }
CODER_INLINE coder_lanes coder_shift_right(coder_lanes a, uint32_t count) { return a >> count; }
CODER_INLINE coder_lanes coder_shift_right_signed(coder_lanes a, uint32_t count) {
    return (coder_lanes)((coder_signed_lanes)a >> (int32_t)count);
}
/// The bits of the lanes as floating-point numbers; exact up to 2^24.
CODER_INLINE coder_lanes coder_float_bits(coder_lanes a) {
    return (coder_lanes)__builtin_convertvector((coder_signed_lanes)a, coder_float_lanes);
}
/// a / b rounded down, or one less; a / b is below 2^16 and b too.
///
/// The numerator, the divisor and the quotient are rounded by up to 2^-24 of themselves, and the
/// divisor is b and 2^-22 of it. So what is truncated is below a / b, by less than 2^16 · 2^-21.
CODER_INLINE coder_lanes coder_divide(coder_lanes a, coder_lanes b) {
    const coder_float_lanes divisor =
        __builtin_convertvector((coder_signed_lanes)b, coder_float_lanes) * (1 + 0x1p-22f);
    const coder_float_lanes quotient = __builtin_convertvector(a, coder_float_lanes) / divisor;
    return (coder_lanes)__builtin_convertvector(quotient, coder_signed_lanes);
}
CODER_INLINE uint32_t coder_total(coder_lanes a) { return __builtin_reduce_add(a); }

// Masks.

CODER_INLINE coder_mask coder_equal(coder_lanes a, coder_lanes b) {
    return (coder_mask)(a == b);
}
CODER_INLINE coder_mask coder_less(coder_lanes a, coder_lanes b) { return (coder_mask)(a < b); }
CODER_INLINE coder_mask coder_less_or_equal(coder_lanes a, coder_lanes b) {
    return (coder_mask)(a <= b);
}
CODER_INLINE coder_lanes coder_select(coder_mask mask, coder_lanes a, coder_lanes b) {
    return (a & mask) | (b & ~mask);
}
/// One bit for each lane, lane 0 lowest.
CODER_INLINE uint32_t coder_bits(coder_mask mask) {
#if defined(__AVX512VNNI__)
    return _mm512_movepi32_mask((__m512i)mask);
#else
    return (uint32_t)_mm256_movemask_ps((__m256)coder_low(mask))
        | (uint32_t)_mm256_movemask_ps((__m256)coder_high(mask)) << 8;
#endif
}
CODER_INLINE intptr_t coder_count(coder_mask mask) {
    return __builtin_popcount(coder_bits(mask));
}

#if defined(__AVX512VNNI__)

// Tables.

CODER_INLINE coder_lanes coder_gather(const int32_t *table, coder_lanes index) {
    return (coder_lanes)_mm512_i32gather_epi32((__m512i)index, table, 4);
}
/// Entries `index` and `index + 1`, the former in the lower half; `other` outside the mask.
CODER_INLINE coder_lanes coder_gather_pairs(
    const uint16_t *table, coder_lanes index, coder_lanes other, coder_mask mask) {
    return (coder_lanes)_mm512_mask_i32gather_epi32(
        (__m512i)other, (__mmask16)coder_bits(mask), (__m512i)index, table, 2);
}
/// Entries `index` to `index + 3` of 8 lanes, two lanes of the result for each.
CODER_INLINE coder_lanes coder_gather_quads(const uint16_t *table, __m256i index) {
    return (coder_lanes)_mm512_i32gather_epi64(index, table, 2);
}

// Words of the stream.

/// The words from `source` on, one after another, in the lanes of the mask.
///
/// Up to 16 words are read; the other lanes hold anything.
CODER_INLINE coder_lanes coder_take_words(const uint16_t *source, coder_mask mask) {
    const __m512i words =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)source));
    return (coder_lanes)_mm512_maskz_expand_epi32((__mmask16)coder_bits(mask), words);
}
/// Stores the lower halves of the lanes of the mask so that they end before `end`.
///
/// What lies before them, up to 16 words before `end`, is overwritten.
CODER_INLINE void coder_prepend_words(uint16_t *end, coder_lanes a, coder_mask mask) {
    const __m512i first =
        _mm512_maskz_compress_epi32((__mmask16)coder_bits(mask), (__m512i)a);
    const __m512i lane =
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    // Indices count modulo 16, so this rotates the words to the end.
    const __m512i index = _mm512_add_epi32(lane, _mm512_set1_epi32((int32_t)coder_count(mask)));
    const __m512i last = _mm512_permutexvar_epi32(index, first);
    _mm256_storeu_si256((__m256i *)(end - 16), _mm512_cvtepi32_epi16(last));
}

#else  // AVX2

// Tables.

CODER_INLINE coder_lanes coder_gather(const int32_t *table, coder_lanes index) {
    return coder_join(
        _mm256_i32gather_epi32(table, coder_low(index), 4),
        _mm256_i32gather_epi32(table, coder_high(index), 4));
}
CODER_INLINE coder_lanes coder_gather_pairs(
    const uint16_t *table, coder_lanes index, coder_lanes other, coder_mask mask) {
    const int *entries = (const int *)table;
    return coder_join(
        _mm256_mask_i32gather_epi32(
            coder_low(other), entries, coder_low(index), coder_low(mask), 2),
        _mm256_mask_i32gather_epi32(
            coder_high(other), entries, coder_high(index), coder_high(mask), 2));
}
CODER_INLINE coder_lanes coder_gather_quads(const uint16_t *table, __m256i index) {
    const long long *entries = (const long long *)table;
    return coder_join(
        _mm256_i32gather_epi64(entries, _mm256_castsi256_si128(index), 2),
        _mm256_i32gather_epi64(entries, _mm256_extracti128_si256(index, 1), 2));
}

// Words of the stream.

/// For each mask of 8 lanes and each lane, how many lanes of the mask are before it; one byte each.
extern const uint64_t coder_ranks[256];
/// For each mask of 8 lanes the lanes of it, one byte each, so that they end with the last byte.
extern const uint64_t coder_members[256];

/// The lanes of `a` that 8 bytes of a table name.
CODER_INLINE __m256i coder_permute(__m256i a, const uint64_t *entry) {
    return _mm256_permutevar8x32_epi32(
        a, _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)entry)));
}
CODER_INLINE coder_lanes coder_take_words(const uint16_t *source, coder_mask mask) {
    const uint32_t bits = coder_bits(mask), low = bits & 0xff, high = bits >> 8;
    const uint16_t *next = source + __builtin_popcount(low);
    return coder_join(
        coder_permute(
            _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)source)), coder_ranks + low),
        coder_permute(
            _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)next)), coder_ranks + high));
}
CODER_INLINE void coder_prepend_words(uint16_t *end, coder_lanes a, coder_mask mask) {
    const uint32_t bits = coder_bits(mask), low = bits & 0xff, high = bits >> 8;
    coder_words words = __builtin_convertvector(
        coder_join(
            coder_permute(coder_low(a), coder_members + low),
            coder_permute(coder_high(a), coder_members + high)),
        coder_words);
    _mm_storeu_si128((__m128i *)(end - 8), _mm256_extracti128_si256((__m256i)words, 1));
    end -= __builtin_popcount(high);
    _mm_storeu_si128((__m128i *)(end - 8), _mm256_castsi256_si128((__m256i)words));
}

#endif

/// Entries `index` to `index + 3` of lanes 0…7, two lanes of the result for each.
CODER_INLINE coder_lanes coder_gather_low_quads(const uint16_t *table, coder_lanes index) {
    return coder_gather_quads(table, coder_low(index));
}
/// Entries `index` to `index + 3` of lanes 8…15.
CODER_INLINE coder_lanes coder_gather_high_quads(const uint16_t *table, coder_lanes index) {
    return coder_gather_quads(table, coder_high(index));
}
/// The first two entries of each lane's quad.
CODER_INLINE coder_lanes coder_first_pairs(coder_lanes low, coder_lanes high) {
    return __builtin_shufflevector(
        low, high, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}
/// The last two entries of each lane's quad.
CODER_INLINE coder_lanes coder_last_pairs(coder_lanes low, coder_lanes high) {
    return __builtin_shufflevector(
        low, high, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

#pragma clang diagnostic pop

#endif  // __AVX2__

#pragma clang assume_nonnull end

#endif  // ENTROPYCODERABI_H
