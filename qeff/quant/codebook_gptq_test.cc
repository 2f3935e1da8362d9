// SPDX-License-Identifier: Apache-2.0
//
// What solve_rows_test, which runs every scheme, does not see.

#include "qeff/quant/codebook_gptq.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "qeff/format/codebook_rows.h"
#include "qeff/quant/codebook_search.h"
#include "qeff/quant/layer_testutil.h"

namespace qeff {
namespace {

constexpr int64_t kRows = 5, kCols = 140;

GptqOptions OptionsFor(const std::string& name) {
  GptqOptions options;
  options.scheme = ParseQuantScheme(name).value();
  options.scale_dtype = ScaleDType(options.scheme, DType::kBF16);
  return options;
}

// Without a Hessian the result is what rounding a checkpoint writes; shorter
// last groups, too.
TEST(CodebookGptq, RoundsAsCheckpointsAreRounded) {
  const auto pool = CreateThreadPool(1).value();
  const Matrix<float> weights = NormalMatrix(kRows, kCols, 1);
  for (const char* name : {"nf4", "nf4_g32", "fp8_e4m3", "mxfp4", "mxint8"}) {
    for (const ScaleRule rule : {ScaleRule::kSignedMax, ScaleRule::kAbsMax}) {
      SCOPED_TRACE(name);
      GptqOptions options = OptionsFor(name);
      options.scheme.scale_rule = rule;
      const auto result = QuantizeCodebookGptq(
          weights.view(), FactoredHessian(), options, *pool);
      ASSERT_TRUE(result.ok()) << result.status();
      std::vector<uint8_t> codes(kCols);
      std::vector<uint8_t> scales(result->scales.size() / kRows);
      for (int64_t r = 0; r < kRows; ++r) {
        RoundCodebookRow(
            options.scheme, absl::MakeSpan(weights.row(r), size_t{kCols}),
            options.scale_dtype, absl::MakeSpan(codes), absl::MakeSpan(scales));
        EXPECT_TRUE(std::equal(codes.begin(), codes.end(),
                               result->codes.begin() + r * kCols));
        EXPECT_TRUE(std::equal(
            scales.begin(), scales.end(),
            result->scales.begin() + r * static_cast<int64_t>(scales.size())));
      }
    }
  }
}

// By OCP's rule 7.5 has the scale of 6, and is clamped.
TEST(CodebookGptq, CountsWhatSaturates) {
  const auto pool = CreateThreadPool(1).value();
  Matrix<float> weights(kRows, kCols);
  weights.row(1)[3] = 7.5f;
  weights.row(2)[64] = -6.9f;
  weights.row(4)[139] = -7.9f;
  GptqOptions options = OptionsFor("mxfp4");
  options.scheme.scale_rule = ScaleRule::kAbsMax;
  options.search_groups = false;
  const auto result = QuantizeCodebookGptq(
      weights.view(), FactorHessian(IdentityHessian(kCols), options, *pool),
      options, *pool);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->saturated, 2);
  EXPECT_EQ(result->codes[1 * kCols + 3], 0x7);
  EXPECT_EQ(result->codes[4 * kCols + 139], 0xF);
  EXPECT_EQ(LoadCodebookScale(DType::kU8, &result->scales[1 * 5]), 1.0f);
}

}  // namespace
}  // namespace qeff
