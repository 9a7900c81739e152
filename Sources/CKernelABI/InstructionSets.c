#include "CKernelABI.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

// Linux gives the tile registers to processes that ask for them (Documentation/arch/x86/xstate.rst);
// it refuses where the processor has none.
static bool has_tiles(void) {
    enum { RequestPermission = 0x1023, TileData = 18, TilesAndBytes = 3 << 24 };
    uint32_t a, b, c, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & TilesAndBytes) == TilesAndBytes
        && syscall(SYS_arch_prctl, RequestPermission, TileData) == 0;
}
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

// `__builtin_cpu_supports` tests XCR0 as well, so a set whose registers the operating system does
// not save counts as missing. The levels are those that the kernel modules are compiled for. On Arm,
// Linux tells what there is.
uint32_t kernel_instruction_sets(void) {
#if defined(__x86_64__)
    uint32_t sets = 0;
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v2")) {
        sets |= KernelSSE41;
    }
    if (__builtin_cpu_supports("x86-64-v3")) {
        sets |= KernelAVX2;
        if (__builtin_cpu_supports("avxvnni")) {
            sets |= KernelAVXVNNI;
        }
    }
    if (__builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512vnni")) {
        sets |= KernelAVX512VNNI;
        if (has_tiles()) {
            sets |= KernelAMX;
        }
    }
    return sets;
#elif defined(__aarch64__)
    return getauxval(AT_HWCAP2) & HWCAP2_I8MM ? KernelNEON : 0;
#else
    return 0;
#endif
}
