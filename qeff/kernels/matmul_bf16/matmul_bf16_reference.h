// SPDX-License-Identifier: Apache-2.0
//
// What MatMulBF16 computes for one row and one token, from the formula.

#ifndef QEFF_KERNELS_MATMUL_BF16_MATMUL_BF16_REFERENCE_H_
#define QEFF_KERNELS_MATMUL_BF16_MATMUL_BF16_REFERENCE_H_

#include <cmath>
#include <cstdint>

#include "qeff/tensor/dtype.h"

namespace qeff {

struct ExactBF16Product {
  double value = 0;      // rounded only as double
  double magnitude = 0;  // sum of |w x|
  double flushed = 0;    // what flushing subnormal numbers can change
};

// `w` are bf16, `x` are rounded first.
inline ExactBF16Product MatMulBF16Exact(const uint16_t* w, const float* x,
                                        int64_t cols) {
  ExactBF16Product exact;
  for (int64_t c = 0; c < cols; ++c) {
    const double wc = BF16ToFloat(w[c]);
    const double xc = BF16ToFloat(FloatToBF16(x[c]));
    exact.value += wc * xc;
    exact.magnitude += std::abs(wc * xc);
    exact.flushed += 0x1p-126 * (2 + std::abs(wc) + std::abs(xc));
  }
  return exact;
}

// In the order that is promised, each sum rounded to float32.
inline float MatMulBF16InOrder(const uint16_t* w, const float* x,
                               int64_t cols) {
  const auto product = [&](int64_t c) {
    return c < cols ? BF16ToFloat(w[c]) * BF16ToFloat(FloatToBF16(x[c])) : 0.0f;
  };
  float sum = 0;
  for (int64_t c = 0; c < cols; c += 2) {
    sum += product(c + 1);
    sum += product(c);
  }
  return sum;
}

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_BF16_MATMUL_BF16_REFERENCE_H_
