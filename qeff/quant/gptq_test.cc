// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/gptq.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/format/packing.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/kernels/quantize/quantize.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/layer_testutil.h"
#include "qeff/tensor/tensor.h"

namespace qeff {
namespace {

// Of inputs that depend on each other and have different energies.
Matrix<float> CorrelatedHessian(int64_t n, uint64_t seed) {
  const int64_t tokens = 3 * n;
  Matrix<float> x = NormalMatrix(tokens, n, seed);
  for (int64_t t = 0; t < tokens; ++t) {
    float* row = x.data() + t * n;
    for (int64_t i = 1; i < n; ++i) {
      row[i] = 0.6f * row[i] + 0.7f * row[i - 1];
    }
    for (int64_t i = 0; i < n; ++i) row[i] *= 1.0f + 0.1f * float(i * 7 % 11);
  }
  Matrix<float> h(n, n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t t = 0; t < tokens; ++t) {
        sum += static_cast<double>(x.data()[t * n + i]) * x.data()[t * n + j];
      }
      h.data()[i * n + j] = static_cast<float>(sum / double(tokens));
    }
  }
  return h;
}

Matrix<float> Copy(const Matrix<float>& from) {
  Matrix<float> to(from.rows(), from.cols());
  std::copy_n(from.data(), from.rows() * from.cols(), to.data());
  return to;
}

// A layer with inputs of its own.
struct OneLayer : GptqResult {
  double damping = 0;
  int64_t dead_inputs = 0;
};

absl::StatusOr<OneLayer> Quantize(MatrixView<const float> weights,
                                  Matrix<float> hessian,
                                  const GptqOptions& options,
                                  ThreadPool& pool) {
  const FactoredHessian factored =
      FactorHessian(std::move(hessian), options, pool);
  auto result = QuantizeGptq(weights, factored, options, pool);
  if (!result.ok()) return result.status();
  return OneLayer{*std::move(result), factored.damping, factored.dead_inputs};
}

float ValueOf(const GptqResult& result, const QuantizedShape& shape, int bits,
              int64_t row, int64_t col) {
  const size_t group =
      static_cast<size_t>(row * shape.groups + col / shape.group_elems);
  const int zero = shape.asymmetric ? result.zeros[group] : 1 << (bits - 1);
  return DequantizeValue(
      result.codes[static_cast<size_t>(row * shape.cols + col)], zero,
      LoadScale(DType::kBF16, result.scales.data() + 2 * group));
}

// trace((W - Q) H (W - Q)^T) with the damped H.
double ProxyLoss(const Matrix<float>& weights, const Matrix<float>& h,
                 const GptqOptions& options, const OneLayer& result) {
  const int64_t rows = weights.rows(), cols = weights.cols();
  const QuantizedShape shape(options.scheme, rows, cols);
  Matrix<float> values(rows, cols);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      values.row(r)[c] = ValueOf(result, shape, options.scheme.bits, r, c);
    }
  }
  return LossOf(weights, values, h, result.damping);
}

