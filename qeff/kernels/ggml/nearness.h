// SPDX-License-Identifier: Apache-2.0
//
// Searches for the first element of a long span that breaks a bound, for checks
// that nearly always find none.

#ifndef QEFF_KERNELS_GGML_NEARNESS_H_
#define QEFF_KERNELS_GGML_NEARNESS_H_

#include <cstdint>

#include "absl/types/span.h"

namespace qeff {

// Index of the first element without |x| < limit, which a NaN is; values.size()
// when there is none. Thread-safe, as the next.
int64_t FirstNotBelow(float limit, absl::Span<const float> values);

// Index of the first i without |b[i] - a[i]| <= relative * m + absolute, where
// m is the largest |a| of the block that i is in; a.size() when there is none.
// All in float32, rounded after each operation. Precondition (checked): equal
// sizes, whole blocks of `block_elems` >= 1; not checked: no a is NaN.
int64_t FirstFurther(absl::Span<const float> a, absl::Span<const float> b,
                     int64_t block_elems, float relative, float absolute);

}  // namespace qeff

#endif  // QEFF_KERNELS_GGML_NEARNESS_H_
