// SPDX-License-Identifier: Apache-2.0
//
// Compiled for the oldest processor of the architecture, see BUILD.

#include "qeff/device/cpu_check.h"

#include <unistd.h>

#include <cstring>

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace qeff {

const char* FindMissingInCpu(const CompiledFor& wanted) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // Each level includes those below it.
  if (wanted.x86_64_level >= 4 && !__builtin_cpu_supports("x86-64-v4")) {
    return "AVX-512 (x86-64-v4)";
  }
  if (wanted.x86_64_level >= 3 && !__builtin_cpu_supports("x86-64-v3")) {
    return "AVX2 (x86-64-v3)";
  }
  if (wanted.x86_64_level >= 2 && !__builtin_cpu_supports("x86-64-v2")) {
    return "SSE4.2 (x86-64-v2)";
  }
  if (wanted.avx512_vnni && !__builtin_cpu_supports("avx512vnni")) {
    return "AVX-512 VNNI";
  }
#elif defined(__aarch64__)
  if (wanted.arm_dot_product && (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) == 0) {
    return "dot products (Armv8.2 DotProd)";
  }
#endif
  return nullptr;
}

namespace {

// The exit code of qeff/util/status.h for what a machine does not have; its
// header would bring code that is compiled for newer processors.
constexpr int kExitResource = 5;

// write(2) is what works before the C library's streams do; there is nothing to
// do on failure.
void Print(const char* text) {
  (void)!write(STDERR_FILENO, text, std::strlen(text));
}

void CheckCpu() {
  const char* missing = FindMissingInCpu(kCompiledFor);
  if (missing == nullptr) return;
  Print("this program was built for processors with ");
  Print(missing);
  Print(", which this one lacks: see qeff/device/README.md for others\n");
  _exit(kExitResource);
}

// Constructors of static objects may use new instructions; this runs before
// them.
__attribute__((section(".preinit_array"),
               used)) void (*const check)() = CheckCpu;

}  // namespace
}  // namespace qeff
