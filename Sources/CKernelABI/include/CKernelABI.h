// What the kernel modules and their caller share: the call structure, the detection of
// instruction sets, and the vector operations of the instruction set being compiled for.
// Layouts and the derivation of exactness: Kernels.docc.

#ifndef CKERNELABI_H
#define CKERNELABI_H

#include <stdbool.h>
#include <stdint.h>

#include "EntropyCoderABI.h"

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

/// Bytes that four tiles of the matrix unit take; the requantised channels of others take less.
enum { KernelResultsSize = 4096 };

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
    /// Bytes from the low plane of the input to its high plane; 0 where it has one plane.
    intptr_t highPlane;
    /// Bytes of input that a tile takes from a pixel's row of taps, which is a multiple of it.
    intptr_t tileDepth;
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

/// A convolution of a run of pixels into the few channels of a result.
///
/// Pixels, positions and maps as in `KernelCall`. The input is cut into *pieces* of 16 bytes; a
/// *step* is one piece at one tap. Where a vector is longer than a piece, the pieces of neighbours
/// follow one another.
typedef struct NarrowKernelCall {
    /// The first piece of position 0.
    const void *input;
    /// Pixel 0 of the result; 8 channels of each pixel are written.
    void *wide;
    /// From a position's first piece to the piece of each step, in bytes.
    const intptr_t *offsets;
    /// `[step][output][16 bytes]`.
    const void *weights;
    /// `[output][lane]`: the bias in every fourth lane, else 0.
    const int32_t *bias;
    /// Copies of `[8 channels]`, as many as fit a vector.
    const int16_t *multiplier;
    /// Working memory of `KernelResultsSize` bytes, 64-byte aligned.
    void *results;
    /// Bytes from one position or pixel to the next.
    intptr_t inputStride, widePixelStride;
    intptr_t height, width;
    intptr_t firstPixel, endPixel;
    intptr_t steps;
    /// 3 or 6.
    intptr_t outputs;
    int32_t shift;
    /// The input holds bytes; otherwise Int16.
    bool inputIsBytes;
    /// The results are added to `wide`, saturating.
    bool adds;
} NarrowKernelCall;

// ------------------------------------------------------------------------------------------
// Latents
// ------------------------------------------------------------------------------------------

/// Writes 16 latents, clamped to ±limit: as Int16, or their low bytes and `highPlane` bytes behind
/// these their high bytes. Compilers make vectors of it.
static inline void kernel_clamp_latents(
    const int16_t *source, void *target, intptr_t highPlane, int16_t limit) {
    int16_t latents[16];
    for (int index = 0; index < 16; index++) {
        const int16_t latent = source[index] < limit ? source[index] : limit;
        latents[index] = latent > -limit ? latent : -limit;
    }
    if (highPlane == 0) {
        __builtin_memcpy(target, latents, sizeof latents);
    } else {
        uint8_t low[16], high[16];
        for (int index = 0; index < 16; index++) {
            low[index] = (uint8_t)latents[index];
            high[index] = (uint8_t)(latents[index] >> 8);
        }
        __builtin_memcpy(target, low, sizeof low);
        __builtin_memcpy((char *)target + highPlane, high, sizeof high);
    }
}

// ------------------------------------------------------------------------------------------
// The processor
// ------------------------------------------------------------------------------------------

