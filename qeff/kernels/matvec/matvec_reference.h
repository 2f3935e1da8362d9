// SPDX-License-Identifier: Apache-2.0
//
// What MatVec computes, one number at a time; for tests only.

#ifndef QEFF_KERNELS_MATVEC_MATVEC_REFERENCE_H_
#define QEFF_KERNELS_MATVEC_MATVEC_REFERENCE_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#include "qeff/kernels/matvec/matvec.h"
#include "qeff/tensor/dtype.h"

namespace qeff {

inline float WeightAt(const WeightRows& w, int64_t row, int64_t col) {
  const uint8_t* p = w.data + (row * w.stride_elems + col) *
                                  static_cast<int64_t>(DTypeBytes(w.dtype));
  if (w.dtype == DType::kF32) {
    float value;
    std::memcpy(&value, p, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return w.dtype == DType::kBF16 ? BF16ToFloat(bits) : F16ToFloat(bits);
}

struct ExactDot {
  double sum = 0;            // sum of w * x
  double sum_magnitude = 0;  // sum of |w * x|
};

// One row in double precision.
inline ExactDot MatVecExact(const WeightRows& w, int64_t row, const float* x) {
  ExactDot dot;
  for (int64_t c = 0; c < w.cols; ++c) {
    const double product =
        static_cast<double>(WeightAt(w, row, c)) * static_cast<double>(x[c]);
    dot.sum += product;
    dot.sum_magnitude += std::fabs(product);
  }
  return dot;
}

// One row in the order of additions that the contract fixes.
inline float MatVecInOrder(const WeightRows& w, int64_t row, const float* x) {
  float lanes[kMatVecLanes] = {};
  for (int64_t c = 0; c < w.cols; ++c) {
    lanes[c % kMatVecLanes] += WeightAt(w, row, c) * x[c];
  }
  for (int64_t half = kMatVecLanes / 2; half >= 1; half /= 2) {
    for (int64_t l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

}  // namespace qeff

#endif  // QEFF_KERNELS_MATVEC_MATVEC_REFERENCE_H_
