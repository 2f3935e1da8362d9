// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/gap_correction.h"

#include <cstring>
#include <utility>

#include "gtest/gtest.h"
#include "qeff/calibration/input_statistics.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/layer_testutil.h"

namespace qeff {
namespace {

// x W^T + r.
Matrix<float> Outputs(const Matrix<float>& x, const Matrix<float>& weights,
                      const Matrix<float>& r, ThreadPool& pool) {
  Matrix<float> out(x.rows(), weights.rows());
  std::memcpy(out.data(), r.data(), r.span().size() * sizeof(float));
  SgemmArgs args;
  args.a = x.view();
  args.b = weights.view();
  args.b_transposed = true;
  args.c = out.view();
  args.update = SgemmUpdate::kAdd;
  Sgemm(args, pool);
  return out;
}

double SquaredDistance(const Matrix<float>& a, const Matrix<float>& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.rows() * a.cols(); ++i) {
    const double d =
        static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]);
    sum += d * d;
  }
  return sum;
}

Matrix<float> Minus(const Matrix<float>& a, const Matrix<float>& b) {
  Matrix<float> out(a.rows(), a.cols());
  for (int64_t i = 0; i < a.rows() * a.cols(); ++i) {
    out.data()[i] = a.data()[i] - b.data()[i];
  }
  return out;
}

// A layer of 300 inputs (not a multiple of a block) and 40 outputs, on 900
// tokens; what it gets is off by a tenth.
class GapCorrectionTest : public ::testing::Test {
 protected:
  static constexpr int64_t kIn = 300, kOut = 40, kTokens = 900;

  Matrix<float> Correct(double damping, ThreadPool& pool, bool residual) {
    InputStatistics inputs(kIn);
    inputs.Add(x_.view(), pool);
    const Matrix<float> residual_gap = Minus(original_r_, r_);
    inputs.AddGap(x_.view(), Minus(original_x_, x_).view(),
                  residual_gap.view().Rows(0, residual ? kTokens : 0), pool);
    GptqOptions options;
    options.damping = damping;
    const FactoredHessian hessian =
        FactorHessian(inputs.TakeHessian(), options, pool);
    EXPECT_TRUE(hessian.usable());
    Matrix<float> weights = NormalMatrix(kOut, kIn, 1);
    const Matrix<float> input_gap = inputs.TakeInputGap();
    const Matrix<float> mean_residual_gap = inputs.TakeResidualGap();
    CorrectForGaps(hessian, input_gap.view(), mean_residual_gap.view(),
                   weights.view(), pool);
    return weights;
  }

  // Of the sum that the layer makes with `weights`.
  double LossOf(const Matrix<float>& weights) {
    return SquaredDistance(
        Outputs(x_, weights, r_, *pool_),
        Outputs(original_x_, NormalMatrix(kOut, kIn, 1), original_r_, *pool_));
  }

  const Matrix<float> original_x_ = NormalMatrix(kTokens, kIn, 2);
  const Matrix<float> x_ =
      Minus(original_x_, NormalMatrix(kTokens, kIn, 3, /*scale=*/0.1f));
  const Matrix<float> original_r_ = NormalMatrix(kTokens, kOut, 4);
  const Matrix<float> r_ =
      Minus(original_r_, NormalMatrix(kTokens, kOut, 5, /*scale=*/0.3f));
  std::unique_ptr<ThreadPool> pool_ = CreateThreadPool(2).value();
};

TEST_F(GapCorrectionTest, IsTheLeastSquaresSolution) {
  const Matrix<float> weights = Correct(1e-6, *pool_, /*residual=*/true);
  const double loss = LossOf(weights);
  EXPECT_LT(loss, 0.8 * LossOf(NormalMatrix(kOut, kIn, 1)));
  // No small step in any of some directions is better.
  for (uint64_t seed = 10; seed < 20; ++seed) {
    for (const float step : {1e-2f, -1e-2f}) {
      Matrix<float> moved = NormalMatrix(kOut, kIn, seed, step);
      for (int64_t i = 0; i < kOut * kIn; ++i) {
        moved.data()[i] += weights.data()[i];
      }
      EXPECT_GT(LossOf(moved), loss);
    }
  }
}

TEST_F(GapCorrectionTest, WithoutResiduals) {
  const double with = LossOf(Correct(1e-2, *pool_, /*residual=*/true));
  const double without = LossOf(Correct(1e-2, *pool_, /*residual=*/false));
  const double original = LossOf(NormalMatrix(kOut, kIn, 1));
  EXPECT_LT(with, without);
  EXPECT_LT(without, original);
}

TEST_F(GapCorrectionTest, SameBitsForAnyNumberOfThreads) {
  const auto one = CreateThreadPool(1).value();
  const Matrix<float> a = Correct(1e-2, *one, true);
  const Matrix<float> b = Correct(1e-2, *pool_, true);
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.span().size() * sizeof(float)),
            0);
}

}  // namespace
}  // namespace qeff
