// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/machine.h"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace qeff {
namespace {

// Files of /proc have no size to map.
std::string ReadSystemFile(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

std::string ProcessorNameIn(absl::string_view cpuinfo) {
  for (absl::string_view line : absl::StrSplit(cpuinfo, '\n')) {
    const size_t colon = line.find(": ");
    if (absl::StartsWith(line, "model name") &&
        colon != absl::string_view::npos) {
      return std::string(line.substr(colon + 2));
    }
  }
  return "unknown";
}

std::string ProcessorName() {
  return ProcessorNameIn(ReadSystemFile("/proc/cpuinfo"));
}

std::vector<ProcessorFeature> ProcessorFeatures() {
#if defined(__x86_64__)
  // The compiler wants literals.
#define QEFF_FEATURE(name) \
  { name, __builtin_cpu_supports(name) != 0 }
  return {QEFF_FEATURE("sse4.2"),       QEFF_FEATURE("avx2"),
          QEFF_FEATURE("fma"),          QEFF_FEATURE("avx512f"),
          QEFF_FEATURE("avx512bw"),     QEFF_FEATURE("avx512dq"),
          QEFF_FEATURE("avx512vl"),     QEFF_FEATURE("avx512vbmi"),
          QEFF_FEATURE("avx512vbmi2"),  QEFF_FEATURE("avx512vnni"),
          QEFF_FEATURE("avx512bitalg"), QEFF_FEATURE("avx512bf16")};
#undef QEFF_FEATURE
#else
  return {};
#endif
}

MemoryState MemoryIn(absl::string_view meminfo) {
  MemoryState memory;
  for (absl::string_view line : absl::StrSplit(meminfo, '\n')) {
    uint64_t* value = nullptr;
    if (absl::ConsumePrefix(&line, "MemTotal:")) {
      value = &memory.total_bytes;
    } else if (absl::ConsumePrefix(&line, "MemAvailable:")) {
      value = &memory.available_bytes;
    }
    uint64_t kilobytes = 0;
    if (value != nullptr && absl::ConsumeSuffix(&line, " kB") &&
        absl::SimpleAtoi(line, &kilobytes)) {
      *value = kilobytes * 1024;
    }
  }
  return memory;
}

absl::optional<uint64_t> MemoryLimitIn(absl::string_view memory_max) {
  uint64_t bytes = 0;
  if (absl::SimpleAtoi(absl::StripAsciiWhitespace(memory_max), &bytes)) {
    return bytes;
  }
  return absl::nullopt;
}

MemoryState Memory() {
  MemoryState memory = MemoryIn(ReadSystemFile("/proc/meminfo"));
  // Version 2 and version 1 of control groups, where a container sees its own.
  for (const char* path : {"/sys/fs/cgroup/memory.max",
                           "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    const auto limit = MemoryLimitIn(ReadSystemFile(path));
    if (!limit.has_value()) continue;
    memory.total_bytes = std::min(memory.total_bytes, *limit);
    memory.available_bytes = std::min(memory.available_bytes, *limit);
  }
  return memory;
}

}  // namespace qeff
