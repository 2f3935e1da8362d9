// SPDX-License-Identifier: Apache-2.0
//
// Checks of what the code itself promises. A failing one prints the condition
// and its place and aborts: never use one for what a user, a file or a model
// can cause (status.h).

#ifndef QEFF_UTIL_CHECK_H_
#define QEFF_UTIL_CHECK_H_

#include <cstdio>
#include <cstdlib>

namespace qeff {
namespace internal_check {

[[noreturn]] inline void Fail(const char* file, int line,
                              const char* condition) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace internal_check
}  // namespace qeff

// Always on; not for inner loops.
#define QEFF_CHECK(condition)         \
  ((condition) ? static_cast<void>(0) \
               : ::qeff::internal_check::Fail(__FILE__, __LINE__, #condition))

// On in builds without NDEBUG (sanitizer configurations).
#ifdef NDEBUG
#define QEFF_DCHECK(condition) static_cast<void>(sizeof(condition))
#else
#define QEFF_DCHECK(condition) QEFF_CHECK(condition)
#endif

#endif  // QEFF_UTIL_CHECK_H_