// The paper's algorithm as it stands: H^-1 in double, one column at a time.
std::vector<uint8_t> PaperCodes(const Matrix<float>& weights,
                                const Matrix<float>& h,
                                const GptqOptions& options,
                                const OneLayer& params) {
  const int64_t n = h.rows(), rows = weights.rows();
  const QuantizedShape shape(options.scheme, rows, n);
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t j) {
    return h.data()[i * n + i] > h.data()[j * n + j];
  });
  // Gauss-Jordan of the damped, ordered H.
  std::vector<double> inverse(static_cast<size_t>(n * n)), a(inverse.size());
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      a[static_cast<size_t>(i * n + j)] =
          h.data()[order[size_t(i)] * n + order[size_t(j)]];
    }
    a[static_cast<size_t>(i * n + i)] += params.damping;
    inverse[static_cast<size_t>(i * n + i)] = 1;
  }
  const auto at = [n](std::vector<double>& m, int64_t i, int64_t j) -> double& {
    return m[static_cast<size_t>(i * n + j)];
  };
  for (int64_t p = 0; p < n; ++p) {
    const double pivot = at(a, p, p);
    for (int64_t j = 0; j < n; ++j) {
      at(a, p, j) /= pivot;
      at(inverse, p, j) /= pivot;
    }
    for (int64_t i = 0; i < n; ++i) {
      const double factor = at(a, i, p);
      if (i == p) continue;
      for (int64_t j = 0; j < n; ++j) {
        at(a, i, j) -= factor * at(a, p, j);
        at(inverse, i, j) -= factor * at(inverse, p, j);
      }
    }
  }
  // Optimal brain surgeon, column by column: w -= e H^-1[i, :] / H^-1[i, i],
  // then column i leaves the inverse.
  std::vector<uint8_t> codes(static_cast<size_t>(rows * n));
  std::vector<double> w(static_cast<size_t>(rows * n));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < n; ++i) {
      w[static_cast<size_t>(r * n + i)] =
          weights.data()[r * n + order[size_t(i)]];
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    const int64_t col = order[size_t(i)];
    for (int64_t r = 0; r < rows; ++r) {
      const size_t group =
          static_cast<size_t>(r * shape.groups + col / shape.group_elems);
      GroupParams group_params;
      group_params.scale =
          LoadScale(DType::kBF16, params.scales.data() + 2 * group);
      group_params.inverse = 1.0f / group_params.scale;
      group_params.zero = shape.asymmetric ? params.zeros[group]
                                           : 1 << (options.scheme.bits - 1);
      double& value = w[static_cast<size_t>(r * n + i)];
      const uint8_t code = QuantizeValue(static_cast<float>(value),
                                         group_params, options.scheme.bits);
      codes[static_cast<size_t>(r * n + col)] = code;
      const double error = (value - DequantizeValue(code, group_params.zero,
                                                    group_params.scale)) /
                           at(inverse, i, i);
      for (int64_t j = i; j < n; ++j) {
        w[static_cast<size_t>(r * n + j)] -= error * at(inverse, i, j);
      }
    }
    for (int64_t j = i + 1; j < n; ++j) {
      const double factor = at(inverse, j, i) / at(inverse, i, i);
      for (int64_t k = i; k < n; ++k) {
        at(inverse, j, k) -= factor * at(inverse, i, k);
      }
    }
  }
  return codes;
}

class GptqTest : public ::testing::TestWithParam<const char*> {
 protected:
  GptqOptions Options() const {
    GptqOptions options;
    options.scheme = *ParseQuantScheme(GetParam());
    options.search_groups = options.refine = false;
    return options;
  }

  // The codes of the kernel that rounds.
  static std::vector<uint8_t> RoundedCodes(const Matrix<float>& weights,
                                           const QuantScheme& scheme) {
    const QuantizedShape shape(scheme, weights.rows(), weights.cols());
    std::vector<uint8_t> packed(size_t(4 * shape.row_words * shape.rows)),
        scales(size_t(2 * shape.groups * shape.rows)),
        zeros(scheme.symmetric ? 0 : size_t(shape.groups * shape.rows)),
        codes(size_t(shape.rows * shape.cols));
    QuantizeRows(
        scheme, DType::kBF16, DType::kF32,
        absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(weights.data()),
                            weights.span().size() * sizeof(float)),
        shape.rows, shape.cols,
        {absl::MakeSpan(packed), absl::MakeSpan(scales),
         absl::MakeSpan(zeros)});
    const size_t row_bytes = size_t(4 * shape.row_words);
    for (size_t r = 0; r < size_t(shape.rows); ++r) {
      UnpackCodes(scheme.bits,
                  absl::MakeConstSpan(packed).subspan(r * row_bytes, row_bytes),
                  absl::MakeSpan(codes).subspan(r * size_t(shape.cols),
                                                size_t(shape.cols)));
    }
    return codes;
  }

  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

// Nothing to gain where inputs are independent.
TEST_P(GptqTest, IdentityRounds) {
  const Matrix<float> weights = NormalMatrix(5, 200, 1);
  const auto result =
      Quantize(weights.view(), IdentityHessian(200), Options(), *pool_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->codes, RoundedCodes(weights, Options().scheme));
  EXPECT_EQ(result->loss, result->rounding_loss);
}

