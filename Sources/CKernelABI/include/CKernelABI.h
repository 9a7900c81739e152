// What the kernel modules and their caller share: the call structure, the detection of
// instruction sets, and the vector operations of the instruction set being compiled for.
// Layouts and the derivation of exactness: Kernels.docc.

#ifndef CKERNELABI_H
#define CKERNELABI_H

#include <stdbool.h>
#include <stdint.h>

// ------------------------------------------------------------------------------------------
// The call
// ------------------------------------------------------------------------------------------

/// What becomes of a requantised result.
typedef struct KernelEpilogue {
    /// The result is added to `wide`, saturating, before anything else.
    bool adds;
    /// The result is stored to `wide`.
    bool stores;
    /// The result, clamped to 0…255, is stored to `activations`.
    bool activates;
    /// The result is multiplied by `rescale` before it is clamped.
    bool rescales;
} KernelEpilogue;

/// Bytes that the requantised channels of the largest tile take, and some more.
enum { KernelResultsSize = 1024 };

/// A convolution of a run of pixels into one block of output channels.
///
/// All maps are NHWC. `input` and `activations` have a border of one pixel on each side of each
/// image; a position in either is `(image·(height+2) + y+1)·(width+2) + x+1`. `wide` has none.
/// Pointers need the alignment of their elements only.
typedef struct KernelCall {
    /// Position 0 of the input map.
    const void *input;
    /// Position 0 of the activations to write, at the first channel of the block.
    void *activations;
    /// Pixel 0 of the trunk or the result, at the first channel of the block.
    void *wide;
    /// `[tap row][group][vector][lane][4 bytes]`.
    const void *weights;
    /// `[vector][lane]`, in the order of the accumulators.
    const int32_t *bias;
    /// `[channel]`.
    const int16_t *multiplier;
    /// `[channel]`; read where `epilogue.rescales`.
    const int16_t *rescale;
    /// Working memory of `KernelResultsSize` bytes, 64-byte aligned.
    void *results;
    /// Bytes from one pixel to the next.
    intptr_t inputPixelStride, activationPixelStride, widePixelStride;
    /// Size of one image without its border.
    intptr_t height, width;
    /// The pixels to compute, counted over all images without their borders.
    intptr_t firstPixel, endPixel;
    /// 3 or 1: rows of the kernel, and pixels in each.
    intptr_t kernelSize;
    /// Accumulator vectors of the block.
    intptr_t vectors;
    /// Right shift of the accumulators, 0…31.
    int32_t shift;
    /// The input holds bytes, four to a group; otherwise Int16, two to a group.
    bool inputIsBytes;
    KernelEpilogue epilogue;
} KernelCall;

// ------------------------------------------------------------------------------------------
// The processor
// ------------------------------------------------------------------------------------------

/// Bits of `kernel_instruction_sets`.
enum {
    KernelSSE41 = 1,
    KernelAVX2 = 2,
    KernelAVXVNNI = 4,
    KernelAVX512VNNI = 8,
};

/// The instruction sets that the processor has and the operating system saves the registers of.
uint32_t kernel_instruction_sets(void);

// ------------------------------------------------------------------------------------------
// Vector operations
// ------------------------------------------------------------------------------------------
//
// A kernel module sees one set of these, that of the instruction set it is compiled for:
//   kernel_sums    accumulators, Int32
//   kernel_words   results of two accumulators, Int16, in channel order
// Two accumulators of L lanes hold 2·L channels: lane 4·i+j of the first is channel 8·i+j, of the
// second channel 8·i+4+j, because that is where `packssdw` takes them from.

#if defined(__SSE4_1__)
#include <immintrin.h>

#define KERNEL_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512VNNI__)

typedef int32_t kernel_sums __attribute__((vector_size(64)));
typedef int16_t kernel_words __attribute__((vector_size(64)));
typedef int16_t kernel_half_words __attribute__((vector_size(32)));