/// Bits of `kernel_instruction_sets`.
enum {
    KernelSSE41 = 1,
    KernelAVX2 = 2,
    KernelAVXVNNI = 4,
    KernelAVX512VNNI = 8,
    KernelAMX = 16,
    KernelNEON = 32,
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
// `kernel_broadcast` puts group `index` of those at an address, four bytes each, into every lane.
// Two accumulators of L lanes hold 2·L channels: lane 4·i+j of the first is channel 8·i+j, of the
// second channel 8·i+4+j, because that is where `packssdw` takes them from.
//
// `kernel_load_copies` fills a vector with copies of 16 bytes. `kernel_total` puts into each four lanes the sum of these four lanes of each of its operands.

#define KERNEL_INLINE static inline __attribute__((always_inline))

#if defined(__SSE4_1__)
#include <immintrin.h>

#if defined(__AVX512VNNI__)

typedef int32_t kernel_sums __attribute__((vector_size(64)));
typedef int16_t kernel_words __attribute__((vector_size(64)));
typedef int16_t kernel_half_words __attribute__((vector_size(32)));

KERNEL_INLINE kernel_sums kernel_load_sums(const void *source) {
    return (kernel_sums)_mm512_loadu_si512(source);
}
KERNEL_INLINE kernel_sums kernel_load_copies(const void *source) {
    return (kernel_sums)_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)source));
}
KERNEL_INLINE kernel_words kernel_load_words(const void *source) {
    return (kernel_words)_mm512_loadu_si512(source);
}
KERNEL_INLINE void kernel_store_words(void *destination, kernel_words words) {
    _mm512_storeu_si512(destination, (__m512i)words);
}
KERNEL_INLINE kernel_sums kernel_broadcast(const void *groups, intptr_t index) {
    int32_t value;
    __builtin_memcpy(&value, (const int32_t *)groups + index, sizeof value);
    return (kernel_sums)_mm512_set1_epi32(value);
}
KERNEL_INLINE kernel_sums kernel_dot_bytes(kernel_sums sums, kernel_sums u, kernel_sums w) {
    return (kernel_sums)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)u, (__m512i)w);
}
KERNEL_INLINE kernel_sums kernel_dot_words(kernel_sums sums, kernel_sums a, kernel_sums w) {
    return (kernel_sums)_mm512_dpwssd_epi32((__m512i)sums, (__m512i)a, (__m512i)w);
}
/// The sums of the even and of the odd lanes, of a in lanes 0 and 2 of four, of b in lanes 1 and 3.
KERNEL_INLINE __m512i kernel_half_total(kernel_sums a, kernel_sums b) {
    return _mm512_add_epi32(
        _mm512_unpacklo_epi32((__m512i)a, (__m512i)b),
        _mm512_unpackhi_epi32((__m512i)a, (__m512i)b));
}
KERNEL_INLINE kernel_sums kernel_total(
    kernel_sums a, kernel_sums b, kernel_sums c, kernel_sums d) {
    const __m512i ab = kernel_half_total(a, b), cd = kernel_half_total(c, d);
    return (kernel_sums)_mm512_add_epi32(
        _mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
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

// Two pixels of 16 channels, an accumulator each in lane order, as one vector of words.

/// Qwords in the order 0 2 4 6 1 3 5 7: what a pack of two vectors leaves in turns, one after the other.
KERNEL_INLINE __m512i kernel_in_order(__m512i qwords) {
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), qwords);
}
KERNEL_INLINE kernel_words kernel_saturate_pair(kernel_sums a, kernel_sums b, int32_t shift) {
    return (kernel_words)kernel_in_order((__m512i)kernel_saturate(a, b, shift));
}
KERNEL_INLINE kernel_words kernel_load_pair(const void *first, const void *second) {
    return (kernel_words)_mm512_inserti64x4(
        _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)first)),
        _mm256_loadu_si256((const __m256i *)second), 1);
}
KERNEL_INLINE void kernel_store_pair(void *first, void *second, kernel_words words) {
    _mm256_storeu_si256((__m256i *)first, _mm512_castsi512_si256((__m512i)words));
    _mm256_storeu_si256((__m256i *)second, _mm512_extracti64x4_epi64((__m512i)words, 1));
}
KERNEL_INLINE void kernel_store_activation_pair(void *first, void *second, kernel_words words) {
    const __m512i positive = _mm512_max_epi16((__m512i)words, _mm512_setzero_si512());
    const __m256i bytes = _mm512_cvtusepi16_epi8(positive);
    _mm_storeu_si128((__m128i *)first, _mm256_castsi256_si128(bytes));
    _mm_storeu_si128((__m128i *)second, _mm256_extracti128_si256(bytes, 1));
}

#if defined(__AMX_INT8__)

// Tiles 0…3 hold sums, `pixels` × 16 channels; tiles 4 and 5 input, `pixels` × `depth` bytes; tiles 6
// and 7 weights, `depth / 4` groups × 16 channels × 4 bytes.

KERNEL_INLINE void kernel_begin_tiles(intptr_t pixels, intptr_t depth) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t rowBytes[16];
        uint8_t rows[16];
    } shapes __attribute__((aligned(64))) = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        shapes.rowBytes[tile] = tile == 4 || tile == 5 ? (uint16_t)depth : 64;
        shapes.rows[tile] = (uint8_t)(tile < 6 ? pixels : depth / 4);
    }
    _tile_loadconfig(&shapes);
}
KERNEL_INLINE void kernel_end_tiles(void) { _tile_release(); }

/// Where tile t of the sums lies in `[run][pixel][vector][16 channels]`.
#define KERNEL_TILE(results, t) \
    ((char *)(results) + ((t) / vectors * 16 * vectors + (t) % vectors) * 64)

