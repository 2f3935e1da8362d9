// SPDX-License-Identifier: Apache-2.0
//
// What a tensor's values look like, for inspection.

#ifndef QEFF_EVAL_TENSOR_STATISTICS_H_
#define QEFF_EVAL_TENSOR_STATISTICS_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Over the finite values; zeros where there are none.
struct TensorStatistics {
  double mean = 0;
  double standard_deviation = 0;  // of the population
  double max_abs = 0;
  int64_t not_finite = 0;  // NaN and infinities
};

// Reads the whole of `tensor`, which must be floating (checked). Sums are in
// double over fixed chunks in order: the same for any number of threads.
// `chunk_done` (may be null) is called, from any thread, with each part of the
// bytes that will not be read again.
TensorStatistics ComputeStatistics(
    const TensorView& tensor, ThreadPool* pool,
    absl::FunctionRef<void(const TensorView&)> chunk_done);

}  // namespace qeff

#endif  // QEFF_EVAL_TENSOR_STATISTICS_H_
