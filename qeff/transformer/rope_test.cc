// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/rope.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

TransformerSpec Spec(int64_t head_dim) {
  TransformerSpec spec;
  spec.head_dim = head_dim;
  spec.rope.theta = 1000;
  return spec;
}

TEST(RopeTest, AgreesWithADoubleReference) {
  const Random random(1);
  for (int64_t head_dim : {2, 6, 8, 64}) {
    const RopeTable table(Spec(head_dim), 40);
    EXPECT_EQ(table.positions(), 40);
    const int64_t cols = 3 * head_dim, half = head_dim / 2;
    Matrix<float> x(4, cols), y(4, cols);
    for (size_t i = 0; i < x.span().size(); ++i) {
      x.data()[i] = y.data()[i] = random.NormalAt(i);
    }
    ApplyRope(table, 36, y.view());
    for (int64_t r = 0; r < 4; ++r) {
      for (int64_t h = 0; h < 3; ++h) {
        for (int64_t i = 0; i < half; ++i) {
          const double angle =
              static_cast<double>(36 + r) *
              std::pow(1000.0, -2.0 * static_cast<double>(i) /
                                   static_cast<double>(head_dim));
          const double a = x.row(r)[h * head_dim + i];
          const double b = x.row(r)[h * head_dim + half + i];
          // Per product: table entry, product, and the sum.
          const double bound =
              std::ldexp(3.03 * (std::abs(a) + std::abs(b)), -24);
          EXPECT_NEAR(y.row(r)[h * head_dim + i],
                      a * std::cos(angle) - b * std::sin(angle), bound);
          EXPECT_NEAR(y.row(r)[h * head_dim + half + i],
                      b * std::cos(angle) + a * std::sin(angle), bound);
        }
      }
    }
  }
}

TEST(RopeTest, PositionZeroIsLeftAlone) {
  const RopeTable table(Spec(4), 1);
  Matrix<float> x(1, 8);
  for (int i = 0; i < 8; ++i) x.data()[i] = static_cast<float>(i);
  ApplyRope(table, 0, x.view());
  for (int i = 0; i < 8; ++i) EXPECT_EQ(x.data()[i], static_cast<float>(i));
}

// Far positions keep their accuracy: the angle is not rounded to float32.
TEST(RopeTest, FarPositions) {
  const RopeTable table(Spec(2), 100001);
  EXPECT_NEAR(table.cos(100000)[0], std::cos(100000.0), std::ldexp(1.0, -24));
  EXPECT_NEAR(table.sin(100000)[0], std::sin(100000.0), std::ldexp(1.0, -24));
}

// A rotation: its gradient <dy, R x> in x is R^T dy, and R^T R x = x.
TEST(RopeTest, BackwardIsTheTransposeOfForward) {
  TransformerSpec spec;
  spec.head_dim = 6;
  spec.rope.theta = 100.0;
  const RopeTable table(spec, 20);
  const Random random(/*seed=*/9);
  std::vector<float> x(5 * 12), dy(5 * 12);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = random.NormalAt(i);
    dy[i] = random.NormalAt(100 + i);
  }
  std::vector<float> y = x, dx = dy;
  ApplyRope(table, 15, {y.data(), 5, 12});
  ApplyRopeBackward(table, 15, {dx.data(), 5, 12});
  for (size_t r = 0; r < 5; ++r) {
    double out = 0, in = 0;
    for (size_t i = r * 12; i < (r + 1) * 12; ++i) {
      out += static_cast<double>(dy[i]) * y[i];
      in += static_cast<double>(dx[i]) * x[i];
    }
    EXPECT_NEAR(out, in, 1e-5) << r;
  }
  ApplyRopeBackward(table, 15, {y.data(), 5, 12});
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i], 2e-6) << i;
}

}  // namespace
}  // namespace qeff