KERNEL_INLINE void kernel_store_tiles(void *results, intptr_t vectors) {
    _tile_stored(0, KERNEL_TILE(results, 0), 64 * vectors);
    _tile_stored(1, KERNEL_TILE(results, 1), 64 * vectors);
    _tile_stored(2, KERNEL_TILE(results, 2), 64 * vectors);
    _tile_stored(3, KERNEL_TILE(results, 3), 64 * vectors);
}
/// Every pixel's sums become the biases of its channels; split, those of high bytes, tiles 2 and 3,
/// become zero.
KERNEL_INLINE void kernel_load_biases(const int32_t *bias, intptr_t vectors, bool isSplit) {
    _tile_loadd(0, bias, 0);
    _tile_loadd(1, bias + 16 * (1 % vectors), 0);
    if (isSplit) {
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(2, bias, 0);
        _tile_loadd(3, bias + 16 * (1 % vectors), 0);
    }
}

/// Adds the products of `depth` bytes of input to the sums: of four runs of pixels with one vector of
/// channels (tile = run), or of the first two runs with two vectors (tile = 2·run + vector).
KERNEL_INLINE void kernel_dot_tiles(
    intptr_t vectors, const void *run0, const void *run1, const void *run2, const void *run3,
    intptr_t stride, const void *weights) {
    const intptr_t groupSize = 64 * vectors;
    _tile_loadd(6, weights, groupSize);
    _tile_loadd(4, run0, stride);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(5, run1, stride);
    if (vectors == 2) {
        _tile_loadd(7, (const char *)weights + 64, groupSize);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    } else {
        _tile_dpbusd(1, 5, 6);
        _tile_loadd(4, run2, stride);
        _tile_dpbusd(2, 4, 6);
        _tile_loadd(5, run3, stride);
        _tile_dpbusd(3, 5, 6);
    }
}

/// The same for latents, `highPlane` bytes between their low and high bytes, whose sums are tiles 0 and 1
/// and tiles 2 and 3: of two runs of pixels with one vector of channels, or of the first with two.
KERNEL_INLINE void kernel_dot_split_tiles(
    intptr_t vectors, const void *run0, const void *run1, intptr_t highPlane, intptr_t stride,
    const void *weights) {
    const intptr_t groupSize = 64 * vectors;
    _tile_loadd(6, weights, groupSize);
    _tile_loadd(4, run0, stride);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(5, (const char *)run0 + highPlane, stride);
    _tile_dpbssd(2, 5, 6);
    if (vectors == 2) {
        _tile_loadd(7, (const char *)weights + 64, groupSize);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbssd(3, 5, 7);
    } else {
        _tile_loadd(4, run1, stride);
        _tile_dpbusd(1, 4, 6);
        _tile_loadd(5, (const char *)run1 + highPlane, stride);
        _tile_dpbssd(3, 5, 6);
    }
}

/// Runs twelve products of tiles, and nothing else.
KERNEL_INLINE void kernel_repeat_dot_tiles(void) {
    for (int round = 0; round < 3; round++) {
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }
}

/// Sums that `kernel_store_tiles` has stored; of latents those of low bytes, two tiles before 256 times
/// those of high bytes.
KERNEL_INLINE kernel_sums kernel_load_stored(const void *source, bool isSplit) {
    const kernel_sums sums = kernel_load_sums(source);
    if (!isSplit) {
        return sums;
    }
    const kernel_sums high = kernel_load_sums((const char *)source + 2 * 16 * 64);
    return (kernel_sums)_mm512_add_epi32((__m512i)sums, _mm512_slli_epi32((__m512i)high, 8));
}

// Several pixels in one vector: their bytes follow one another, `size` (16, 32 or 64) from each, which
// lie `stride` bytes apart in memory.

