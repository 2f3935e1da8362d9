// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/estimate.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/quant/quant_testutil.h"

namespace qeff {
namespace {

constexpr RecipeTexts kTexts = {true, true, true};

class EstimateTest : public testing::Test {
 protected:
  EstimateTest() : model_(SynthModel("tiny")) {}

  std::vector<StepEstimate> Of(const std::string& recipe) {
    EstimateOptions options;
    options.peak_flops = 1e11;
    options.text_tokens = 10000;
    options.calibration_tokens = 10000;
    const auto steps = ParseRecipe(recipe, "recipe", kTexts);
    EXPECT_TRUE(steps.ok()) << steps.status();
    const auto estimates =
        EstimateSteps(*steps, *model_.checkpoint, model_.map, options);
    EXPECT_TRUE(estimates.ok()) << estimates.status();
    return *estimates;
  }

  const TestModel model_;
};

// What quantize writes is known to the byte.
TEST_F(EstimateTest, SizesAreThoseOfThePlan) {
  const auto estimates =
      Of("step { quantize { scheme: \"int4_g32\" algorithm: \"gptq\" } }"
         "step { compile {} }");
  const auto plan = model_.Plan(OptionsFor("int4_g32"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(estimates.size(), 2U);
  EXPECT_EQ(estimates[0].bytes, plan->BytesAfter());
  EXPECT_EQ(estimates[1].bytes, plan->BytesAfter());
  EXPECT_EQ(Of("step { quantize { budget: \"100kB\" } }")[0].bytes, 100000U);
}

TEST_F(EstimateTest, MoreWorkTakesLonger) {
  const auto seconds = [&](const std::string& step) {
    return Of("step { " + step + " }")[0].seconds;
  };
  EXPECT_LT(seconds("quantize { scheme: \"int4\" }"),
            seconds("quantize { scheme: \"int4\" algorithm: \"gptq\" }"));
  EXPECT_LT(seconds("quantize { scheme: \"int4\" algorithm: \"gptq\" }"),
            seconds("quantize { scheme: \"int4\" algorithm: \"autoround\" }"));
  EXPECT_NEAR(seconds("distill { steps: 200 }"),
              2 * seconds("distill { steps: 100 }"), 1e-9);
  EXPECT_LT(seconds("evaluate { max_tokens: 100 }"), seconds("evaluate {}"));
  EXPECT_GT(Of("step { distill {} }")[0].memory_bytes,
            Of("step { prune {} }")[0].memory_bytes);
}

TEST_F(EstimateTest, WhatWasPrunedCountsNoMore) {
  const auto pruned =
      Of("step { prune { method: \"structured\" parameters: 0.5 } }"
         "step { quantize { scheme: \"int8\" } }");
  const auto whole = Of("step { quantize { scheme: \"int8\" } }");
  EXPECT_EQ(pruned[0].bytes, model_.checkpoint->weight_bytes() / 2);
  EXPECT_EQ(pruned[1].bytes, whole[0].bytes / 2);
  const auto student =
      Of("step { distill { student_init: \"prune:layers=1\" } }");
  EXPECT_EQ(student[0].bytes, model_.checkpoint->weight_bytes() / 2);
}

}  // namespace
}  // namespace qeff
