// SPDX-License-Identifier: Apache-2.0
//
// Where running out of memory becomes a Status.

#ifndef QEFF_UTIL_MEMORY_GUARD_H_
#define QEFF_UTIL_MEMORY_GUARD_H_

#include <new>

#include "absl/status/status.h"

namespace qeff {

// kResourceExhausted. Takes memory in the first call only. Thread-safe.
inline const absl::Status& OutOfMemoryError() {
  static const auto* const error =
      new absl::Status(absl::ResourceExhaustedError("out of memory"));
  return *error;
}

// Calls `body`, which returns a Status or StatusOr; kResourceExhausted when an
// allocation in it (also in a worker of a ThreadPool) fails. Where there is no
// memory even for the first Status of the process, throws std::bad_alloc.
template <typename Body>
auto GuardMemory(Body&& body) -> decltype(body()) {
  try {
    (void)OutOfMemoryError();  // while there is memory
    return body();
  } catch (const std::bad_alloc&) {
    return OutOfMemoryError();
  }
}

}  // namespace qeff

#endif  // QEFF_UTIL_MEMORY_GUARD_H_
