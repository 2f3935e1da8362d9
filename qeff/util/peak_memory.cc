// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/peak_memory.h"

#include <cstdio>
#include <memory>

namespace qeff {
namespace {

using File = std::unique_ptr<FILE, int (*)(FILE*)>;

}  // namespace

void ResetPeakMemory() {
  // proc(5), /proc/pid/clear_refs: 5 resets the peak resident size.
  const File file(std::fopen("/proc/self/clear_refs", "we"), std::fclose);
  if (file != nullptr) std::fputs("5", file.get());
}

int64_t PeakMemoryBytes() {
  const File file(std::fopen("/proc/self/status", "re"), std::fclose);
  if (file == nullptr) return 0;
  char line[256];
  while (std::fgets(line, sizeof(line), file.get()) != nullptr) {
    long long kilobytes;
    if (std::sscanf(line, "VmHWM: %lld kB", &kilobytes) == 1) {
      return kilobytes * 1024;
    }
  }
  return 0;
}

}  // namespace qeff
