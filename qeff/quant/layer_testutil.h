// SPDX-License-Identifier: Apache-2.0
//
// Weights and Hessians of single layers for the tests of this package. For
// whole models see quant_testutil.h.

#ifndef QEFF_QUANT_LAYER_TESTUTIL_H_
#define QEFF_QUANT_LAYER_TESTUTIL_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "qeff/tensor/tensor.h"
#include "qeff/util/random.h"

namespace qeff {

// Normal values, in NormalMatrix times `scale`.
inline std::vector<float> NormalValues(size_t count, uint64_t seed) {
  std::vector<float> values(count);
  const Random random(seed);
  for (size_t i = 0; i < count; ++i) values[i] = random.NormalAt(i);
  return values;
}

inline Matrix<float> NormalMatrix(int64_t rows, int64_t cols, uint64_t seed,
                                  float scale = 1) {
  Matrix<float> out(rows, cols);
  const Random random(seed);
  for (int64_t i = 0; i < rows * cols; ++i) {
    out.data()[i] = scale * random.NormalAt(static_cast<uint64_t>(i));
  }
  return out;
}

// [n, n]: of inputs that depend on their neighbours and have different
// energies.
inline Matrix<float> NeighbourHessian(int64_t n) {
  Matrix<float> h(n, n);
  const auto energy = [](int64_t i) {
    return 1.0f + 0.2f * static_cast<float>(i * 7 % 11);
  };
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      h.row(i)[j] = energy(i) * energy(j) *
                    std::pow(0.8f, static_cast<float>(std::abs(i - j)));
    }
  }
  return h;
}

// [n, n]: of inputs of which none depends on another.
inline Matrix<float> IdentityHessian(int64_t n) {
  Matrix<float> h(n, n);
  for (int64_t i = 0; i < n; ++i) h.row(i)[i] = 1;
  return h;
}

// trace(D H D^T), D = weights - values, with `damping` on the diagonal of H.
inline double LossOf(const Matrix<float>& weights, const Matrix<float>& values,
                     const Matrix<float>& h, double damping) {
  double loss = 0;
  for (int64_t r = 0; r < weights.rows(); ++r) {
    std::vector<double> d;
    for (int64_t i = 0; i < weights.cols(); ++i) {
      d.push_back(static_cast<double>(weights.row(r)[i]) -
                  static_cast<double>(values.row(r)[i]));
    }
    for (size_t i = 0; i < d.size(); ++i) {
      const float* row = h.row(static_cast<int64_t>(i));
      double sum = damping * d[i];
      for (size_t j = 0; j < d.size(); ++j) {
        sum += static_cast<double>(row[j]) * d[j];
      }
      loss += d[i] * sum;
    }
  }
  return loss;
}

}  // namespace qeff

#endif  // QEFF_QUANT_LAYER_TESTUTIL_H_
