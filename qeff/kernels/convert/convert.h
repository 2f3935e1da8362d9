// SPDX-License-Identifier: Apache-2.0
//
// Conversion of whole spans between storage types and float32. What is computed
// is defined by the scalar functions of qeff/tensor/dtype.h.

#ifndef QEFF_KERNELS_CONVERT_CONVERT_H_
#define QEFF_KERNELS_CONVERT_CONVERT_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/tensor/dtype.h"

namespace qeff {

// Converts `from`, elements of the floating type `dtype` at any alignment, to
// float32. Exact, but for F64, which is rounded to nearest; NaN stays NaN.
// F32, F16 and BF16 are vectorized. The spans must not overlap.
// Preconditions (checked): IsFloating(dtype),
// from.size() == to.size() * DTypeBytes(dtype). Thread-safe. The same bits on
// every target.
void ConvertToFloat(DType dtype, absl::Span<const uint8_t> from,
                    absl::Span<float> to);

// Converts `from` to `dtype`, one of F32, BF16 and F16, rounding to nearest,
// ties to even; too large values become infinite, NaN stays NaN. `to` may have
// any alignment. The spans must not overlap. Preconditions (checked): `dtype`,
// to.size() == from.size() * DTypeBytes(dtype). Thread-safe. The same bits on
// every target.
void ConvertFromFloat(absl::Span<const float> from, DType dtype,
                      absl::Span<uint8_t> to);

}  // namespace qeff

#endif  // QEFF_KERNELS_CONVERT_CONVERT_H_
