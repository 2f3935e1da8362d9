// SPDX-License-Identifier: Apache-2.0
//
// Losses of a student's hidden states against those of a teacher's layer, with
// their gradients. Where the widths differ, a projection that is trained along
// takes the student's states to the teacher's width.
//
//   HiddenLoss loss;  // kept from step to step
//   const HiddenLossTerms terms = loss.Add(
//       {/*cosine=*/1, /*mse=*/0}, x, t, projection, labels,
//       1.0f / num_labels, dx, dprojection, pool);

#ifndef QEFF_DISTILL_HIDDEN_LOSS_H_
#define QEFF_DISTILL_HIDDEN_LOSS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/matrix_buffer.h"

namespace qeff {

// Finite and not negative.
struct HiddenLossWeights {
  double cosine = 0;
  double mse = 0;
};

// Sums over the counted rows, without weights.
struct HiddenLossTerms {
  double cosine = 0;
  double mse = 0;
  int64_t rows = 0;  // counted

  double Weighted(const HiddenLossWeights& weights) const {
    return weights.cosine * cosine + weights.mse * mse;
  }
};

// Not thread-safe. Holds memory for two matrices as wide as the teacher where
// there is a projection.
class HiddenLoss {
 public:
  // With y = P x in each row, or y = x where P is empty,
  //   cosine  1 - y.t / (|y| |t|)
  //   mse     |y - t|^2 / |t|^2
  // and adds scale * the gradient of terms.Weighted(weights) to dx and
  // dprojection. mse is normalized in each row, as few tokens (the first of a
  // text) have states a hundred times longer than others, which alone would
  // count. A row where t, or for the cosine y, is 0 adds 1 to cosine, 0 to mse,
  // and nothing to gradients.
  //
  // x and dx are [rows, student's width], t is [rows, teacher's width], P and
  // dprojection are [teacher's width, student's width]; both may be empty (0
  // rows) where the widths agree. Rows whose label is kNoLabel are not counted;
  // with a projection they must be finite all the same. dx may not overlap x.
  // Preconditions (checked): shapes.
  // Numerics: float32; sums over rows in double and in order. The same bits for
  // any number of threads. Throws std::bad_alloc.
  // Source: Jiao et al. 2019 (TinyBERT: mse, projection); Sanh et al. 2019
  // (DistilBERT: cosine).
  HiddenLossTerms Add(const HiddenLossWeights& weights,
                      MatrixView<const float> x, MatrixView<const float> t,
                      MatrixView<const float> projection,
                      absl::Span<const int32_t> labels, float scale,
                      MatrixView<float> dx, MatrixView<float> dprojection,
                      ThreadPool& pool);

 private:
  MatrixBuffer y_, dy_;
  SgemmScratch products_;
};

}  // namespace qeff

#endif  // QEFF_DISTILL_HIDDEN_LOSS_H_
