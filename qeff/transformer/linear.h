// SPDX-License-Identifier: Apache-2.0
//
// Linear layers whose weights change from step to step, and their gradients.
// For weights that stay, qeff/xnnpack packs them once.

#ifndef QEFF_TRANSFORMER_LINEAR_H_
#define QEFF_TRANSFORMER_LINEAR_H_

#include "absl/types/span.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Borrowed weights: [out, in] and [out] or empty.
struct LinearView {
  MatrixView<const float> weight;
  absl::Span<const float> bias;
};

// Borrowed gradients, shaped as the weights; `bias` may be empty: not wanted.
struct LinearGradientView {
  MatrixView<float> weight;
  absl::Span<float> bias;
};

// y += x W^T + b for x [rows, in] and y [rows, out].
void AddLinear(MatrixView<const float> x, const LinearView& linear,
               MatrixView<float> y, ThreadPool& pool, SgemmScratch& scratch);

// y = x W^T + b.
void ApplyLinear(MatrixView<const float> x, const LinearView& linear,
                 MatrixView<float> y, ThreadPool& pool, SgemmScratch& scratch);

// Of a loss with the gradient dy [rows, out] in the result, the gradient in the
// input, [rows, in]: dx = dy W, or dx += dy W where an input has several uses.
void LinearInputBackward(MatrixView<const float> dy,
                         MatrixView<const float> weight, SgemmUpdate update,
                         MatrixView<float> dx, ThreadPool& pool,
                         SgemmScratch& scratch);

// And in the weights, added to what is there:
//   weight += dy^T x,  bias += sum over rows of dy
// Columns are summed in runs of 128 rows, then the runs, in order.
void LinearWeightsBackward(MatrixView<const float> x,
                           MatrixView<const float> dy,
                           const LinearGradientView& gradient, ThreadPool& pool,
                           SgemmScratch& scratch);

// All four: shapes are checked, nothing overlaps; throw std::bad_alloc. The
// same bits for any number of threads; products round as Sgemm does.

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_LINEAR_H_
