// SPDX-License-Identifier: Apache-2.0
//
// What the system says of the machine. Linux.

#ifndef QEFF_TOOLS_COMMANDS_MACHINE_H_
#define QEFF_TOOLS_COMMANDS_MACHINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace qeff {

// The name of the processor in the text of /proc/cpuinfo, "unknown" if it says
// none.
std::string ProcessorNameIn(absl::string_view cpuinfo);
// Of this machine.
std::string ProcessorName();

// One of the extensions that kernels use.
struct ProcessorFeature {
  absl::string_view name;
  bool is_there;
};

// In the order of their age; none of processors that are not x86.
std::vector<ProcessorFeature> ProcessorFeatures();

struct MemoryState {
  uint64_t total_bytes = 0;
  uint64_t available_bytes = 0;  // without swapping
};

// Of the text of /proc/meminfo; zeros for what it does not say.
MemoryState MemoryIn(absl::string_view meminfo);
// Of this machine, both no more than what the control group may have.
MemoryState Memory();

// The number in a control group's memory.max; none for "max".
absl::optional<uint64_t> MemoryLimitIn(absl::string_view memory_max);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_MACHINE_H_
