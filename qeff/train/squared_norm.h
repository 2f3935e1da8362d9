// SPDX-License-Identifier: Apache-2.0
//
// How large a gradient is, and whether it is one.

#ifndef QEFF_TRAIN_SQUARED_NORM_H_
#define QEFF_TRAIN_SQUARED_NORM_H_

#include "absl/types/span.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {

// The sum of the squares, in double: finite if, and only if, all values are,
// because squares of float32 cannot overflow it. The same bits for any number
// of threads and on every machine. Thread-safe. Throws std::bad_alloc. Cost:
// one pass at the speed of memory.
double SquaredNorm(absl::Span<const float> values, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_TRAIN_SQUARED_NORM_H_
