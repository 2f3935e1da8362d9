// SPDX-License-Identifier: Apache-2.0
//
// Where running out of memory becomes a Status.

#ifndef QEFF_UTIL_MEMORY_GUARD_H_
#define QEFF_UTIL_MEMORY_GUARD_H_

#include <new>

#include "absl/status/status.h"

namespace qeff {

// Calls `body`, which returns a Status or StatusOr; kResourceExhausted when an
// allocation in it (also in a worker of a ThreadPool) fails.
template <typename Body>
auto GuardMemory(Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  }
}

}  // namespace qeff

#endif  // QEFF_UTIL_MEMORY_GUARD_H_
