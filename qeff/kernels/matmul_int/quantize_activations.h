// SPDX-License-Identifier: Apache-2.0
//
// Activations to 8-bit codes, with a scale of each token or one that is fixed,
// in the layout that the integer matrix product reads. Done once for all
// matrices that share an input, a group size and a fixed scale.

#ifndef QEFF_KERNELS_MATMUL_INT_QUANTIZE_ACTIVATIONS_H_
#define QEFF_KERNELS_MATMUL_INT_QUANTIZE_ACTIVATIONS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {

// Activations below this in all columns count as 0, so that 127 / absmax is
// finite.
inline constexpr float kSmallestActivation = 0x1p-119f;

// For each token t of `x`, whose column c is x[t * stride_elems + c]:
//   absmax = max over c of |x[t, c]|
//   scale  = absmax / 127, inverse = 127 / absmax      (float32, rounded)
//   code   = round(x[t, c] * inverse)                  (to nearest, ties even)
// and the sums of codes that ActivationLayout names. A token whose absmax is
// below kSmallestActivation has scale and codes 0; one with a NaN or infinity
// has scale NaN and codes 0, so that all its products are NaN.
//
// `x` may have any alignment of floats and must not overlap `packed`, which is
// 64-byte aligned. Preconditions (checked): stride_elems >= layout.cols(),
// x.size() >= (tokens - 1) * stride_elems + cols, packed.size() ==
// layout.total_bytes(), its alignment. Thread-safe; works on `pool`. Allocates
// nothing. The same bits on every target, for any number of threads.
// |x - code * scale| <= (0.5 + 2^-15) * scale.
void QuantizeActivations(const ActivationLayout& layout,
                         absl::Span<const float> x, int64_t stride_elems,
                         absl::Span<uint8_t> packed, ThreadPool& pool);

// The same with the scale `scale` for every token:
//   code = round(min(max(x[t, c] * (1 / scale), -127), 127))
// so that what is larger than 127 scales saturates; a token with a NaN or
// infinity has scale NaN and codes 0, as above. Further precondition (checked):
// IsActivationScale(scale). |x - code * scale| <= (0.5 + 2^-15) * scale unless
// it saturates.
void QuantizeActivationsFixed(const ActivationLayout& layout, float scale,
                              absl::Span<const float> x, int64_t stride_elems,
                              absl::Span<uint8_t> packed, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_INT_QUANTIZE_ACTIVATIONS_H_