KERNEL_INLINE kernel_sums kernel_load_sums(const void *source) {
    return (kernel_sums)_mm512_loadu_si512(source);
}
KERNEL_INLINE kernel_words kernel_load_words(const void *source) {
    return (kernel_words)_mm512_loadu_si512(source);
}
KERNEL_INLINE void kernel_store_words(void *destination, kernel_words words) {
    _mm512_storeu_si512(destination, (__m512i)words);
}
KERNEL_INLINE kernel_sums kernel_broadcast(const void *group) {
    int32_t value;
    __builtin_memcpy(&value, group, sizeof value);
    return (kernel_sums)_mm512_set1_epi32(value);
}
KERNEL_INLINE kernel_sums kernel_dot_bytes(kernel_sums sums, kernel_sums u, kernel_sums w) {
    return (kernel_sums)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)u, (__m512i)w);
}
KERNEL_INLINE kernel_sums kernel_dot_words(kernel_sums sums, kernel_sums a, kernel_sums w) {
    return (kernel_sums)_mm512_dpwssd_epi32((__m512i)sums, (__m512i)a, (__m512i)w);
}
KERNEL_INLINE kernel_words kernel_saturate(kernel_sums a, kernel_sums b, int32_t shift) {
    const __m128i count = _mm_cvtsi32_si128(shift);
    return (kernel_words)_mm512_packs_epi32(
        _mm512_sra_epi32((__m512i)a, count), _mm512_sra_epi32((__m512i)b, count));
}
KERNEL_INLINE kernel_words kernel_multiply(kernel_words a, kernel_words m) {
    return (kernel_words)_mm512_mulhrs_epi16((__m512i)a, (__m512i)m);
}
KERNEL_INLINE kernel_words kernel_add(kernel_words a, kernel_words b) {
    return (kernel_words)_mm512_adds_epi16((__m512i)a, (__m512i)b);
}
KERNEL_INLINE void kernel_store_activations(void *destination, kernel_words words) {
    const __m512i positive = _mm512_max_epi16((__m512i)words, _mm512_setzero_si512());
    _mm256_storeu_si256((__m256i *)destination, _mm512_cvtusepi16_epi8(positive));
}

// An accumulator without a partner: 16 channels in lane order.
KERNEL_INLINE kernel_half_words kernel_load_half(const void *source) {
    return (kernel_half_words)_mm256_loadu_si256((const __m256i *)source);
}
KERNEL_INLINE void kernel_store_half(void *destination, kernel_half_words words) {
    _mm256_storeu_si256((__m256i *)destination, (__m256i)words);
}
KERNEL_INLINE kernel_half_words kernel_saturate_half(kernel_sums a, int32_t shift) {
    return (kernel_half_words)_mm512_cvtsepi32_epi16(
        _mm512_sra_epi32((__m512i)a, _mm_cvtsi32_si128(shift)));
}
KERNEL_INLINE kernel_half_words kernel_multiply_half(kernel_half_words a, kernel_half_words m) {
    return (kernel_half_words)_mm256_mulhrs_epi16((__m256i)a, (__m256i)m);
}
KERNEL_INLINE kernel_half_words kernel_add_half(kernel_half_words a, kernel_half_words b) {
    return (kernel_half_words)_mm256_adds_epi16((__m256i)a, (__m256i)b);
}
KERNEL_INLINE void kernel_store_activations_half(void *destination, kernel_half_words words) {
    const __m256i positive = _mm256_max_epi16((__m256i)words, _mm256_setzero_si256());
    _mm_storeu_si128((__m128i *)destination, _mm256_cvtusepi16_epi8(positive));
}

#elif defined(__AVX2__)

typedef int32_t kernel_sums __attribute__((vector_size(32)));
typedef int16_t kernel_words __attribute__((vector_size(32)));

KERNEL_INLINE kernel_sums kernel_load_sums(const void *source) {
    return (kernel_sums)_mm256_loadu_si256((const __m256i *)source);
}
KERNEL_INLINE kernel_words kernel_load_words(const void *source) {
    return (kernel_words)_mm256_loadu_si256((const __m256i *)source);
}
KERNEL_INLINE void kernel_store_words(void *destination, kernel_words words) {
    _mm256_storeu_si256((__m256i *)destination, (__m256i)words);
}
KERNEL_INLINE kernel_sums kernel_broadcast(const void *group) {
    int32_t value;
    __builtin_memcpy(&value, group, sizeof value);
    return (kernel_sums)_mm256_set1_epi32(value);
}
KERNEL_INLINE kernel_words kernel_saturate(kernel_sums a, kernel_sums b, int32_t shift) {
    const __m128i count = _mm_cvtsi32_si128(shift);
    return (kernel_words)_mm256_packs_epi32(
        _mm256_sra_epi32((__m256i)a, count), _mm256_sra_epi32((__m256i)b, count));
}
KERNEL_INLINE kernel_words kernel_multiply(kernel_words a, kernel_words m) {
    return (kernel_words)_mm256_mulhrs_epi16((__m256i)a, (__m256i)m);
}
KERNEL_INLINE kernel_words kernel_add(kernel_words a, kernel_words b) {
    return (kernel_words)_mm256_adds_epi16((__m256i)a, (__m256i)b);
}