TEST_P(GptqTest, CodesOfThePaper) {
  const Matrix<float> weights = NormalMatrix(12, 96, 2),
                      h = CorrelatedHessian(96, 3);
  const auto result = Quantize(weights.view(), Copy(h), Options(), *pool_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rounded_rows, 0);
  const std::vector<uint8_t> paper = PaperCodes(weights, h, Options(), *result);
  // A value that float32 rounds to the other side of the middle between two
  // codes changes what follows in its row.
  int64_t rows_that_differ = 0;
  for (size_t r = 0; r < 12; ++r) {
    rows_that_differ += !std::equal(paper.begin() + int64_t(96 * r),
                                    paper.begin() + int64_t(96 * (r + 1)),
                                    result->codes.begin() + int64_t(96 * r));
  }
  EXPECT_LE(rows_that_differ, 1);
}

// More than one block, and the loss is what it is said to be.
TEST_P(GptqTest, LossIsTheProxyAndLessThanOfRounding) {
  constexpr int64_t kCols = 300, kRows = 20;
  const Matrix<float> weights = NormalMatrix(kRows, kCols, 4),
                      h = CorrelatedHessian(kCols, 5);
  const auto result = Quantize(weights.view(), Copy(h), Options(), *pool_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_LT(result->loss, 0.8 * result->rounding_loss);
  EXPECT_NEAR(result->loss / ProxyLoss(weights, h, Options(), *result), 1.0,
              1e-3);
}

TEST_P(GptqTest, RowsAreIndependentAndThreadsDoNotMatter) {
  const Matrix<float> weights = NormalMatrix(40, 150, 6),
                      h = CorrelatedHessian(150, 7);
  const auto all = Quantize(weights.view(), Copy(h), Options(), *pool_);
  ASSERT_TRUE(all.ok());
  const auto one_thread = *CreateThreadPool(1);
  const auto some =
      Quantize(weights.view().Rows(17, 3), Copy(h), Options(), *one_thread);
  ASSERT_TRUE(some.ok());
  EXPECT_TRUE(std::equal(some->codes.begin(), some->codes.end(),
                         all->codes.begin() + 17 * 150));
}

TEST_P(GptqTest, DeadInputsAreRounded) {
  const Matrix<float> weights = NormalMatrix(6, 64, 8);
  Matrix<float> h = CorrelatedHessian(64, 9);
  for (int64_t i = 0; i < 64; ++i) {
    h.data()[i * 64 + 10] = h.data()[10 * 64 + i] = 0;
  }
  const auto result = Quantize(weights.view(), std::move(h), Options(), *pool_);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->dead_inputs, 1);
  const std::vector<uint8_t> rounded = RoundedCodes(weights, Options().scheme);
  for (size_t r = 0; r < 6; ++r) {
    EXPECT_EQ(result->codes[r * 64 + 10], rounded[r * 64 + 10]);
  }
}

// Fewer tokens than inputs: only damping makes it definite.
TEST_P(GptqTest, SingularHessian) {
  const Matrix<float> weights = NormalMatrix(6, 40, 10);
  Matrix<float> h(40, 40);
  for (int64_t i = 0; i < 1600; ++i) h.data()[i] = 1;
  const auto result = Quantize(weights.view(), std::move(h), Options(), *pool_);
  ASSERT_TRUE(result.ok());
  EXPECT_GT(result->damping, 0);
  EXPECT_LE(result->loss, result->rounding_loss);
}

TEST_P(GptqTest, HessianThatCannotBeUsedRounds) {
  const Matrix<float> weights = NormalMatrix(6, 40, 11);
  for (float value : {-100.0f, std::numeric_limits<float>::quiet_NaN(),
                      std::numeric_limits<float>::infinity()}) {
    Matrix<float> h = CorrelatedHessian(40, 12);
    h.data()[5 * 40 + 5] = value;
    const auto result =
        Quantize(weights.view(), std::move(h), Options(), *pool_);
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->rounded_rows, 6);
    EXPECT_EQ(result->damping, 0);
    EXPECT_EQ(result->codes, RoundedCodes(weights, Options().scheme));
  }
}

