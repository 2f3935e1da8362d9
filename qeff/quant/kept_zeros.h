// SPDX-License-Identifier: Apache-2.0
//
// Pruned weights stay pruned: which of a layer's weights are 0, so that they
// can be made 0 again after something else has changed all of them.

#ifndef QEFF_QUANT_KEPT_ZEROS_H_
#define QEFF_QUANT_KEPT_ZEROS_H_

#include <cstdint>
#include <vector>

#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Thread-compatible. Memory: a bit a weight.
class KeptZeros {
 public:
  // From here on a layer's zeros are a mask, for which the other weights make
  // up; less are an accident, for which they need not.
  static constexpr double kMaskedShare = 0.05;

  // Finds what is 0 in `weights` [rows, cols]; throws std::bad_alloc.
  explicit KeptZeros(MatrixView<const float> weights);

  int64_t count() const { return count_; }

  // Sets these of `weights`, of the same size, to 0, and with a mask lets the
  // others make up for it (FitSurvivors with `hessian`, damped).
  void Restore(MatrixView<const float> hessian, MatrixView<float> weights,
               ThreadPool& pool) const;

 private:
  std::vector<bool> zero_;  // [rows, cols]
  int64_t count_ = 0;
};

}  // namespace qeff

#endif  // QEFF_QUANT_KEPT_ZEROS_H_
