// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/elementwise/norm.h"

#include <cmath>
#include <cstddef>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/kernels/elementwise/elementwise_testutil.h"

namespace qeff {
namespace {

constexpr double kU = 0x1p-24;
constexpr double kEpsilon = 1e-5;
constexpr uint64_t kSeed = 1;

using NormFunction = void (*)(double, absl::Span<const float>,
                              absl::Span<const float>, absl::Span<const float>,
                              absl::Span<float>);

struct Case {
  const char* name;
  NormFunction norm;
  bool centered;
  bool bias;
};

class NormTest : public ::testing::TestWithParam<Case> {};

// Compares with the formula in double, within the bound of the header.
void ExpectNorm(const Case& c, absl::Span<const float> weight,
                absl::Span<const float> bias, absl::Span<const float> x,
                absl::Span<const float> out) {
  const double n = static_cast<double>(x.size());
  double mean = 0, squares = 0;
  for (const float v : x) mean += c.centered ? v / n : 0;
  for (const float v : x) squares += (v - mean) * (v - mean);
  const double s = 1 / std::sqrt(squares / n + kEpsilon);
  for (size_t i = 0; i < x.size(); ++i) {
    const double scaled = (x[i] - mean) * s * weight[i];
    const double exact = scaled + (bias.empty() ? 0.0 : bias[i]);
    ASSERT_LE(std::fabs(out[i] - exact),
              5 * kU * (std::fabs(scaled) + std::fabs(exact)))
        << c.name << ", " << i << " of " << x.size() << ", seed " << kSeed;
  }
}

TEST_P(NormTest, WithinTheBoundForEveryRemainderAndAlignment) {
  const Case& c = GetParam();
  ForEachTarget([&] {
    for (size_t size = 1; size <= 70; ++size) {
      PoisonedRow x(size, size % 3, kSeed), out(size, size % 5, kSeed + 1);
      PoisonedRow weight(size, 1, kSeed + 2), bias(size, 2, kSeed + 3);
      const absl::Span<float> b = c.bias ? bias.span() : absl::Span<float>();
      c.norm(kEpsilon, weight.span(), b, x.span(), out.span());
      ExpectNorm(c, weight.span(), b, x.span(), out.span());
      out.ExpectSurroundingsUntouched();
      const std::vector<float> expected = out.Copy();
      c.norm(kEpsilon, weight.span(), b, x.span(), x.span());
      EXPECT_EQ(x.Copy(), expected) << "in place, size " << size;
      x.ExpectSurroundingsUntouched();
    }
  });
}

TEST_P(NormTest, SameBitsOnEveryTarget) {
  const Case& c = GetParam();
  PoisonedRow weight(3001, 1, kSeed + 2), bias(3001, 2, kSeed + 3);
  for (const size_t size : {1, 17, 128, 2048, 3001}) {
    PoisonedRow x(size, 1, kSeed);
    for (float& v : x.span()) v = v * 3 + 1000;  // a mean far from 0
    SameOnEveryTarget(x.Copy(), [&](absl::Span<float> row) {
      c.norm(kEpsilon, weight.span().first(size),
             c.bias ? bias.span().first(size) : absl::Span<float>(), row, row);
    });
  }
}

TEST_P(NormTest, SumsNeitherOverflowNorCancel) {
  const Case& c = GetParam();
  const std::vector<float> weight(100, 1.0f), bias(100, 0.0f);
  for (const float scale : {1e-3f, 1.0f, 1e30f}) {
    PoisonedRow x(100, 1, kSeed), out(100, 1, kSeed);
    for (float& v : x.span()) v = (v + 1e4f) * scale;
    const absl::Span<const float> b =
        c.bias ? absl::MakeConstSpan(bias) : absl::Span<const float>();
    c.norm(kEpsilon, weight, b, x.span(), out.span());
    ExpectNorm(c, weight, b, x.span(), out.span());
  }
}

TEST_P(NormTest, NaNPropagatesAndInfinityFollowsTheFormula) {
  const Case& c = GetParam();
  ForEachTarget([&] {
    const std::vector<float> weight(20, 1.0f);
    std::vector<float> x(20, 0.5f), out(20);
    x[19] = kNaN;
    c.norm(kEpsilon, weight, {}, x, absl::MakeSpan(out));
    for (const float v : out) EXPECT_TRUE(std::isnan(v));
    x[19] = kInfinity;
    c.norm(kEpsilon, weight, {}, x, absl::MakeSpan(out));
    EXPECT_TRUE(std::isnan(out[19]));
    if (!c.centered) {
      EXPECT_EQ(out[0], 0.0f);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(
    All, NormTest,
    ::testing::Values(Case{"Rms", RmsNorm, false, false},
                      Case{"RmsBias", RmsNorm, false, true},
                      Case{"Layer", LayerNorm, true, false},
                      Case{"LayerBias", LayerNorm, true, true}),
    [](const ::testing::TestParamInfo<Case>& info) {
      return std::string(info.param.name);
    });

TEST(RmsNormHeadsTest, IsRmsNormOfEachHead) {
  ForEachTarget([] {
    for (const size_t head_dim : {1, 6, 64, 100}) {
      PoisonedRow heads(3 * head_dim, 1, kSeed), weight(head_dim, 2, kSeed + 1);
      std::vector<float> expected = heads.Copy();
      for (size_t h = 0; h < 3; ++h) {
        const absl::Span<float> head =
            absl::MakeSpan(expected).subspan(h * head_dim, head_dim);
        RmsNorm(kEpsilon, weight.span(), {}, head, head);
      }
      RmsNormHeads(kEpsilon, weight.span(), heads.span());
      EXPECT_EQ(heads.Copy(), expected);
      heads.ExpectSurroundingsUntouched();
    }
  });
}

TEST(NormDeathTest, ChecksSizes) {
  std::vector<float> x(4), y(3);
  EXPECT_DEATH(RmsNorm(kEpsilon, y, {}, x, absl::MakeSpan(x)), "check failed");
  EXPECT_DEATH(LayerNorm(kEpsilon, x, y, x, absl::MakeSpan(x)), "check failed");
  EXPECT_DEATH(RmsNormHeads(kEpsilon, y, absl::MakeSpan(x)), "check failed");
}

}  // namespace
}  // namespace qeff