TEST_P(GptqTest, AsymmetricCodes) {
  GptqOptions options = Options();
  options.scheme.symmetric = false;
  const Matrix<float> weights = NormalMatrix(8, 96, 13),
                      h = CorrelatedHessian(96, 14);
  const auto result = Quantize(weights.view(), Copy(h), options, *pool_);
  ASSERT_TRUE(result.ok());
  EXPECT_LT(result->loss, result->rounding_loss);
  const auto rounded =
      Quantize(weights.view(), IdentityHessian(96), options, *pool_);
  EXPECT_EQ(rounded->codes, RoundedCodes(weights, options.scheme));
}

// Better below 8 bits, but for groups so small that ranges are as good.
TEST_P(GptqTest, SearchedGroupsLoseLess) {
  const Matrix<float> weights = NormalMatrix(40, 96, 2),
                      h = CorrelatedHessian(96, 3);
  GptqOptions options = Options();
  const auto ranges = Quantize(weights.view(), Copy(h), options, *pool_);
  options.search_groups = true;
  const auto searched = Quantize(weights.view(), Copy(h), options, *pool_);
  ASSERT_TRUE(ranges.ok() && searched.ok());
  EXPECT_EQ(searched->rounding_loss, ranges->rounding_loss);
  EXPECT_LE(
      searched->loss,
      (options.scheme.group_size == 16 || options.scheme.bits == 8 ? 1.01
                                                                   : 0.98) *
          ranges->loss);
}

// Better than the sweep, by what the loss is said to be.
TEST_P(GptqTest, RefinedCodesLoseLess) {
  const Matrix<float> weights = NormalMatrix(40, 96, 2),
                      h = CorrelatedHessian(96, 3);
  GptqOptions options = Options();
  const auto sweep = Quantize(weights.view(), Copy(h), options, *pool_);
  options.refine = true;
  const auto refined = Quantize(weights.view(), Copy(h), options, *pool_);
  ASSERT_TRUE(sweep.ok() && refined.ok());
  EXPECT_EQ(refined->rounding_loss, sweep->rounding_loss);
  EXPECT_LE(refined->loss,
            (options.scheme.bits < 8 ? 0.98 : 1.0) * sweep->loss);
  EXPECT_NEAR(refined->loss / ProxyLoss(weights, h, options, *refined), 1.0,
              1e-3);
}

// Weights that their code is farther from than half a step.
TEST_P(GptqTest, CountsSaturation) {
  const Matrix<float> weights = NormalMatrix(12, 96, 2);
  const QuantScheme scheme = Options().scheme;
  const QuantizedShape shape(scheme, 12, 96);
  const auto result =
      Quantize(weights.view(), IdentityHessian(96), Options(), *pool_);
  ASSERT_TRUE(result.ok());
  int64_t saturated = 0;
  for (int64_t r = 0; r < 12; ++r) {
    for (int64_t c = 0; c < 96; ++c) {
      const size_t group =
          static_cast<size_t>(r * shape.groups + c / shape.group_elems);
      const float scale =
          LoadScale(DType::kBF16, result->scales.data() + 2 * group);
      const float error =
          weights.row(r)[c] - ValueOf(*result, shape, scheme.bits, r, c);
      saturated += std::abs(error / scale) > 0.501f;
    }
  }
  EXPECT_EQ(result->saturated, saturated);
  // The opposite of the largest weight has no code.
  EXPECT_GE(saturated, scheme.bits == 2 ? 1 : 0);
}

TEST_P(GptqTest, NanInAWeightIsNamed) {
  Matrix<float> weights = NormalMatrix(3, 16, 15);
  weights.data()[2 * 16 + 7] = std::numeric_limits<float>::quiet_NaN();
  const auto result =
      Quantize(weights.view(), IdentityHessian(16), Options(), *pool_);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(result.status().message().find("[2, 7]"), absl::string_view::npos);
}

INSTANTIATE_TEST_SUITE_P(Schemes, GptqTest,
                         ::testing::Values("int4_g32", "int3_g64", "int2_g16",
                                           "int4", "int8"),
                         [](const ::testing::TestParamInfo<const char*>& info) {
                           return std::string(info.param);
                         });

}  // namespace
}  // namespace qeff
