// SPDX-License-Identifier: Apache-2.0
//
// Elementwise steps of matrices on several threads.

#ifndef QEFF_TRANSFORMER_FOR_ROWS_H_
#define QEFF_TRANSFORMER_FOR_ROWS_H_

#include <algorithm>
#include <cstdint>

#include "qeff/parallel/thread_pool.h"

namespace qeff {

// Calls body(first row, count) on the threads of `pool` for all `rows` of
// `cols` elements, which are about what a step costs. How rows are split
// depends on the threads: body must not add up over rows.
template <typename Body>
void ForRows(int64_t rows, int64_t cols, ThreadPool& pool, Body body) {
  // Elements below which another thread does not pay.
  constexpr int64_t kMinElems = 1 << 14;
  const int64_t grain = BalancedGrain(
      rows, pool.num_threads(),
      std::max<int64_t>(1, kMinElems / std::max<int64_t>(1, cols)));
  pool.ParallelFor(rows, grain, [&](int64_t begin, int64_t end, int) {
    body(begin, end - begin);
  });
}

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_FOR_ROWS_H_
