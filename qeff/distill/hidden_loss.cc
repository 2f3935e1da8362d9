// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/hidden_loss.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "qeff/distill/logit_loss.h"
#include "qeff/distill/softmax_row.h"
#include "qeff/util/check.h"
#include "qeff/util/vector_clones.h"

namespace qeff {
namespace {

QEFF_VECTOR_CLONES double Product(const float* x, const float* y,
                                  int64_t count) {
  return SumRow(count, [&](int64_t i) { return x[i] * y[i]; });
}

QEFF_VECTOR_CLONES double SquaredDistance(const float* x, const float* y,
                                          int64_t count) {
  return SumRow(count,
                [&](int64_t i) { return (x[i] - y[i]) * (x[i] - y[i]); });
}

// g += a y + b t.
QEFF_VECTOR_CLONES void AddCombination(float a, const float* __restrict y,
                                       float b, const float* __restrict t,
                                       int64_t count, float* __restrict g) {
  for (int64_t i = 0; i < count; ++i) g[i] += a * y[i] + b * t[i];
}

// Adds the gradient in y to g.
HiddenLossTerms AddRow(const HiddenLossWeights& weights, const float* y,
                       const float* t, int64_t count, float scale, float* g) {
  HiddenLossTerms terms;
  terms.rows = 1;
  const double tt = Product(t, t, count);
  // The gradient is y_factor y + t_factor t.
  double y_factor = 0, t_factor = 0;
  if (weights.cosine > 0) {
    terms.cosine = 1;
    const double yy = Product(y, y, count);
    const double lengths = std::sqrt(yy) * std::sqrt(tt);
    // Not "> 0": NaN must show.
    if (lengths != 0) {
      const double cosine = Product(y, t, count) / lengths;
      terms.cosine -= cosine;
      y_factor += weights.cosine * cosine / yy;
      t_factor -= weights.cosine / lengths;
    }
  }
  if (weights.mse > 0 && tt != 0) {
    terms.mse = SquaredDistance(y, t, count) / tt;
    y_factor += weights.mse * 2 / tt;
    t_factor -= weights.mse * 2 / tt;
  }
  AddCombination(static_cast<float>(y_factor * scale), y,
                 static_cast<float>(t_factor * scale), t, count, g);
  return terms;
}

HiddenLossTerms AddRows(const HiddenLossWeights& weights,
                        MatrixView<const float> y, MatrixView<const float> t,
                        absl::Span<const int32_t> labels, float scale,
                        MatrixView<float> g, ThreadPool& pool) {
  // Rows of few channels are not worth waking a thread each.
  constexpr int64_t kMinElems = 1 << 14;
  const int64_t grain = BalancedGrain(
      y.rows(), pool.num_threads(),
      std::max<int64_t>(1, kMinElems / std::max<int64_t>(1, y.cols())));
  std::vector<HiddenLossTerms> terms(labels.size());
  pool.ParallelFor(y.rows(), grain, [&](int64_t r, int64_t end, int) {
    for (; r < end; ++r) {
      const size_t at = static_cast<size_t>(r);
      if (labels[at] == kNoLabel) continue;
      terms[at] =
          AddRow(weights, y.row(r), t.row(r), y.cols(), scale, g.row(r));
    }
  });
  HiddenLossTerms sum;
  for (const HiddenLossTerms& row : terms) {
    sum.cosine += row.cosine;
    sum.mse += row.mse;
    sum.rows += row.rows;
  }
  return sum;
}

}  // namespace

HiddenLossTerms HiddenLoss::Add(
    const HiddenLossWeights& weights, MatrixView<const float> x,
    MatrixView<const float> t, MatrixView<const float> projection,
    absl::Span<const int32_t> labels, float scale, MatrixView<float> dx,
    MatrixView<float> dprojection, ThreadPool& pool) {
  const bool projected = projection.rows() > 0;
  QEFF_CHECK(t.rows() == x.rows() && dx.rows() == x.rows());
  QEFF_CHECK(static_cast<int64_t>(labels.size()) == x.rows());
  QEFF_CHECK(dx.cols() == x.cols());
  if (!projected) {
    QEFF_CHECK(t.cols() == x.cols() && dprojection.rows() == 0);
    return AddRows(weights, x, t, labels, scale, dx, pool);
  }
  QEFF_CHECK(projection.rows() == t.cols() && projection.cols() == x.cols());
  QEFF_CHECK(dprojection.rows() == t.cols() && dprojection.cols() == x.cols());

  SgemmArgs forward;  // y = x P^T
  forward.a = x;
  forward.b = projection;
  forward.b_transposed = true;
  forward.c = y_.Get(x.rows(), t.cols());
  Sgemm(forward, pool, products_);
  const MatrixView<float> dy = dy_.Get(x.rows(), t.cols());
  std::fill_n(dy.data(), dy.rows() * dy.cols(), 0.0f);
  const HiddenLossTerms terms =
      AddRows(weights, y_.view(), t, labels, scale, dy, pool);

  SgemmArgs input;  // dx += dy P
  input.a = dy;
  input.b = projection;
  input.c = dx;
  input.update = SgemmUpdate::kAdd;
  Sgemm(input, pool, products_);
  SgemmArgs gradient;  // dP += dy^T x
  gradient.a = dy;
  gradient.a_transposed = true;
  gradient.b = x;
  gradient.c = dprojection;
  gradient.update = SgemmUpdate::kAdd;
  Sgemm(gradient, pool, products_);
  return terms;
}

}  // namespace qeff
