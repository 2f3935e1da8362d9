// SPDX-License-Identifier: Apache-2.0
//
// Weights as they are once they were rounded to nearest and read back: for
// searches that ask what a scheme would cost.

#ifndef QEFF_QUANT_ROUNDED_WEIGHTS_H_
#define QEFF_QUANT_ROUNDED_WEIGHTS_H_

#include "qeff/format/quant_scheme.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Replaces `weights` [out, in] by their values in `scheme`, with the parameters
// of LeastErrorParams, ChooseGgmlParams or RoundingScale, all columns being
// equally important. Preconditions (checked): WhyNotQuantized is empty. Weights
// that are not finite, or too large for the scheme, become anything. The same
// bits for any number of threads. Thread-safe; throws std::bad_alloc.
void RoundWeights(const QuantScheme& scheme, DType scale_dtype,
                  MatrixView<float> weights, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_QUANT_ROUNDED_WEIGHTS_H_
