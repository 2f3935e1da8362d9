// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_int/matmul_int_float.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "qeff/kernels/matmul_int/matmul_int_reference.h"
#include "qeff/kernels/matmul_int/matmul_int_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr float kPoison = std::numeric_limits<float>::infinity();

// In the documented order of float32 operations.
float InOrder(const ReferenceRow& row, const float* x) {
  const size_t size = static_cast<size_t>(row.group_elems);
  float total = 0;
  for (size_t g = 0; g < row.scales.size(); ++g) {
    float p[4] = {};
    const size_t end = std::min((g + 1) * size, row.codes.size());
    for (size_t c = g * size; c < end; ++c) {
      p[(c - g * size) % 4] += static_cast<float>(row.codes[c]) * x[c];
    }
    total += ((p[0] + p[2]) + (p[1] + p[3])) * row.scales[g];
  }
  return total;
}

// The exact product, and the documented bound of its error.
std::pair<double, double> Exact(const ReferenceRow& row, const float* x) {
  double sum = 0, magnitude = 0;
  for (size_t c = 0; c < row.codes.size(); ++c) {
    const double product =
        row.codes[c] *
        static_cast<double>(
            row.scales[c / static_cast<size_t>(row.group_elems)]) *
        static_cast<double>(x[c]);
    sum += product;
    magnitude += std::abs(product);
  }
  const double m = static_cast<double>((row.group_elems + 3) / 4) +
                   static_cast<double>(row.scales.size()) + 4;
  const double mu = m * std::exp2(-24);
  return {sum, mu / (1 - mu) * magnitude + std::exp2(-130)};
}

class MatMulIntFloatTest : public ::testing::Test {
 protected:
  void SetUp() override { targets_ = hwy::SupportedAndGeneratedTargets(); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }

  // On every target; what lies between rows of x and of the result is poison,
  // and both begin at odd addresses.
  void Check(const PackedIntLayout& layout, int64_t tokens) {
    SCOPED_TRACE(absl::StrCat("int", layout.bits(), " [", layout.rows(), ", ",
                              layout.cols(), "] group ", layout.group_elems(),
                              " x ", tokens));
    const RandomIntMatrix matrix(layout, 1);
    const auto packed = matrix.Pack();
    const int64_t rows = layout.rows(), cols = layout.cols();
    const int64_t x_stride = cols + 1, y_stride = rows + 3;
    std::vector<float> x(static_cast<size_t>(1 + tokens * x_stride), kPoison);
    const Random random(2);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t c = 0; c < cols; ++c) {
        const int64_t i = t * x_stride + c;
        x[static_cast<size_t>(1 + i)] =
            random.NormalAt(static_cast<uint64_t>(i));
      }
    }
    for (int64_t target : targets_) {
      hwy::SetSupportedTargetsForTest(target);
      SCOPED_TRACE(hwy::TargetName(target));
      std::vector<float> y(static_cast<size_t>(1 + tokens * y_stride), kPoison);
      MatMulIntFloat({layout, packed.span()},
                     {absl::MakeConstSpan(x).subspan(1), tokens, x_stride},
                     absl::MakeSpan(y).subspan(1), y_stride, *pool_);
      for (int64_t r = 0; r < y_stride; ++r) {
        const ReferenceRow row = r < rows ? matrix.Row(r) : ReferenceRow();
        for (int64_t t = 0; t < tokens; ++t) {
          const float found = y[static_cast<size_t>(1 + t * y_stride + r)];
          const float* xt = x.data() + 1 + t * x_stride;
          if (r >= rows) {
            ASSERT_EQ(found, kPoison) << "padding " << r;
            continue;
          }
          ASSERT_EQ(found, InOrder(row, xt)) << "token " << t << " row " << r;
          const auto exact = Exact(row, xt);
          ASSERT_LE(std::abs(static_cast<double>(found) - exact.first),
                    exact.second)
              << "token " << t << " row " << r;
        }
      }
    }
  }

  void CheckAll(int64_t rows, int64_t cols, int64_t group, int64_t tokens) {
    for (int bits : {2, 3, 4, 8}) {
      for (bool asymmetric : {false, true}) {
        Check(*PackedIntLayout::Create(bits, rows, cols, group,
                                       asymmetric ? DType::kF16 : DType::kBF16,
                                       asymmetric),
              tokens);
        if (HasFatalFailure()) return;
      }
    }
  }

  std::vector<int64_t> targets_;
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

TEST_F(MatMulIntFloatTest, EveryNumberOfTokens) {
  for (int64_t tokens = 1; tokens <= 9; ++tokens) CheckAll(37, 72, 32, tokens);
}

TEST_F(MatMulIntFloatTest, EveryNumberOfRows) {
  for (int64_t rows = 1; rows <= 34; ++rows) CheckAll(rows, 40, 0, 1);
}

TEST_F(MatMulIntFloatTest, EveryNumberOfColumns) {
  for (int64_t cols = 1; cols <= 70; ++cols) {
    for (int64_t group : {0, 8, 32}) CheckAll(33, cols, group, 1 + cols % 6);
  }
}

TEST_F(MatMulIntFloatTest, LongRowsAndSeveralThreads) {
  for (int threads : {1, 3}) {
    pool_ = *CreateThreadPool(threads);
    CheckAll(70, 2048, 0, 2);
    CheckAll(70, 1000, 128, 5);
  }
}

TEST_F(MatMulIntFloatTest, NanStaysInItsToken) {
  const auto layout = PackedIntLayout::Create(4, 40, 64, 32, DType::kF16);
  const RandomIntMatrix matrix(*layout, 8);
  const auto packed = matrix.Pack();
  std::vector<float> x(3 * 64, 1.0f), y(3 * 40);
  x[64 + 5] = std::numeric_limits<float>::quiet_NaN();
  MatMulIntFloat({*layout, packed.span()}, {x, 3, 64}, absl::MakeSpan(y), 40,
                 *pool_);
  for (size_t i = 0; i < y.size(); ++i) {
    EXPECT_EQ(std::isnan(y[i]), i / 40 == 1) << i;
  }
}

}  // namespace
}  // namespace qeff
