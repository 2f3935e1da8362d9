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

// What is taken off the elements of a row, and their factor.
struct RowStatistics {
  double mean;  // 0 for RmsNorm
  double scale;
};

RowStatistics StatisticsOf(const float* row, int64_t n, bool centered,
                           double epsilon) {
  const double size = static_cast<double>(n);
  RowStatistics statistics = {0.0, 0.0};
  if (centered) {
    statistics.mean =
        Sum(n, [&](int64_t i) { return static_cast<double>(row[i]); }) / size;
  }
  const double squares = Sum(n, [&](int64_t i) {
    const double d = row[i] - statistics.mean;
    return d * d;
  });
  statistics.scale = 1.0 / std::sqrt(squares / size + epsilon);
  return statistics;
}

// One row of either norm. `dbias` may be null; dx may be dy.
void RowBackward(const RowStatistics& statistics, int64_t n, bool centered,
                 const float* x, const float* weight, const float* dy,
                 float* dx, float* dweight, float* dbias) {
  const double size = static_cast<double>(n);
  const auto gradient = [&](int64_t i) {
    return static_cast<double>(dy[i]) * weight[i];
  };
  const double mean_g = centered ? Sum(n, gradient) / size : 0.0;
  const double mean_gx =
      Sum(n,
          [&](int64_t i) { return gradient(i) * (x[i] - statistics.mean); }) *
      statistics.scale / size;
  const float mean = static_cast<float>(mean_g);
  const float slope = static_cast<float>(mean_gx);
  const float scale = static_cast<float>(statistics.scale);
  for (int64_t i = 0; i < n; ++i) {
    const float normal =
        static_cast<float>((x[i] - statistics.mean) * statistics.scale);
    const float d = dy[i];
    dweight[i] += d * normal;
    if (dbias != nullptr) dbias[i] += d;
    dx[i] = ((d * weight[i] - mean) - normal * slope) * scale;
  }
}

void NormBackward(MatrixView<const float> x, absl::Span<const float> weight,
                  double epsilon, bool centered, MatrixView<const float> dy,
                  MatrixView<float> dx, absl::Span<float> dweight,
                  absl::Span<float> dbias) {
  const int64_t n = x.cols();
  QEFF_CHECK(static_cast<int64_t>(weight.size()) == n);
  QEFF_CHECK(dy.rows() == x.rows() && dy.cols() == n);
  QEFF_CHECK(dx.rows() == x.rows() && dx.cols() == n);
  QEFF_CHECK(dweight.size() == weight.size());
  QEFF_CHECK(dbias.empty() || dbias.size() == weight.size());
  for (int64_t r = 0; r < x.rows(); ++r) {
    RowBackward(StatisticsOf(x.row(r), n, centered, epsilon), n, centered,
                x.row(r), weight.data(), dy.row(r), dx.row(r), dweight.data(),
                dbias.empty() ? nullptr : dbias.data());
  }
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

void RmsNormBackward(MatrixView<const float> x, absl::Span<const float> weight,
                     double epsilon, MatrixView<const float> dy,
                     MatrixView<float> dx, absl::Span<float> dweight) {
  NormBackward(x, weight, epsilon, /*centered=*/false, dy, dx, dweight, {});
}

void LayerNormBackward(MatrixView<const float> x,
                       absl::Span<const float> weight, double epsilon,
                       MatrixView<const float> dy, MatrixView<float> dx,
                       absl::Span<float> dweight, absl::Span<float> dbias) {
  NormBackward(x, weight, epsilon, /*centered=*/true, dy, dx, dweight, dbias);
}

}  // namespace qeff
