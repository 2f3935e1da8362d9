// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/removal_sensitivity.h"

#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/structured/pruned_walk.h"
#include "qeff/prune/structured/structured_plan.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/transformer/transformer.h"

namespace qeff {
namespace {

TokenSample Sample() {
  TokenSample sample;
  for (int s = 0; s < 3; ++s) {
    sample.sequences.push_back(TestTokens(20 + s));
    sample.tokens += 20 + s;
  }
  return sample;
}

TEST(RemovalSensitivityTest, IsWhatThePrunedModelLoses) {
  TestModel test = MakeTestModel("llama");
  const auto pool = CreateThreadPool(2).value();
  const auto model = Transformer::Load(OpenTestModel(test)).value();
  const TokenSample sample = Sample();
  const StructuredImportance importance = RandomImportance(model->spec(), 1);
  const auto layers = MeasureRemovals(model, importance, sample, {}, *pool);
  ASSERT_TRUE(layers.ok()) << layers.status();
  ASSERT_EQ(layers->size(), 2u);
  for (const LayerSensitivity& layer : *layers) {
    EXPECT_GT(layer.layer, 0);
    EXPECT_EQ(layer.kv_groups.size(), 3u);
    EXPECT_EQ(layer.ffn_slices.size(), 4u);
    for (const double kl : layer.kv_groups) EXPECT_GT(kl, 0);
    for (const double kl : layer.ffn_slices) EXPECT_GT(kl, 0);
  }
  std::vector<StructuredPlan> plans(2, KeepAll(model->spec()));
  for (size_t removed = 0; removed < 2; ++removed) {
    StructuredPlan& plan = plans[removed];
    plan.layers = {1 - static_cast<int64_t>(removed)};
    plan.ffn.pop_back();
    plan.kv_groups.pop_back();
  }
  PrunedWalkOptions walk;
  walk.compensate = false;
  walk.measured_sequences = 3;
  const auto results = WalkPruned(model, plans, sample, walk, *pool);
  ASSERT_TRUE(results.ok()) << results.status();
  for (size_t removed = 0; removed < 2; ++removed) {
    // Both sum in double what float32 gives.
    EXPECT_NEAR((*layers)[removed].layer, (*results)[removed].divergence,
                1e-5 * (*results)[removed].divergence);
  }
}

TEST(RemovalSensitivityTest, IsTheSameForAnyNumberOfThreads) {
  const auto model = Transformer::Load(OpenTestModel(MakeTestModel("gpt2")));
  const StructuredImportance importance = RandomImportance((*model)->spec(), 1);
  std::vector<double> found[2];
  for (int threads = 1; threads < 3; ++threads) {
    const auto pool = CreateThreadPool(threads).value();
    const auto layers =
        MeasureRemovals(*model, importance, Sample(), {}, *pool);
    ASSERT_TRUE(layers.ok()) << layers.status();
    for (const LayerSensitivity& layer : *layers) {
      std::vector<double>& to = found[threads - 1];
      to.push_back(layer.layer);
      to.insert(to.end(), layer.kv_groups.begin(), layer.kv_groups.end());
      to.insert(to.end(), layer.ffn_slices.begin(), layer.ffn_slices.end());
    }
  }
  EXPECT_EQ(found[0], found[1]);
}

TEST(RemovalSensitivityTest, TakesWhatMemoryHasRoomFor) {
  const auto model = Transformer::Load(OpenTestModel(MakeTestModel("llama")));
  TokenSample sample;
  for (int s = 0; s < 10; ++s) {
    sample.sequences.push_back(std::vector<int32_t>(1000));
    sample.tokens += 1000;
  }
  EXPECT_EQ(RemovalSample(**model, sample).tokens, 8000);
}

}  // namespace
}  // namespace qeff
