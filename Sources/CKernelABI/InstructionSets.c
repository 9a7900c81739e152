#include "CKernelABI.h"

// `__builtin_cpu_supports` tests XCR0 as well, so a set whose registers the operating system does
// not save counts as missing. The levels are those that the kernel modules are compiled for.
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
    }
    return sets;
#else
    return 0;
#endif
}