#if defined(__AVXVNNI__)

KERNEL_INLINE kernel_sums kernel_dot_bytes(kernel_sums sums, kernel_sums u, kernel_sums w) {
    return (kernel_sums)_mm256_dpbusd_avx_epi32((__m256i)sums, (__m256i)u, (__m256i)w);
}
KERNEL_INLINE kernel_sums kernel_dot_words(kernel_sums sums, kernel_sums a, kernel_sums w) {
    return (kernel_sums)_mm256_dpwssd_avx_epi32((__m256i)sums, (__m256i)a, (__m256i)w);
}
KERNEL_INLINE void kernel_store_activations(void *destination, kernel_words words) {
    const __m128i low = _mm256_castsi256_si128((__m256i)words);
    const __m128i high = _mm256_extracti128_si256((__m256i)words, 1);
    _mm_storeu_si128((__m128i *)destination, _mm_packus_epi16(low, high));
}

#else

KERNEL_INLINE kernel_sums kernel_dot_words(kernel_sums sums, kernel_sums a, kernel_sums w) {
    return sums + (kernel_sums)_mm256_madd_epi16((__m256i)a, (__m256i)w);
}
KERNEL_INLINE void kernel_store_activations(void *destination, kernel_words words) {
    const __m256i positive = _mm256_max_epi16((__m256i)words, _mm256_setzero_si256());
    _mm256_storeu_si256(
        (__m256i *)destination, _mm256_min_epi16(positive, _mm256_set1_epi16(255)));
}

#endif

#else  // SSE4.1

typedef int32_t kernel_sums __attribute__((vector_size(16)));
typedef int16_t kernel_words __attribute__((vector_size(16)));

KERNEL_INLINE kernel_sums kernel_load_sums(const void *source) {
    return (kernel_sums)_mm_loadu_si128((const __m128i *)source);
}
KERNEL_INLINE kernel_words kernel_load_words(const void *source) {
    return (kernel_words)_mm_loadu_si128((const __m128i *)source);
}
KERNEL_INLINE void kernel_store_words(void *destination, kernel_words words) {
    _mm_storeu_si128((__m128i *)destination, (__m128i)words);
}
KERNEL_INLINE kernel_sums kernel_broadcast(const void *group) {
    int32_t value;
    __builtin_memcpy(&value, group, sizeof value);
    return (kernel_sums)_mm_set1_epi32(value);
}
KERNEL_INLINE kernel_sums kernel_dot_words(kernel_sums sums, kernel_sums a, kernel_sums w) {
    return sums + (kernel_sums)_mm_madd_epi16((__m128i)a, (__m128i)w);
}
KERNEL_INLINE kernel_words kernel_saturate(kernel_sums a, kernel_sums b, int32_t shift) {
    const __m128i count = _mm_cvtsi32_si128(shift);
    return (kernel_words)_mm_packs_epi32(
        _mm_sra_epi32((__m128i)a, count), _mm_sra_epi32((__m128i)b, count));
}
KERNEL_INLINE kernel_words kernel_multiply(kernel_words a, kernel_words m) {
    return (kernel_words)_mm_mulhrs_epi16((__m128i)a, (__m128i)m);
}
KERNEL_INLINE kernel_words kernel_add(kernel_words a, kernel_words b) {
    return (kernel_words)_mm_adds_epi16((__m128i)a, (__m128i)b);
}
KERNEL_INLINE void kernel_store_activations(void *destination, kernel_words words) {
    const __m128i positive = _mm_max_epi16((__m128i)words, _mm_setzero_si128());
    _mm_storeu_si128((__m128i *)destination, _mm_min_epi16(positive, _mm_set1_epi16(255)));
}

#endif

/// The same value, of which the compiler knows nothing; keeps a benchmark's loop from being hoisted.
KERNEL_INLINE kernel_sums kernel_opaque(kernel_sums value) {
#if defined(__AVX512VNNI__)
    __asm__ volatile("" : "+v"(value));
#else
    __asm__ volatile("" : "+x"(value));
#endif
    return value;
}

#endif  // __SSE4_1__

#endif  // CKERNELABI_H
