// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/kept_zeros.h"

#include <algorithm>
#include <cstddef>

#include "qeff/quant/survivor_fit.h"
#include "qeff/util/check.h"

namespace qeff {

KeptZeros::KeptZeros(MatrixView<const float> weights)
    : zero_(static_cast<size_t>(weights.rows() * weights.cols())) {
  for (int64_t r = 0; r < weights.rows(); ++r) {
    for (int64_t c = 0; c < weights.cols(); ++c) {
      if (weights.row(r)[c] != 0) continue;
      zero_[static_cast<size_t>(r * weights.cols() + c)] = true;
      ++count_;
    }
  }
}

void KeptZeros::Restore(MatrixView<const float> hessian,
                        MatrixView<float> weights, ThreadPool& pool) const {
  const int64_t rows = weights.rows(), cols = weights.cols();
  QEFF_CHECK(zero_.size() == static_cast<size_t>(rows * cols));
  if (count_ == 0) return;
  const bool masked = static_cast<double>(count_) >=
                      kMaskedShare * static_cast<double>(rows * cols);
  Matrix<float> wanted(masked ? rows : 0, cols);
  for (int64_t r = 0; r < rows; ++r) {
    if (masked) std::copy_n(weights.row(r), cols, wanted.row(r));
    for (int64_t c = 0; c < cols; ++c) {
      if (zero_[static_cast<size_t>(r * cols + c)]) weights.row(r)[c] = 0;
    }
  }
  if (masked) FitSurvivors(wanted.view(), hessian, {}, weights, pool);
}

}  // namespace qeff
