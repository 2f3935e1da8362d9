// SPDX-License-Identifier: Apache-2.0
//
// What a cache holds and what Attend computes of it, one number at a time; for
// tests only.

#ifndef QEFF_KERNELS_ATTENTION_KV_REFERENCE_H_
#define QEFF_KERNELS_ATTENTION_KV_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "qeff/kernels/attention/attend.h"
#include "qeff/kernels/attention/kv_layout.h"
#include "qeff/tensor/dtype.h"

namespace qeff {

inline float FloatAt(const uint8_t* p) {
  float value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

// The number at `p`, an element of the cache whose scale is at `scale`.
inline float ElementAt(DType dtype, const uint8_t* p, const uint8_t* scale) {
  if (dtype == DType::kI8) {
    return static_cast<float>(static_cast<int8_t>(*p)) * FloatAt(scale);
  }
  if (dtype == DType::kF32) return FloatAt(p);
  uint16_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return F16ToFloat(bits);
}

inline float KeyAt(const KvLayout& layout, const uint8_t* region,
                   int64_t position, int64_t dim) {
  const uint8_t* block =
      region + position / kKvBlockPositions * layout.block_bytes();
  const int64_t p = position % kKvBlockPositions;
  return ElementAt(layout.dtype(), block + layout.KeyOffset(dim, p),
                   block + layout.key_scales_offset() + 4 * p);
}

inline float ValueAt(const KvLayout& layout, const uint8_t* region,
                     int64_t position, int64_t dim) {
  const uint8_t* block =
      region + position / kKvBlockPositions * layout.block_bytes();
  const int64_t p = position % kKvBlockPositions;
  const int64_t offset = layout.values_offset() + p * layout.value_row_bytes() +
                         dim * static_cast<int64_t>(DTypeBytes(layout.dtype()));
  return ElementAt(layout.dtype(), block + offset,
                   block + layout.value_scales_offset() + 4 * p);
}

// The output of one query in double, and the bound of the header for it.
struct ExactOutput {
  std::vector<double> values;
  std::vector<double> bounds;
};

inline ExactOutput AttendExactly(const KvLayout& layout, const uint8_t* region,
                                 const AttendOptions& options,
                                 const AttendTokens& tokens, int64_t token,
                                 int64_t head) {
  const int64_t n = layout.head_dim();
  const int64_t query = tokens.first_position + token;
  const int64_t window = options.sliding_window;
  const int64_t begin =
      window == 0 ? 0 : std::max<int64_t>(0, query + 1 - window);
  const float* q = tokens.q.data() + token * tokens.q_stride_elems + head * n;
  const double slope =
      options.slopes.empty() ? 0.0 : options.slopes[static_cast<size_t>(head)];
  std::vector<double> scores;
  double most = 0, most_bias = 0;
  for (int64_t j = begin; j <= query; ++j) {
    const double bias = slope * static_cast<double>(j - query);
    double sum = 0, magnitude = 0;
    for (int64_t d = 0; d < n; ++d) {
      const double product = static_cast<double>(options.scale) * q[d] *
                             KeyAt(layout, region, j, d);
      sum += product;
      magnitude += std::fabs(product);
    }
    scores.push_back(sum + bias);
    most = std::max(most, magnitude);
    most_bias = std::max(most_bias, std::fabs(bias));
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  const double min = *std::min_element(scores.begin(), scores.end());
  ExactOutput output;
  output.values.resize(static_cast<size_t>(n));
  output.bounds.resize(static_cast<size_t>(n));
  double total = 0;
  for (const double score : scores) total += std::exp(score - max);
  for (int64_t j = begin; j <= query; ++j) {
    const double weight =
        std::exp(scores[static_cast<size_t>(j - begin)] - max) / total;
    for (int64_t d = 0; d < n; ++d) {
      const double value = ValueAt(layout, region, j, d);
      output.values[static_cast<size_t>(d)] += weight * value;
      output.bounds[static_cast<size_t>(d)] += weight * std::fabs(value);
    }
  }
  const double u = 0x1p-24;
  const double chunks = static_cast<double>(query / 256 - begin / 256 + 1);
  const double e = (static_cast<double>(n) + 4) * u * most + 3 * u * most_bias +
                   2 * u * (max - min);
  // Twice the square covers what the first order leaves out.
  const double factor = 2 * e + (270 + 12 * chunks) * u;
  for (double& bound : output.bounds) bound *= factor + 2 * factor * factor;
  return output;
}

}  // namespace qeff

#endif  // QEFF_KERNELS_ATTENTION_KV_REFERENCE_H_
