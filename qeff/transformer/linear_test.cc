// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/linear.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/transformer/gradient_testutil.h"

namespace qeff {
namespace {

// Of sums of n products or rows with runs of up to 256: n + 3 roundings at
// most, n of them on average a root: 8 sqrt(n) u, without cancellation.
double Bound(int64_t n) {
  return 8 * std::sqrt(static_cast<double>(n)) * std::ldexp(1.0, -24);
}

// All of them are linear: the reference is their formula, and the adjoint
// identity <dy, x W^T> = <dy W, x> = <dy^T x, W> what differences would give.
TEST(LinearTest, ForwardAndGradients) {
  for (int64_t rows : {1, 7, 300}) {
    SCOPED_TRACE(rows);
    const int64_t in = 21, out = 70;
    const auto pool = *CreateThreadPool(2);
    SgemmScratch scratch;
    const Matrix<float> x = RandomMatrix(rows, in, 1);
    const Matrix<float> weight = RandomMatrix(out, in, 2);
    const Matrix<float> bias = RandomMatrix(1, out, 3);
    const Matrix<float> dy = RandomMatrix(rows, out, 4);
    Matrix<float> y = RandomMatrix(rows, out, 5);
    Matrix<float> dx = RandomMatrix(rows, in, 6);
    Matrix<float> dweight = RandomMatrix(out, in, 7);
    Matrix<float> dbias = RandomMatrix(1, out, 8);
    std::vector<double> y2, dx2, dweight2 = ToDouble(dweight.span()),
                                 dbias2 = ToDouble(dbias.span());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t o = 0; o < out; ++o) {
        double sum = bias.data()[o];
        for (int64_t i = 0; i < in; ++i) {
          sum += static_cast<double>(x.row(r)[i]) * weight.row(o)[i];
          dweight2[static_cast<size_t>(o * in + i)] +=
              static_cast<double>(dy.row(r)[o]) * x.row(r)[i];
        }
        y2.push_back(sum);
        dbias2[static_cast<size_t>(o)] += dy.row(r)[o];
      }
      for (int64_t i = 0; i < in; ++i) {
        double sum = 0;
        for (int64_t o = 0; o < out; ++o) {
          sum += static_cast<double>(dy.row(r)[o]) * weight.row(o)[i];
        }
        dx2.push_back(sum);
      }
    }
    const LinearView linear = {weight.view(), bias.span()};
    ApplyLinear(x.view(), linear, y.view(), *pool, scratch);
    EXPECT_LT(RelativeDistance(y.span(), y2), Bound(in));
    LinearInputBackward(dy.view(), weight.view(), SgemmUpdate::kSet, dx.view(),
                        *pool, scratch);
    EXPECT_LT(RelativeDistance(dx.span(), dx2), Bound(out));
    LinearWeightsBackward(x.view(), dy.view(), {dweight.view(), dbias.span()},
                          *pool, scratch);
    EXPECT_LT(RelativeDistance(dweight.span(), dweight2), Bound(rows));
    EXPECT_LT(RelativeDistance(dbias.span(), dbias2), Bound(rows));

    // Those that add, once more.
    AddLinear(x.view(), linear, y.view(), *pool, scratch);
    for (double& value : y2) value *= 2;
    EXPECT_LT(RelativeDistance(y.span(), y2), Bound(in));
    LinearInputBackward(dy.view(), weight.view(), SgemmUpdate::kAdd, dx.view(),
                        *pool, scratch);
    for (double& value : dx2) value *= 2;
    EXPECT_LT(RelativeDistance(dx.span(), dx2), Bound(out));
  }
}

TEST(LinearTest, WithoutBias) {
  const auto pool = *CreateThreadPool(1);
  SgemmScratch scratch;
  const Matrix<float> x = RandomMatrix(2, 3, 1), weight = RandomMatrix(4, 3, 2);
  Matrix<float> set = RandomMatrix(2, 4, 3), added(2, 4);
  ApplyLinear(x.view(), {weight.view(), {}}, set.view(), *pool, scratch);
  AddLinear(x.view(), {weight.view(), {}}, added.view(), *pool, scratch);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(set.data()[i], added.data()[i]);
}

}  // namespace
}  // namespace qeff
