// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/budget.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/quant/layer_groups.h"
#include "qeff/quant/quant_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

TEST(ParseBudget, BitsAndBytes) {
  EXPECT_EQ(ParseBudget("4.25bpw")->bits_per_weight, 4.25);
  EXPECT_EQ(ParseBudget("4.25bpw")->bytes, 0u);
  EXPECT_EQ(ParseBudget("600MB")->bytes, 600000000u);
  EXPECT_EQ(ParseBudget("1.5GB")->bytes, 1500000000u);
  EXPECT_EQ(ParseBudget("64kB")->bytes, 64000u);
  EXPECT_EQ(ParseBudget("7B")->bytes, 7u);
  for (const char* text :
       {"", "bpw", "0bpw", "-1bpw", "33bpw", "nanbpw", "4", "4.25", "MB", "0MB",
        "-3MB", "nanMB", "infGB", "600 TB", "1e30GB"}) {
    EXPECT_THAT(ParseBudget(text).status().message(), HasSubstr(text));
    EXPECT_FALSE(ParseBudget(text).ok()) << text;
  }
}

class BudgetTest : public ::testing::Test {
 protected:
  BudgetTest() {
    for (const char* name : {"int2_g32", "int4_g32", "int8"}) {
      schemes_.push_back(*ParseQuantScheme(name));
    }
    groups_ = *FindLayerGroups(model_.map, plan_, schemes_, 4);
    // The second block counts ten times as much.
    for (LayerGroup& group : groups_) {
      for (LayerGroup::Choice& choice : group.choices) {
        choice.cost = (group.block == 1 ? 10.0 : 1.0) *
                      static_cast<double>(group.Weights()) /
                      static_cast<double>(choice.bytes);
      }
    }
  }

  // The plan that an allocation leads to.
  QuantizePlan PlanOf(const SchemeAllocation& allocation) const {
    QuantizeOptions options = OptionsFor("int4_g32");
    options.modules = allocation.modules;
    return *model_.Plan(options);
  }

  const TestModel model_{SynthModel("tiny")};
  const QuantizePlan plan_ = *model_.Plan(OptionsFor("int4_g32"));
  std::vector<QuantScheme> schemes_;
  std::vector<LayerGroup> groups_;
};

TEST_F(BudgetTest, BitsAreKeptAndGoWhereTheyCount) {
  double cost = 1e9;
  for (const double bits : {2.6, 3.0, 4.5, 6.0, 9.0}) {
    SCOPED_TRACE(bits);
    const auto allocation =
        AllocateSchemes({bits, 0}, plan_, schemes_, groups_);
    ASSERT_TRUE(allocation.ok()) << allocation.status();
    const QuantizePlan plan = PlanOf(*allocation);
    EXPECT_LE(plan.QuantizedBitsPerWeight(), bits + 1e-9);
    EXPECT_GT(plan.QuantizedBitsPerWeight(), bits * 0.8);
    EXPECT_LT(allocation->cost, cost);
    cost = allocation->cost;
    // q, k and v agree, and so do gate and up.
    const auto scheme = [&](const char* suffix) {
      return QuantSchemeName(FindPlanned(plan, suffix).scheme);
    };
    EXPECT_EQ(scheme("0.self_attn.q_proj.weight"),
              scheme("0.self_attn.v_proj.weight"));
    EXPECT_EQ(scheme("1.mlp.gate_proj.weight"), scheme("1.mlp.up_proj.weight"));
    EXPECT_GE(FindPlanned(plan, "1.mlp.up_proj.weight").scheme.bits,
              FindPlanned(plan, "0.mlp.up_proj.weight").scheme.bits);
  }
}

TEST_F(BudgetTest, BytesAreOfTheWholeModel) {
  QuantizeOptions least = OptionsFor("int2_g32");
  const uint64_t smallest = model_.Plan(least)->BytesAfter();
  const uint64_t budget = smallest + 20000;
  const auto allocation =
      AllocateSchemes({0, budget}, plan_, schemes_, groups_);
  ASSERT_TRUE(allocation.ok()) << allocation.status();
  EXPECT_LE(PlanOf(*allocation).BytesAfter(), budget);
  EXPECT_GT(PlanOf(*allocation).BytesAfter(), smallest);
  EXPECT_FALSE(
      AllocateSchemes({0, smallest - 1}, plan_, schemes_, groups_).ok());
  const auto tight = AllocateSchemes({0, smallest}, plan_, schemes_, groups_);
  ASSERT_TRUE(tight.ok()) << tight.status();
  EXPECT_EQ(PlanOf(*tight).BytesAfter(), smallest);
}

TEST_F(BudgetTest, TooSmallABudgetSaysWhatIsNeeded) {
  EXPECT_THAT(
      AllocateSchemes({1.5, 0}, plan_, schemes_, groups_).status().message(),
      HasSubstr("budget"));
  EXPECT_THAT(
      AllocateSchemes({0, 1000}, plan_, schemes_, groups_).status().message(),
      HasSubstr("expected more than the"));
}

TEST_F(BudgetTest, TableHasAllGroups) {
  const auto allocation = AllocateSchemes({4, 0}, plan_, schemes_, groups_);
  const std::string text = FormatAllocation(*allocation, schemes_, groups_);
  EXPECT_THAT(text, HasSubstr("model.layers.1.self_attn q_proj k_proj v_proj"));
  EXPECT_THAT(text, HasSubstr("model.layers.0.mlp down_proj"));
  EXPECT_THAT(text, HasSubstr("budget: "));
}

}  // namespace
}  // namespace qeff
