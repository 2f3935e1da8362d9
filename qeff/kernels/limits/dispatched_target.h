// SPDX-License-Identifier: Apache-2.0
//
// Which of the compiled variants of kernels this processor runs.

#ifndef QEFF_KERNELS_LIMITS_DISPATCHED_TARGET_H_
#define QEFF_KERNELS_LIMITS_DISPATCHED_TARGET_H_

#include <string>

namespace qeff {

// Highway's name of the target that kernels are dispatched to, such as "AVX2":
// compiled with their options, and so out of the same targets. Thread-safe.
std::string DispatchedTargetName();

// Version of Highway, such as "1.0.3".
std::string HighwayVersion();

}  // namespace qeff

#endif  // QEFF_KERNELS_LIMITS_DISPATCHED_TARGET_H_
