// SPDX-License-Identifier: Apache-2.0
//
// Float32 activations, rounded to bf16, in the order in which the matrix
// product reads them: packed once and used by every matrix that has the same
// input (query, key and value; gate and up).

#ifndef QEFF_KERNELS_MATMUL_BF16_PACK_BF16_ACTIVATIONS_H_
#define QEFF_KERNELS_MATMUL_BF16_PACK_BF16_ACTIVATIONS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/kernels/matmul_bf16/packed_bf16_layout.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {

// Writes x[t * stride_elems + c], rounded to the nearest bf16, ties to even,
// for every token t and column c to its place in `packed`; the padding column
// is 0. NaN stays NaN. Preconditions (checked): stride_elems >= cols, x.size()
// >= (tokens - 1) * stride_elems + cols, packed.size() == layout.total_bytes().
// `x` has any alignment of floats, `packed` that of 4 bytes; they must not
// overlap. Thread-safe; works on `pool`. Allocates nothing. The same bits on
// every target and for any number of threads.
void PackBF16Activations(const BF16ActivationLayout& layout,
                         absl::Span<const float> x, int64_t stride_elems,
                         absl::Span<uint8_t> packed, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_BF16_PACK_BF16_ACTIVATIONS_H_
