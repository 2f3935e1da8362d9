// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/solve_rows.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/layer_testutil.h"
#include "qeff/tensor/tensor.h"

namespace qeff {
namespace {

constexpr int64_t kRows = 21, kCols = 256;

// Every scheme, whatever stores it.
class SolveRowsTest : public ::testing::TestWithParam<const char*> {
 protected:
  SolveRowsTest() {
    options_.scheme = ParseQuantScheme(GetParam()).value();
    options_.scale_dtype = ScaleDType(options_.scheme, DType::kBF16);
  }

  FactoredHessian Factor(Matrix<float> hessian) {
    return FactorHessian(std::move(hessian), options_, *pool_);
  }

  GptqOptions options_;
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

TEST_P(SolveRowsTest, LossIsThatOfTheValuesAndNotAboveRounding) {
  const Matrix<float> weights = NormalMatrix(kRows, kCols, 1);
  const FactoredHessian hessian = Factor(NeighbourHessian(kCols));
  for (const bool propagate : {true, false}) {
    options_.propagate = propagate;
    Matrix<float> values = NormalMatrix(kRows, kCols, 1);
    const auto solved = SolveRows(values.view(), hessian, options_, *pool_);
    ASSERT_TRUE(solved.ok()) << solved.status();
    const double loss =
        LossOf(weights, values, NeighbourHessian(kCols), hessian.damping);
    EXPECT_NEAR(solved->loss, loss, 1e-3 * loss);
    EXPECT_LE(solved->loss, solved->rounding_loss);
    if (propagate) {
      EXPECT_LT(solved->loss, 0.7 * solved->rounding_loss);
    }
  }
}

TEST_P(SolveRowsTest, RowsAreIndependentAndThreadsDoNotMatter) {
  Matrix<float> all = NormalMatrix(kRows, kCols, 2);
  Matrix<float> weights = NormalMatrix(kRows, kCols, 2);
  const FactoredHessian hessian = Factor(NeighbourHessian(kCols));
  const auto one_thread = *CreateThreadPool(1);
  const auto whole = SolveRows(all.view(), hessian, options_, *pool_);
  const auto some =
      SolveRows(weights.view().Rows(3, 5), hessian, options_, *one_thread);
  ASSERT_TRUE(whole.ok() && some.ok());
  for (int64_t r = 3; r < 8; ++r) {
    EXPECT_TRUE(std::equal(all.row(r), all.row(r) + kCols, weights.row(r)));
  }
  const auto is_part = [](const std::vector<uint8_t>& part,
                          const std::vector<uint8_t>& of) {
    const auto begin = static_cast<std::ptrdiff_t>(3 * of.size() / kRows);
    return std::equal(part.begin(), part.end(), of.begin() + begin);
  };
  EXPECT_TRUE(is_part(some->packed, whole->packed));
  EXPECT_TRUE(is_part(some->scales, whole->scales));
  EXPECT_TRUE(is_part(some->blocks, whole->blocks));
}

// Where inputs are independent and equal, or nothing is known of them.
TEST_P(SolveRowsTest, RoundsWhereNothingIsToBeGained) {
  Matrix<float> identity(kCols, kCols), bad(kCols, kCols);
  for (int64_t i = 0; i < kCols; ++i) identity.row(i)[i] = 1;
  bad.row(0)[0] = std::numeric_limits<float>::infinity();
  options_.search_groups = options_.refine = false;
  Matrix<float> a = NormalMatrix(kRows, kCols, 3),
                b = NormalMatrix(kRows, kCols, 3);
  const auto independent =
      SolveRows(a.view(), Factor(std::move(identity)), options_, *pool_);
  const auto unusable =
      SolveRows(b.view(), Factor(std::move(bad)), options_, *pool_);
  ASSERT_TRUE(independent.ok() && unusable.ok());
  EXPECT_EQ(independent->packed, unusable->packed);
  EXPECT_EQ(independent->scales, unusable->scales);
  EXPECT_EQ(independent->blocks, unusable->blocks);
  EXPECT_EQ(unusable->rounded_rows, kRows);
  EXPECT_EQ(independent->rounded_rows, kRows);
}

TEST_P(SolveRowsTest, ZerosStayZeroAndWhatIsNotFiniteIsNamed) {
  Matrix<float> zeros(2, kCols);
  const auto solved = SolveRows(zeros.view(), Factor(NeighbourHessian(kCols)),
                                options_, *pool_);
  ASSERT_TRUE(solved.ok()) << solved.status();
  for (const float v : zeros.span()) EXPECT_EQ(v, 0);
  EXPECT_EQ(solved->loss, 0);
  Matrix<float> bad = NormalMatrix(3, kCols, 4);
  bad.row(2)[100] = std::numeric_limits<float>::quiet_NaN();
  const auto refused =
      SolveRows(bad.view(), Factor(NeighbourHessian(kCols)), options_, *pool_);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(refused.status().message().find("element [2, 100]"),
            absl::string_view::npos)
      << refused.status();
}

INSTANTIATE_TEST_SUITE_P(Schemes, SolveRowsTest,
                         ::testing::Values("int4_g32", "int3", "nf4", "nf4_g32",
                                           "fp8_e4m3", "mxfp4", "mxfp6",
                                           "mxint8", "q4_0", "q6_k"));

}  // namespace
}  // namespace qeff
