// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/norm.h"

#include <cmath>

#include "qeff/util/check.h"

namespace qeff {
namespace {

// Sum of term(i) over [0, n) in eight interleaved parts, which hides the
// latency of the additions; always in the same order.
template <typename Term>
double Sum(int64_t n, Term term) {
  constexpr int64_t kParts = 8;
  double parts[kParts] = {};
  int64_t i = 0;
  for (; i + kParts <= n; i += kParts) {
    for (int64_t k = 0; k < kParts; ++k) parts[k] += term(i + k);
  }
  for (; i < n; ++i) parts[0] += term(i);
  return ((parts[0] + parts[1]) + (parts[2] + parts[3])) +
         ((parts[4] + parts[5]) + (parts[6] + parts[7]));
}

}  // namespace

void RmsNorm(MatrixView<const float> x, absl::Span<const float> weight,
             double epsilon, MatrixView<float> y) {
  const int64_t n = x.cols();
  QEFF_CHECK(static_cast<int64_t>(weight.size()) == n);
  QEFF_CHECK(y.rows() == x.rows() && y.cols() == n);
  for (int64_t r = 0; r < x.rows(); ++r) {
    const float* in = x.row(r);
    float* out = y.row(r);
    const double squares =
        Sum(n, [&](int64_t i) { return static_cast<double>(in[i]) * in[i]; });
    const float scale = static_cast<float>(
        1.0 / std::sqrt(squares / static_cast<double>(n) + epsilon));
    for (int64_t i = 0; i < n; ++i) {
      out[i] = in[i] * scale * weight[static_cast<size_t>(i)];
    }
  }
}

void LayerNorm(MatrixView<const float> x, absl::Span<const float> weight,
               absl::Span<const float> bias, double epsilon,
               MatrixView<float> y) {
  const int64_t n = x.cols();
  QEFF_CHECK(static_cast<int64_t>(weight.size()) == n);
  QEFF_CHECK(bias.empty() || bias.size() == weight.size());
  QEFF_CHECK(y.rows() == x.rows() && y.cols() == n);
  for (int64_t r = 0; r < x.rows(); ++r) {
    const float* in = x.row(r);
    float* out = y.row(r);
    const double mean =
        Sum(n, [&](int64_t i) { return static_cast<double>(in[i]); }) /
        static_cast<double>(n);
    const double squares = Sum(n, [&](int64_t i) {
      const double d = in[i] - mean;
      return d * d;
    });
    const double scale =
        1.0 / std::sqrt(squares / static_cast<double>(n) + epsilon);
    for (int64_t i = 0; i < n; ++i) {
      const size_t c = static_cast<size_t>(i);
      const float normal = static_cast<float>((in[i] - mean) * scale);
      out[i] = normal * weight[c] + (bias.empty() ? 0.0f : bias[c]);
    }
  }
}

}  // namespace qeff