/// Saturated sums of one pixel with two vectors, or of two pixels with one.
KERNEL_INLINE kernel_words kernel_saturate_pixels(
    const void *sums, intptr_t vectors, bool isSplit, int32_t shift) {
    const kernel_sums a = kernel_load_stored(sums, isSplit);
    const kernel_sums b = kernel_load_stored((const char *)sums + 64, isSplit);
    return vectors == 2 ? kernel_saturate(a, b, shift) : kernel_saturate_pair(a, b, shift);
}
KERNEL_INLINE kernel_words kernel_load_pixels(const void *source, intptr_t stride, intptr_t size) {
    if (size == 64) {
        return kernel_load_words(source);
    }
    return kernel_load_pair(source, (const char *)source + stride);
}
/// Stores the first of the vector's pixels, as many as there are of them or `count`.
KERNEL_INLINE void kernel_store_pixels(
    void *destination, intptr_t stride, intptr_t size, intptr_t count, kernel_words pixels) {
    char *place = (char *)destination;
    const __m512i all = (__m512i)pixels;
    if (stride == size) {
        const intptr_t bytes = count * size < 64 ? count * size : 64;
        _mm512_mask_storeu_epi8(place, ~(uint64_t)0 >> (64 - bytes), all);
    } else if (size == 64) {
        _mm512_storeu_si512(place, all);
    } else if (size == 32) {
        _mm256_storeu_si256((__m256i *)place, _mm512_castsi512_si256(all));
        if (count > 1) {
            _mm256_storeu_si256((__m256i *)(place + stride), _mm512_extracti64x4_epi64(all, 1));
        }
    } else {
        _mm_storeu_si128((__m128i *)place, _mm512_castsi512_si128(all));
        if (count > 1) {
            _mm_storeu_si128((__m128i *)(place + stride), _mm512_extracti32x4_epi32(all, 1));
        }
        if (count > 2) {
            _mm_storeu_si128((__m128i *)(place + 2 * stride), _mm512_extracti32x4_epi32(all, 2));
        }
        if (count > 3) {
            _mm_storeu_si128((__m128i *)(place + 3 * stride), _mm512_extracti32x4_epi32(all, 3));
        }
    }
}
/// The activations of two vectors of words, clamped to 0…255.
KERNEL_INLINE kernel_words kernel_clamp(kernel_words first, kernel_words second) {
    return (kernel_words)kernel_in_order(_mm512_packus_epi16((__m512i)first, (__m512i)second));
}

#endif

#elif defined(__AVX2__)

typedef int32_t kernel_sums __attribute__((vector_size(32)));
typedef int16_t kernel_words __attribute__((vector_size(32)));

