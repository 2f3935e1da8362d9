// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/compare_models.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/transformer/reference_testutil.h"

namespace qeff {
namespace {

std::shared_ptr<const Transformer> Load(const TestModel& model) {
  return Transformer::Load(OpenTestModel(model)).value();
}

int64_t Sum(const Json& counts) {
  const auto values = counts.get<std::vector<int64_t>>();
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

TEST(CompareModelsTest, ErrorsAreThoseOfTheWeights) {
  TestModel model = MakeTestModel("llama");
  const auto before = Load(model);
  const std::string name = "model.layers.1.mlp.down_proj.weight";
  for (float& value : model.Find(name)->values) value *= 1.5F;
  const auto after = Load(model);
  const auto pool = CreateThreadPool(2).value();
  const auto result = CompareModels(before, after, TestTokens(9), pool.get());
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ((*result)["layers"].size(), 14U);
  for (const Json& layer : (*result)["layers"]) {
    const bool changed = layer["name"].get<std::string>() + ".weight" == name;
    EXPECT_NEAR(layer["relative_error"].get<double>(), changed ? .5 : 0, 1e-6);
    if (changed) {
      EXPECT_EQ(layer["role"], "down");
      EXPECT_EQ(layer["block"], 1);
    }
  }
}

TEST(CompareModelsTest, HistogramsCountEachValue) {
  const auto model = Load(MakeTestModel("gpt2"));
  const auto pool = CreateThreadPool(2).value();
  const auto tokens = TestTokens(9);
  const auto result = CompareModels(model, model, tokens, pool.get());
  ASSERT_TRUE(result.ok()) << result.status();
  const auto& map = model->map();
  for (const char* kind : {"weight_histograms", "activation_histograms"}) {
    const Json& histograms = (*result)[kind];
    ASSERT_EQ(histograms.size(), map.blocks[0].linears.size());
    for (const Json& histogram : histograms) {
      EXPECT_LT(histogram["low"], histogram["high"]);
      EXPECT_EQ(histogram["before"], histogram["after"]);
    }
    EXPECT_EQ(histograms[0]["role"], "qkv");
  }
  const LinearModule& qkv = map.blocks[0].linears[0];
  const auto blocks = static_cast<int64_t>(map.blocks.size());
  EXPECT_EQ(Sum((*result)["weight_histograms"][0]["before"]),
            blocks * qkv.out_features * qkv.in_features);
  EXPECT_EQ(Sum((*result)["activation_histograms"][0]["before"]),
            blocks * qkv.in_features * static_cast<int64_t>(tokens.size()));
}

// Of a model with fewer layers there are histograms, but no errors.
TEST(CompareModelsTest, OtherShapes) {
  const auto before = Load(MakeTestModel("llama"));
  const auto after =
      Load(MakeTestModel("llama", R"({"intermediate_size": 8})"));
  const auto pool = CreateThreadPool(1).value();
  const auto result = CompareModels(before, after, {}, pool.get());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ((*result)["layers"].size(), 8U);  // q, k, v, o
  EXPECT_EQ((*result)["weight_histograms"].size(), 7U);
  EXPECT_FALSE(result->contains("activation_histograms"));
}

}  // namespace
}  // namespace qeff
