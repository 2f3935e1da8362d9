// SPDX-License-Identifier: Apache-2.0
//
// What QuantizeActivations and MatMulInt compute, one number at a time, from
// row-major codes; for tests only.

#ifndef QEFF_KERNELS_MATMUL_INT_MATMUL_INT_REFERENCE_H_
#define QEFF_KERNELS_MATMUL_INT_MATMUL_INT_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "qeff/kernels/matmul_int/quantize_activations.h"

namespace qeff {

struct ReferenceToken {
  float scale;
  std::vector<int> codes;
};

// `fixed_scale` 0: the token's own.
inline ReferenceToken QuantizeTokenReference(const float* x, int64_t cols,
                                             float fixed_scale = 0) {
  ReferenceToken token{0.0f, std::vector<int>(static_cast<size_t>(cols))};
  float absmax = 0.0f;
  for (int64_t c = 0; c < cols; ++c) {
    if (!std::isfinite(x[c])) {
      token.scale = std::numeric_limits<float>::quiet_NaN();
      return token;
    }
    absmax = std::max(absmax, std::abs(x[c]));
  }
  if (absmax < kSmallestActivation && fixed_scale == 0) return token;
  token.scale = fixed_scale == 0 ? absmax / 127.0f : fixed_scale;
  const float inverse = fixed_scale == 0 ? 127.0f / absmax : 1.0f / fixed_scale;
  for (int64_t c = 0; c < cols; ++c) {
    const float scaled = std::min(std::max(x[c] * inverse, -127.0f), 127.0f);
    token.codes[static_cast<size_t>(c)] =
        static_cast<int>(std::nearbyint(scaled));
  }
  return token;
}

// One row of weights: signed codes, and a scale for each group.
struct ReferenceRow {
  std::vector<int> codes;
  std::vector<float> scales;
  int64_t group_elems;
};

// The sum of products of codes of one group.
inline int64_t GroupDot(const ReferenceRow& row, const ReferenceToken& token,
                        size_t group) {
  const size_t size = static_cast<size_t>(row.group_elems);
  const size_t end = std::min((group + 1) * size, row.codes.size());
  int64_t sum = 0;
  for (size_t c = group * size; c < end; ++c) {
    sum += row.codes[c] * token.codes[c];
  }
  return sum;
}

// In the documented order of float32 operations.
inline float MatMulIntInOrder(const ReferenceRow& row,
                              const ReferenceToken& token) {
  float total = 0.0f;
  for (size_t g = 0; g < row.scales.size(); ++g) {
    total += static_cast<float>(GroupDot(row, token, g)) * row.scales[g];
  }
  return total * token.scale;
}

// The exact value, and what its error is measured in: the sum of magnitudes.
struct ExactProduct {
  double value = 0;
  double magnitude = 0;
};

inline ExactProduct MatMulIntExact(const ReferenceRow& row,
                                   const ReferenceToken& token) {
  ExactProduct exact;
  for (size_t g = 0; g < row.scales.size(); ++g) {
    const double term = static_cast<double>(GroupDot(row, token, g)) *
                        static_cast<double>(row.scales[g]);
    exact.value += term;
    exact.magnitude += std::abs(term);
  }
  exact.value *= static_cast<double>(token.scale);
  exact.magnitude *= static_cast<double>(token.scale);
  return exact;
}

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_INT_MATMUL_INT_REFERENCE_H_
