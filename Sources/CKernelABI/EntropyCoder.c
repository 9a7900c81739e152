#include "EntropyCoderABI.h"

// Tables for AVX2, which can neither compress nor expand a vector by a mask.

/// How many of the first `lanes` lanes are in a mask.
#define RANK(mask, lanes) __builtin_popcount((mask) & ((1 << (lanes)) - 1))

/// A lane's byte in an entry of `coder_ranks`.
#define RANK_BYTE(mask, lane) ((uint64_t)RANK(mask, lane) << 8 * (lane))

/// A lane's byte in an entry of `coder_members`, 0 where the lane is not in the mask.
#define MEMBER_BYTE(mask, lane) \
    ((mask) >> (lane) & 1 \
        ? (uint64_t)(lane) << 8 * (7 & (RANK(mask, lane) - RANK(mask, 8))) : 0)

#define ENTRY(byte, m) \
    (byte(m, 0) | byte(m, 1) | byte(m, 2) | byte(m, 3) | byte(m, 4) | byte(m, 5) | byte(m, 6) \
        | byte(m, 7))
#define ENTRIES_4(byte, m) \
    ENTRY(byte, m), ENTRY(byte, m + 1), ENTRY(byte, m + 2), ENTRY(byte, m + 3)
#define ENTRIES_16(byte, m) \
    ENTRIES_4(byte, m), ENTRIES_4(byte, m + 4), ENTRIES_4(byte, m + 8), ENTRIES_4(byte, m + 12)
#define ENTRIES_64(byte, m) \
    ENTRIES_16(byte, m), ENTRIES_16(byte, m + 16), ENTRIES_16(byte, m + 32), \
        ENTRIES_16(byte, m + 48)
#define ENTRIES_256(byte) \
    ENTRIES_64(byte, 0), ENTRIES_64(byte, 64), ENTRIES_64(byte, 128), ENTRIES_64(byte, 192)

const uint64_t coder_ranks[256] = {ENTRIES_256(RANK_BYTE)};
const uint64_t coder_members[256] = {ENTRIES_256(MEMBER_BYTE)};
