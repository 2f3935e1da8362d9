// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/candidate_recipes.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;

// Commands of the steps, which the check of a recipe's text lets through.
std::vector<std::string> Steps(const pipeline::Recipe& recipe) {
  const auto steps =
      ParseRecipe(RecipeText(recipe), "test", {true, true, true});
  EXPECT_TRUE(steps.ok()) << steps.status();
  std::vector<std::string> commands;
  for (const RecipeStep& step : *steps) commands.push_back(step.command);
  return commands;
}

TEST(CandidateRecipesTest, AreRecipes) {
  const CandidateOptions options;
  EXPECT_THAT(Steps(UniformRecipe(options, "int3_g64")),
              ElementsAre("quantize"));
  EXPECT_THAT(Steps(RoundedRecipe("int3_g64")), ElementsAre("quantize"));
  EXPECT_THAT(Steps(BudgetRecipe(options, "3bpw", "")),
              ElementsAre("quantize"));
  EXPECT_THAT(Steps(BudgetRecipe(options, "5MB", "int2_g64,int8")),
              ElementsAre("quantize"));
  EXPECT_THAT(Steps(TaughtRecipe(options, "int2_g64")),
              ElementsAre("quantize", "distill"));
  EXPECT_THAT(Steps(SmallerRecipe(options, .5)),
              ElementsAre("prune", "distill", "quantize"));
  for (const SparseChoice& choice :
       {SparseChoice{"int4_g128", "2:4"}, SparseChoice{"int8", "", .5}}) {
    EXPECT_THAT(Steps(SparseRecipe(options, choice)), ElementsAre("prune"));
    EXPECT_THAT(Steps(SparseProbeRecipe(options, choice)),
                ElementsAre("prune"));
    EXPECT_THAT(Steps(TaughtSparseRecipe(options, choice)),
                ElementsAre("prune", "distill", "quantize"));
  }
}

TEST(CandidateRecipesTest, PruneAsMuchAsTheChoiceSays) {
  const CandidateOptions options;
  const SparseChoice share{"int8", "", .53};
  const auto prune = SparseRecipe(options, share).step(0).prune();
  EXPECT_EQ(prune.sparsity(), .53);
  EXPECT_FALSE(prune.has_pattern());
  EXPECT_EQ(prune.scheme(), "int8");
  EXPECT_EQ(prune.allocation(), "budget");
  // Shares of 2:4 are what they are; probes are cheap.
  const SparseChoice pattern{"int4_g128", "2:4"};
  EXPECT_FALSE(SparseRecipe(options, pattern).step(0).prune().has_allocation());
  const auto probe = SparseProbeRecipe(options, share).step(0).prune();
  EXPECT_FALSE(probe.has_allocation());
  EXPECT_LT(probe.calibration_tokens(), options.calibration_tokens);
}

}  // namespace
}  // namespace qeff
