// SPDX-License-Identifier: Apache-2.0
//
// The most memory that this process has had resident since it was last asked
// to count anew.

#ifndef QEFF_UTIL_PEAK_MEMORY_H_
#define QEFF_UTIL_PEAK_MEMORY_H_

#include <cstdint>

namespace qeff {

// Counts from now on, where the system can (Linux).
void ResetPeakMemory();

// In bytes, of the whole process since the last ResetPeakMemory, mapped files
// included; 0 where the system does not say.
int64_t PeakMemoryBytes();

}  // namespace qeff

#endif  // QEFF_UTIL_PEAK_MEMORY_H_
