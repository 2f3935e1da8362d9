// SPDX-License-Identifier: Apache-2.0
//
// What a cache of keys and values in few bits makes of them, for runtimes whose
// cache the host forward is to imitate.

#ifndef QEFF_TRANSFORMER_CACHE_ROUNDING_H_
#define QEFF_TRANSFORMER_CACHE_ROUNDING_H_

#include <cstdint>

#include "qeff/format/codebook.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Replaces each head of each row of x [rows, heads * head_dim] by the nearest
// values of `codebook`, in groups of its group size from the head's first
// element on, with the scales that its definition gives (CodebookScale); a
// value that is not finite makes its group NaN. Preconditions (checked): whole
// heads; a codebook with E8M0 scales.
void RoundCache(Codebook codebook, int64_t head_dim, MatrixView<float> x,
                ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_CACHE_ROUNDING_H_
