// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/ggml_gptq.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/format/ggml_block_params.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/layer_testutil.h"
#include "qeff/tensor/tensor.h"

namespace qeff {
namespace {

constexpr int64_t kRows = 21, kCols = 512;

class GgmlGptqTest : public ::testing::TestWithParam<GgmlType> {
 protected:
  FactoredHessian Factor(Matrix<float> hessian) {
    return FactorHessian(std::move(hessian), GptqOptions(), *pool_);
  }

  absl::StatusOr<GgmlGptqResult> Solve(MatrixView<const float> weights,
                                       const FactoredHessian& hessian,
                                       ThreadPool& pool) const {
    GptqOptions options;
    options.scheme.ggml = GetParam();
    options.propagate = propagate_;
    return QuantizeGgmlGptq(weights, hessian, options, pool);
  }

  Matrix<float> Decode(const GgmlGptqResult& result, int64_t rows) const {
    Matrix<float> values(rows, kCols);
    const size_t row_bytes = result.blocks.size() / static_cast<size_t>(rows);
    for (int64_t r = 0; r < rows; ++r) {
      DecodeGgmlRow(GetParam(),
                    absl::MakeConstSpan(result.blocks)
                        .subspan(static_cast<size_t>(r) * row_bytes, row_bytes),
                    absl::MakeSpan(values.row(r), size_t{kCols}));
    }
    return values;
  }

  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
  bool propagate_ = true;
};

TEST_P(GgmlGptqTest, LossIsThatOfTheBlocksAndLessThanOfRounding) {
  const Matrix<float> weights = NormalMatrix(kRows, kCols, 1);
  const FactoredHessian hessian = Factor(NeighbourHessian(kCols));
  const auto result = Solve(weights.view(), hessian, *pool_);
  ASSERT_TRUE(result.ok()) << result.status();
  const double loss = LossOf(weights, Decode(*result, kRows),
                             NeighbourHessian(kCols), hessian.damping);
  EXPECT_NEAR(result->loss, loss, 1e-3 * loss);
  EXPECT_LT(result->loss, 0.6 * result->rounding_loss);
  EXPECT_EQ(result->rounded_rows, 0);
}

// Of rounding, the better of two choices of parameters.
TEST_P(GgmlGptqTest, WithoutPropagation) {
  propagate_ = false;
  const Matrix<float> weights = NormalMatrix(kRows, kCols, 1);
  const FactoredHessian hessian = Factor(NeighbourHessian(kCols));
  const auto result = Solve(weights.view(), hessian, *pool_);
  ASSERT_TRUE(result.ok()) << result.status();
  const double loss = LossOf(weights, Decode(*result, kRows),
                             NeighbourHessian(kCols), hessian.damping);
  EXPECT_NEAR(result->loss, loss, 1e-3 * loss);
  EXPECT_LE(result->loss, result->rounding_loss);
}

TEST_P(GgmlGptqTest, RowsAreIndependentAndThreadsDoNotMatter) {
  const Matrix<float> weights = NormalMatrix(kRows, kCols, 2);
  const FactoredHessian hessian = Factor(NeighbourHessian(kCols));
  const auto all = Solve(weights.view(), hessian, *pool_);
  const auto one_thread = *CreateThreadPool(1);
  const auto some = Solve(weights.view().Rows(3, 5), hessian, *one_thread);
  ASSERT_TRUE(all.ok() && some.ok());
  const auto begin =
      static_cast<std::ptrdiff_t>(3 * all->blocks.size() / kRows);
  EXPECT_TRUE(std::equal(some->blocks.begin(), some->blocks.end(),
                         all->blocks.begin() + begin));
}

// Where inputs are independent and equal, or nothing is known of them, codes
// are the nearest.
TEST_P(GgmlGptqTest, RoundsWhereNothingIsToBeGained) {
  const Matrix<float> weights = NormalMatrix(kRows, kCols, 3);
  Matrix<float> identity(kCols, kCols), bad(kCols, kCols);
  for (int64_t i = 0; i < kCols; ++i) identity.row(i)[i] = 1;
  bad.row(0)[0] = std::numeric_limits<float>::infinity();
  const auto independent =
      Solve(weights.view(), Factor(std::move(identity)), *pool_);
  const auto unusable = Solve(weights.view(), Factor(std::move(bad)), *pool_);
  ASSERT_TRUE(independent.ok() && unusable.ok());
  EXPECT_EQ(independent->blocks, unusable->blocks);
  EXPECT_EQ(unusable->rounded_rows, kRows);
  const std::vector<float> equal(kCols, 1.0f);
  const size_t row_bytes = unusable->blocks.size() / kRows;
  std::vector<uint8_t> row(row_bytes);
  const Matrix<float> values = Decode(*unusable, kRows);
  double error = 0, best = 0;
  for (int64_t r = 0; r < kRows; ++r) {
    const absl::Span<const float> x(weights.row(r), size_t{kCols});
    EncodeGgmlRow(GetParam(), x, equal, absl::MakeSpan(row));
    std::vector<float> decoded(kCols);
    DecodeGgmlRow(GetParam(), row, absl::MakeSpan(decoded));
    for (size_t i = 0; i < decoded.size(); ++i) {
      error += std::pow(double(values.row(r)[i]) - double(x[i]), 2);
      best += std::pow(double(decoded[i]) - double(x[i]), 2);
    }
  }
  EXPECT_NEAR(error, best, 1e-4 * best);
}

TEST_P(GgmlGptqTest, ZerosStayZero) {
  const Matrix<float> weights(2, kCols);
  const auto result =
      Solve(weights.view(), Factor(NeighbourHessian(kCols)), *pool_);
  ASSERT_TRUE(result.ok()) << result.status();
  const Matrix<float> values = Decode(*result, 2);
  for (const float v : values.span()) EXPECT_EQ(v, 0);
  EXPECT_EQ(result->loss, 0);
}

TEST_P(GgmlGptqTest, NamesWhatDoesNotFit) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), 1e30f}) {
    Matrix<float> weights = NormalMatrix(3, kCols, 4);
    weights.row(2)[300] = bad;
    const auto result =
        Solve(weights.view(), Factor(NeighbourHessian(kCols)), *pool_);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kDataLoss);
    EXPECT_NE(result.status().message().find("element [2, 300]"),
              absl::string_view::npos)
        << result.status();
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GgmlGptqTest,
                         ::testing::Values(GgmlType::kQ8_0, GgmlType::kQ4_0,
                                           GgmlType::kQ4_K, GgmlType::kQ5_K,
                                           GgmlType::kQ6_K));

}  // namespace
}  // namespace qeff
