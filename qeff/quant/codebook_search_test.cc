// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/codebook_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/format/codebook.h"
#include "qeff/format/codebook_rows.h"
#include "qeff/quant/layer_testutil.h"

namespace qeff {
namespace {

constexpr const char* kNames[] = {"nf4",   "nf4_g32", "fp8_e4m3",
                                  "mxfp4", "mxfp6",   "mxint8"};

constexpr DType kWeights = DType::kBF16;

QuantScheme Scheme(const std::string& name) {
  return ParseQuantScheme(name).value();
}

double Loss(const QuantScheme& scheme, const std::vector<float>& weights,
            const std::vector<float>& importance, float scale) {
  const CodebookFormat& format = FormatOf(*scheme.codebook);
  std::vector<uint8_t> codes(weights.size());
  CodebookCodes(scheme, weights, scale, absl::MakeSpan(codes));
  double loss = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double error =
        double(format.values[codes[i]] * scale) - double(weights[i]);
    loss += (importance.empty() ? 1.0 : double(importance[i])) * error * error;
  }
  return loss;
}

TEST(CodebookSearch, IsNeverWorseThanTheDefinition) {
  for (const char* name : kNames) {
    SCOPED_TRACE(name);
    const QuantScheme scheme = Scheme(name);
    const DType dtype = ScaleDType(scheme, kWeights);
    double found = 0, defined = 0;
    for (uint64_t seed = 0; seed < 200; ++seed) {
      // Of any length, for the ends of vectors.
      const std::vector<float> weights = NormalValues(1 + seed % 70, seed);
      std::vector<float> importance = NormalValues(weights.size(), seed + 1000);
      for (float& a : importance) a *= a;
      const float scale =
          SearchCodebookScale(scheme, weights, importance, dtype);
      const float definition = CodebookScale(scheme, AbsMax(weights), dtype);
      const double loss = Loss(scheme, weights, importance, scale);
      const double limit = Loss(scheme, weights, importance, definition);
      EXPECT_LE(loss, limit * (1 + 1e-5)) << seed;
      found += loss;
      defined += limit;
    }
    EXPECT_LT(found, defined);
  }
}

// What the vectors compute is what NearestCode does: no neighbour is better.
TEST(CodebookSearch, FindsTheBestPowerOfTwo) {
  for (const char* name : {"mxfp4", "mxfp6", "mxint8"}) {
    SCOPED_TRACE(name);
    const QuantScheme scheme = Scheme(name);
    for (uint64_t seed = 0; seed < 200; ++seed) {
      const std::vector<float> weights = NormalValues(32, seed);
      const float scale = SearchCodebookScale(scheme, weights, {}, DType::kU8);
      const double loss = Loss(scheme, weights, {}, scale);
      for (const float factor : {0.5f, 2.0f}) {
        EXPECT_LE(loss, Loss(scheme, weights, {}, scale * factor) * (1 + 1e-5));
      }
    }
  }
}

TEST(CodebookSearch, ScaleRules) {
  QuantScheme scheme = Scheme("nf4");
  int negative = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::vector<float> weights = NormalValues(64, seed);
    scheme.scale_rule = ScaleRule::kSignedMax;
    negative += RoundingScale(scheme, weights, kWeights) < 0;
    scheme.scale_rule = ScaleRule::kAbsMax;
    EXPECT_EQ(RoundingScale(scheme, weights, kWeights),
              CodebookScale(scheme, AbsMax(weights), kWeights));
    EXPECT_GT(SearchCodebookScale(scheme, weights, {}, kWeights), 0);
  }
  EXPECT_GT(negative, 0);
}

TEST(CodebookSearch, ExtremesStayFinite) {
  for (const char* name : kNames) {
    SCOPED_TRACE(name);
    const QuantScheme scheme = Scheme(name);
    const DType dtype = ScaleDType(scheme, kWeights);
    for (const float x :
         {0.0f, 1e-45f, 1e-38f, std::numeric_limits<float>::max()}) {
      const std::vector<float> weights = {x, -x, x / 2};
      const float scale = RoundingScale(scheme, weights, dtype);
      EXPECT_TRUE(std::isfinite(scale) && scale != 0) << x;
      EXPECT_TRUE(std::isfinite(Loss(scheme, weights, {}, scale))) << x;
    }
  }
}

TEST(CodebookSearch, AbsMaxSeesWhatIsNotFinite) {
  EXPECT_EQ(AbsMax({}), 0);
  EXPECT_EQ(AbsMax({1, -3, 2}), 3);
  EXPECT_TRUE(std::isinf(AbsMax({1, -std::numeric_limits<float>::infinity()})));
  EXPECT_TRUE(std::isnan(
      AbsMax({1, std::nanf(""), std::numeric_limits<float>::infinity()})));
}

// Root-mean-square error relative to that of the weights, 64 rows of 512 normal
// ones: by the definition's scales, and by those that are found.
struct ErrorCase {
  const char* scheme;
  double definition;
  double found;
};

class CodebookError : public testing::TestWithParam<ErrorCase> {};

TEST_P(CodebookError, IsAsMeasured) {
  QuantScheme scheme = Scheme(GetParam().scheme);
  const DType dtype = ScaleDType(scheme, kWeights);
  const CodebookFormat& format = FormatOf(*scheme.codebook);
  constexpr size_t kCols = 512;
  const size_t group_elems =
      scheme.group_size == 0 ? kCols : size_t(scheme.group_size);
  for (const ScaleRule rule : {ScaleRule::kAbsMax, ScaleRule::kSignedMax}) {
    scheme.scale_rule = rule;
    double error = 0, power = 0;
    for (uint64_t r = 0; r < 64; ++r) {
      const std::vector<float> row = NormalValues(kCols, r);
      std::vector<uint8_t> codes(kCols);
      std::vector<uint8_t> scales(kCols / group_elems * DTypeBytes(dtype));
      RoundCodebookRow(scheme, row, dtype, absl::MakeSpan(codes),
                       absl::MakeSpan(scales));
      for (size_t i = 0; i < kCols; ++i) {
        const float scale = LoadCodebookScale(
            dtype, scales.data() + i / group_elems * DTypeBytes(dtype));
        error += std::pow(double(format.values[codes[i]] * scale - row[i]), 2);
        power += double(row[i] * row[i]);
      }
    }
    const double relative = std::sqrt(error / power);
    const double expected =
        rule == ScaleRule::kAbsMax ? GetParam().definition : GetParam().found;
    EXPECT_NEAR(relative / expected, 1, 0.002) << relative;
  }
}

INSTANTIATE_TEST_SUITE_P(Schemes, CodebookError,
                         testing::Values(ErrorCase{"nf4", .09051, .08246},
                                         ErrorCase{"nf4_g32", .08678, .07652},
                                         ErrorCase{"fp8_e4m3", .02634, .02472},
                                         ErrorCase{"mxfp4", .11512, .11135},
                                         ErrorCase{"mxfp6", .02838, .02823},
                                         ErrorCase{"mxint8", .00817, .00811}));

}  // namespace
}  // namespace qeff
