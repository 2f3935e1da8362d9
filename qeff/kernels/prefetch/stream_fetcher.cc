// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/prefetch/stream_fetcher.h"

#include <atomic>
#include <cstring>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

namespace qeff {
namespace {

#if defined(__x86_64__) || defined(__i386__)

// Families of AMD, of "AMD64 Architecture Programmer's Manual" volume 3,
// CPUID Fn0000_0001_EAX: 0x19 is Zen 3 and 4, 0x1A Zen 5.
constexpr unsigned kZen5Family = 0x1A;

bool MeasuredToHelp() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(0, &eax, &ebx, &ecx, &edx) == 0) return false;
  char vendor[12];
  std::memcpy(vendor, &ebx, 4);
  std::memcpy(vendor + 4, &edx, 4);
  std::memcpy(vendor + 8, &ecx, 4);
  if (std::memcmp(vendor, "AuthenticAMD", sizeof(vendor)) != 0) return false;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return false;
  const unsigned base = eax >> 8 & 0xF, extended = eax >> 20 & 0xFF;
  return base == 0xF && base + extended == kZen5Family;
}

#else

bool MeasuredToHelp() { return false; }

#endif

std::atomic<bool>& Helping() {
  static std::atomic<bool> helping(MeasuredToHelp());
  return helping;
}

}  // namespace

bool StreamFetcher::Helps() {
  return Helping().load(std::memory_order_relaxed);
}

void StreamFetcher::SetHelpsForTest(bool helps) { Helping() = helps; }

}  // namespace qeff
