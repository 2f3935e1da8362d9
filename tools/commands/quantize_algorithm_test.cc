// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/quantize_algorithm.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

TEST(QuantizeAlgorithmTest, Steps) {
  const auto rounding = ParseQuantizeAlgorithm("rtn");
  ASSERT_TRUE(rounding.ok()) << rounding.status();
  EXPECT_FALSE(rounding->calibrates());
  EXPECT_FALSE(rounding->rotate);
  const auto rotated = ParseQuantizeAlgorithm("rotate,rtn");
  ASSERT_TRUE(rotated.ok()) << rotated.status();
  EXPECT_FALSE(rotated->calibrates());
  EXPECT_TRUE(rotated->rotate);
  const auto searched = ParseQuantizeAlgorithm("rotate,mse");
  ASSERT_TRUE(searched.ok()) << searched.status();
  EXPECT_FALSE(searched->calibrates());
  EXPECT_EQ(searched->rounding, Rounding::kLeastSquares);
  EXPECT_EQ(rotated->rounding, Rounding::kRange);
  const auto all = ParseQuantizeAlgorithm("rotate,awq,gptq,autoround");
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_TRUE(all->rotate && all->gptq && all->autoround);
  EXPECT_EQ(all->folds, FoldSearch::kAwq);
  EXPECT_FALSE(all->best);
  const auto smooth = ParseQuantizeAlgorithm("smoothquant");
  ASSERT_TRUE(smooth.ok()) << smooth.status();
  EXPECT_EQ(smooth->folds, FoldSearch::kSmoothQuant);
  EXPECT_TRUE(smooth->calibrates());
  const auto best = ParseQuantizeAlgorithm("rotate,best");
  ASSERT_TRUE(best.ok()) << best.status();
  EXPECT_TRUE(best->rotate && best->best && best->calibrates());
}

TEST(QuantizeAlgorithmTest, OthersAreErrors) {
  for (const char* text :
       {"", "rotate", "rotate,", "gptq,awq", "gptq,rotate", "rotate,rotate,rtn",
        "awq,", "Gptq", "best,gptq", "rtn,gptq"}) {
    SCOPED_TRACE(text);
    const auto algorithm = ParseQuantizeAlgorithm(text);
    EXPECT_EQ(algorithm.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(algorithm.status().ToString(),
                HasSubstr("smoothquant,gptq; autoround"));
  }
}

}  // namespace
}  // namespace qeff
