// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/softmax_row.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "qeff/transformer/vector_math.h"
#include "qeff/util/vector_clones.h"

namespace qeff {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

QEFF_VECTOR_CLONES float Maximum(const float* x, int64_t count) {
  float maxima[kRowParts];
  std::fill(maxima, maxima + kRowParts, x[0]);
  int64_t i = 0;
  for (; i + kRowParts <= count; i += kRowParts) {
    for (int64_t p = 0; p < kRowParts; ++p) {
      maxima[p] = x[i + p] > maxima[p] ? x[i + p] : maxima[p];
    }
  }
  for (; i < count; ++i) maxima[0] = x[i] > maxima[0] ? x[i] : maxima[0];
  return *std::max_element(maxima, maxima + kRowParts);
}

// log_p = factor (x - maximum), p = e^log_p; returns the sum of p.
QEFF_VECTOR_CLONES double Exponentials(const float* __restrict x, int64_t count,
                                       float maximum, float factor,
                                       float* __restrict log_p,
                                       float* __restrict p) {
  const int64_t room = SoftmaxRoom(count);
  for (int64_t i = 0; i < count; ++i) log_p[i] = (x[i] - maximum) * factor;
  std::fill(log_p + count, log_p + room, -kInfinity);
  for (int64_t i = 0; i < room; ++i) p[i] = ExpFloat(log_p[i]);
  return SumRow(room, [&](int64_t i) { return p[i]; });
}

QEFF_VECTOR_CLONES void Normalize(int64_t room, float log_sum, float inverse,
                                  float* __restrict log_p,
                                  float* __restrict p) {
  for (int64_t i = 0; i < room; ++i) {
    log_p[i] -= log_sum;
    p[i] *= inverse;
  }
}

}  // namespace

double SoftmaxRow(const float* x, int64_t count, float factor, float* log_p,
                  float* p) {
  const float maximum = Maximum(x, count);
  const double sum = Exponentials(x, count, maximum, factor, log_p, p);
  const double log_sum = std::log(sum);
  Normalize(SoftmaxRoom(count), static_cast<float>(log_sum),
            static_cast<float>(1 / sum), log_p, p);
  return static_cast<double>(factor) * maximum + log_sum;
}

}  // namespace qeff
