// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/add_scaled.h"

#include "qeff/util/vector_clones.h"

namespace qeff {

QEFF_VECTOR_CLONES void AddScaled(int64_t count, float factor, const float* x,
                                  float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] += factor * x[i];
}

QEFF_VECTOR_CLONES void AddScaledToRows(int64_t rows, int64_t count,
                                        const float* factors,
                                        const float* __restrict x,
                                        float* __restrict y,
                                        int64_t stride_elems) {
  constexpr int64_t kVector = 16;
  for (int64_t r = 0; r < rows; ++r) {
    const float factor = factors[r];
    float* row = y + r * stride_elems;
    int64_t i = 0;
    for (; i + kVector <= count; i += kVector) {
      for (int64_t j = 0; j < kVector; ++j) row[i + j] += factor * x[i + j];
    }
    for (; i < count; ++i) row[i] += factor * x[i];
  }
}

QEFF_VECTOR_CLONES double DotInDouble(int64_t count, const float* a,
                                      const float* b) {
  constexpr int64_t kSums = 8;
  double sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= count; i += kSums) {
    for (int64_t j = 0; j < kSums; ++j) {
      sums[j] += static_cast<double>(a[i + j]) * static_cast<double>(b[i + j]);
    }
  }
  double sum = 0;
  for (const double part : sums) sum += part;
  for (; i < count; ++i) {
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  }
  return sum;
}

}  // namespace qeff
