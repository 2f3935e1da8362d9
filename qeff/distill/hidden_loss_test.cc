// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/hidden_loss.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/distill/logit_loss.h"
#include "qeff/transformer/gradient_testutil.h"

namespace qeff {
namespace {

using Vector = std::vector<double>;

struct Case {
  // No projection where the widths agree.
  Case(int64_t rows, int64_t width, int64_t teacher_width)
      : x(RandomMatrix(rows, width, 1)),
        t(RandomMatrix(rows, teacher_width, 2)),
        projection(width == teacher_width
                       ? Matrix<float>()
                       : RandomMatrix(teacher_width, width, 3, 0.5f)),
        labels(static_cast<size_t>(rows), 0) {}

  Vector Values() const {
    Vector values = ToDouble(x.span());
    values.insert(values.end(), projection.span().begin(),
                  projection.span().end());
    return values;
  }

  // In double, of x and the projection in `values`.
  HiddenLossTerms Exact(const Vector& values) const {
    const size_t width = static_cast<size_t>(x.cols());
    const size_t teacher_width = static_cast<size_t>(t.cols());
    const double* p = values.data() + x.span().size();
    HiddenLossTerms terms;
    for (size_t r = 0; r < labels.size(); ++r) {
      if (labels[r] == kNoLabel) continue;
      Vector y(values.begin() + r * width, values.begin() + (r + 1) * width);
      if (!projection.empty()) {
        const Vector in = std::exchange(y, Vector(teacher_width));
        for (size_t o = 0; o < teacher_width; ++o) {
          for (size_t i = 0; i < width; ++i) y[o] += p[o * width + i] * in[i];
        }
      }
      double yy = 0, tt = 0, yt = 0, distance = 0;
      for (size_t i = 0; i < teacher_width; ++i) {
        const double v = t.row(static_cast<int64_t>(r))[i];
        yy += y[i] * y[i];
        tt += v * v;
        yt += y[i] * v;
        distance += (y[i] - v) * (y[i] - v);
      }
      terms.cosine += 1 - yt / std::sqrt(yy * tt);
      terms.mse += distance / tt;
      ++terms.rows;
    }
    return terms;
  }

  Matrix<float> x, t, projection;
  std::vector<int32_t> labels;
};

struct Result {
  HiddenLossTerms terms;
  Matrix<float> dx, dprojection;

  std::vector<float> Gradient() const {
    std::vector<float> all(dx.span().begin(), dx.span().end());
    all.insert(all.end(), dprojection.span().begin(), dprojection.span().end());
    return all;
  }
};

Result Compute(const Case& c, const HiddenLossWeights& weights,
               float scale = 1.0f, int threads = 1) {
  Result r;
  r.dx = Matrix<float>(c.x.rows(), c.x.cols());
  r.dprojection = Matrix<float>(c.projection.rows(), c.projection.cols());
  HiddenLoss loss;
  r.terms = loss.Add(weights, c.x.view(), c.t.view(), c.projection.view(),
                     c.labels, scale, r.dx.view(), r.dprojection.view(),
                     **CreateThreadPool(threads));
  return r;
}

TEST(HiddenLossTest, AgreesWithDifferences) {
  for (int64_t teacher_width : {5, 37, 64}) {
    Case c(6, 37, teacher_width);
    c.labels[2] = kNoLabel;
    for (const HiddenLossWeights& weights :
         {HiddenLossWeights{1, 0}, {0, 1}, {0.5, 0.25}}) {
      const float scale = 0.25f;
      const Result r = Compute(c, weights, scale);
      const HiddenLossTerms exact = c.Exact(c.Values());
      EXPECT_NEAR(r.terms.Weighted(weights), exact.Weighted(weights),
                  3e-6 * exact.Weighted(weights));
      EXPECT_EQ(r.terms.rows, 5);
      const Vector gradient = FiniteDifferences(
          [&](const Vector& at) {
            return scale * c.Exact(at).Weighted(weights);
          },
          c.Values());
      // Sums of up to 64 products in float32.
      EXPECT_LT(RelativeDistance(r.Gradient(), gradient), 2e-6);
    }
  }
}

TEST(HiddenLossTest, AddsToGradients) {
  const Case c(3, 16, 24);
  Result r = Compute(c, {1, 1});
  const std::vector<float> once = r.Gradient();
  HiddenLoss loss;
  loss.Add({1, 1}, c.x.view(), c.t.view(), c.projection.view(), c.labels, 1.0f,
           r.dx.view(), r.dprojection.view(), **CreateThreadPool(1));
  Vector twice;
  for (float v : once) twice.push_back(2.0 * v);
  EXPECT_LT(RelativeDistance(r.Gradient(), twice), 1e-6);
}

TEST(HiddenLossTest, EqualStates) {
  Case c(4, 40, 40);
  std::copy_n(c.t.data(), c.t.span().size(), c.x.data());
  const Result r = Compute(c, {1, 1});
  EXPECT_NEAR(r.terms.cosine, 0, 1e-6);
  EXPECT_EQ(r.terms.mse, 0);
  for (float v : r.dx.span()) EXPECT_NEAR(v, 0, 1e-7);
  // The cosine does not see lengths, mse does.
  for (float& v : c.x.span()) v *= 3;
  EXPECT_NEAR(Compute(c, {1, 1}).terms.cosine, 0, 1e-6);
  EXPECT_NEAR(Compute(c, {1, 1}).terms.mse, 4 * 4, 1e-5);
}

TEST(HiddenLossTest, RowsOfZeros) {
  Case c(2, 8, 8);
  std::fill_n(c.t.row(0), 8, 0.0f);
  std::fill_n(c.x.row(1), 8, 0.0f);
  const Result r = Compute(c, {1, 0});
  EXPECT_EQ(r.terms.cosine, 2);
  for (float v : r.dx.span()) EXPECT_EQ(v, 0.0f);
  EXPECT_EQ(Compute(c, {0, 1}).terms.mse, 1);  // of the second
}

TEST(HiddenLossTest, PaddingChangesNothing) {
  Case c(5, 16, 16);
  c.labels[1] = c.labels[4] = kNoLabel;
  const Result before = Compute(c, {1, 1});
  std::fill_n(c.x.row(1), 16, std::nanf(""));
  std::fill_n(c.t.row(4), 16, std::nanf(""));
  const Result after = Compute(c, {1, 1});
  EXPECT_EQ(before.terms.cosine, after.terms.cosine);
  EXPECT_EQ(before.terms.mse, after.terms.mse);
  EXPECT_EQ(before.Gradient(), after.Gradient());
  for (int64_t i = 0; i < 16; ++i) EXPECT_EQ(after.dx.row(1)[i], 0.0f);
}

TEST(HiddenLossTest, SameBitsForAnyThreads) {
  const Case c(700, 48, 80);
  const Result one = Compute(c, {1, 0.5}, 0.01f, 1);
  for (int threads : {2, 5}) {
    const Result other = Compute(c, {1, 0.5}, 0.01f, threads);
    EXPECT_EQ(one.terms.cosine, other.terms.cosine);
    EXPECT_EQ(one.terms.mse, other.terms.mse);
    EXPECT_EQ(one.Gradient(), other.Gradient());
  }
}

TEST(HiddenLossTest, NanShows) {
  Case c(2, 8, 8);
  c.x.row(1)[3] = std::nanf("");
  EXPECT_TRUE(std::isnan(Compute(c, {1, 0}).terms.cosine));
  EXPECT_TRUE(std::isnan(Compute(c, {0, 1}).terms.mse));
}

}  // namespace
}  // namespace qeff