KERNEL_INLINE kernel_sums kernel_load_sums(const void *source) {
    return (kernel_sums)_mm256_loadu_si256((const __m256i *)source);
}
KERNEL_INLINE kernel_sums kernel_load_copies(const void *source) {
    return (kernel_sums)_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)source));
}
KERNEL_INLINE kernel_words kernel_load_words(const void *source) {
    return (kernel_words)_mm256_loadu_si256((const __m256i *)source);
}
KERNEL_INLINE void kernel_store_words(void *destination, kernel_words words) {
    _mm256_storeu_si256((__m256i *)destination, (__m256i)words);
}
KERNEL_INLINE kernel_sums kernel_broadcast(const void *groups, intptr_t index) {
    int32_t value;
    __builtin_memcpy(&value, (const int32_t *)groups + index, sizeof value);
    return (kernel_sums)_mm256_set1_epi32(value);
}
KERNEL_INLINE kernel_sums kernel_total(
    kernel_sums a, kernel_sums b, kernel_sums c, kernel_sums d) {
    return (kernel_sums)_mm256_hadd_epi32(
        _mm256_hadd_epi32((__m256i)a, (__m256i)b), _mm256_hadd_epi32((__m256i)c, (__m256i)d));
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
KERNEL_INLINE kernel_sums kernel_load_copies(const void *source) {
    return kernel_load_sums(source);
}
KERNEL_INLINE kernel_words kernel_load_words(const void *source) {
    return (kernel_words)_mm_loadu_si128((const __m128i *)source);
}
KERNEL_INLINE void kernel_store_words(void *destination, kernel_words words) {
    _mm_storeu_si128((__m128i *)destination, (__m128i)words);
}
KERNEL_INLINE kernel_sums kernel_broadcast(const void *groups, intptr_t index) {
    int32_t value;
    __builtin_memcpy(&value, (const int32_t *)groups + index, sizeof value);
    return (kernel_sums)_mm_set1_epi32(value);
}
KERNEL_INLINE kernel_sums kernel_dot_words(kernel_sums sums, kernel_sums a, kernel_sums w) {
    return sums + (kernel_sums)_mm_madd_epi16((__m128i)a, (__m128i)w);
}
KERNEL_INLINE kernel_sums kernel_total(
    kernel_sums a, kernel_sums b, kernel_sums c, kernel_sums d) {
    return (kernel_sums)_mm_hadd_epi32(
        _mm_hadd_epi32((__m128i)a, (__m128i)b), _mm_hadd_epi32((__m128i)c, (__m128i)d));
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

/// Products of all pairs of Int16, each added to a lane of its part of four.
KERNEL_INLINE kernel_sums kernel_dot_all_words(kernel_sums sums, kernel_sums a, kernel_sums w) {
    return kernel_dot_words(sums, a, w);
}
/// Stores 8 channels of a pixel, or adds them to what is there.
KERNEL_INLINE void kernel_store_result(void *wide, const void *result, bool adds) {
    __m128i words = _mm_loadu_si128((const __m128i *)result);
    if (adds) {
        words = _mm_adds_epi16(_mm_loadu_si128((const __m128i *)wide), words);
    }
    _mm_storeu_si128((__m128i *)wide, words);
}

/// The same value, of which the compiler knows nothing; keeps a benchmark's loop from being hoisted.
KERNEL_INLINE kernel_sums kernel_opaque(kernel_sums value) {
#if defined(__AVX512VNNI__)
    __asm__ volatile("" : "+v"(value));
#else
    __asm__ volatile("" : "+x"(value));
#endif
    return value;
}

#elif defined(__ARM_FEATURE_MATMUL_INT8)
#include <arm_neon.h>

typedef int32_t kernel_sums __attribute__((vector_size(16)));
typedef int16_t kernel_words __attribute__((vector_size(16)));

KERNEL_INLINE kernel_sums kernel_load_sums(const void *source) {
    return (kernel_sums)vld1q_s32((const int32_t *)source);
}
KERNEL_INLINE kernel_sums kernel_load_copies(const void *source) {
    return kernel_load_sums(source);
}
KERNEL_INLINE kernel_words kernel_load_words(const void *source) {
    return (kernel_words)vld1q_s16((const int16_t *)source);
}
KERNEL_INLINE void kernel_store_words(void *destination, kernel_words words) {
    vst1q_s16((int16_t *)destination, (int16x8_t)words);
}
/// Reads four groups, of which a dot product names one as its operand; nothing is broadcast.
KERNEL_INLINE kernel_sums kernel_broadcast(const void *groups, intptr_t index) {
    const kernel_sums four = kernel_load_sums(groups);
    return (kernel_sums)vdupq_n_s32(four[index]);
}
KERNEL_INLINE kernel_sums kernel_dot_bytes(kernel_sums sums, kernel_sums u, kernel_sums w) {
    return (kernel_sums)vusdotq_s32((int32x4_t)sums, (uint8x16_t)u, (int8x16_t)w);
}
KERNEL_INLINE kernel_sums kernel_dot_words(kernel_sums sums, kernel_sums a, kernel_sums w) {
    const int16x4_t pair = vget_low_s16((int16x8_t)a);
    // The weights of each Int16 of the pair, once for all pixels.
    const int16x4_t first = vmovn_s32((int32x4_t)w), second = vshrn_n_s32((int32x4_t)w, 16);
    return (kernel_sums)vmlal_lane_s16(
        vmlal_lane_s16((int32x4_t)sums, first, pair, 0), second, pair, 1);
}
KERNEL_INLINE kernel_sums kernel_dot_all_words(kernel_sums sums, kernel_sums a, kernel_sums w) {
    const int16x8_t input = (int16x8_t)a, weights = (int16x8_t)w;
    const int32x4_t low =
        vmlal_s16((int32x4_t)sums, vget_low_s16(input), vget_low_s16(weights));
    return (kernel_sums)vmlal_high_s16(low, input, weights);
}
KERNEL_INLINE kernel_sums kernel_total(
    kernel_sums a, kernel_sums b, kernel_sums c, kernel_sums d) {
    return (kernel_sums)vpaddq_s32(
        vpaddq_s32((int32x4_t)a, (int32x4_t)b), vpaddq_s32((int32x4_t)c, (int32x4_t)d));
}
KERNEL_INLINE kernel_words kernel_saturate(kernel_sums a, kernel_sums b, int32_t shift) {
    const int32x4_t left = vdupq_n_s32(-shift);
    return (kernel_words)vqmovn_high_s32(
        vqmovn_s32(vshlq_s32((int32x4_t)a, left)), vshlq_s32((int32x4_t)b, left));
}
KERNEL_INLINE kernel_words kernel_multiply(kernel_words a, kernel_words m) {
    return (kernel_words)vqrdmulhq_s16((int16x8_t)a, (int16x8_t)m);
}
KERNEL_INLINE kernel_words kernel_add(kernel_words a, kernel_words b) {
    return (kernel_words)vqaddq_s16((int16x8_t)a, (int16x8_t)b);
}
KERNEL_INLINE void kernel_store_activations(void *destination, kernel_words words) {
    vst1_u8((uint8_t *)destination, vqmovun_s16((int16x8_t)words));
}
KERNEL_INLINE void kernel_store_result(void *wide, const void *result, bool adds) {
    const kernel_words words = kernel_load_words(result);
    kernel_store_words(wide, adds ? kernel_add(kernel_load_words(wide), words) : words);
}

KERNEL_INLINE kernel_sums kernel_opaque(kernel_sums value) {
    __asm__ volatile("" : "+w"(value));
    return value;
}

#endif

#endif  // CKERNELABI_H
