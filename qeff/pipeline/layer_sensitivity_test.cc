// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/layer_sensitivity.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/transformer/reference_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

class LayerSensitivityTest : public testing::Test {
 protected:
  static std::shared_ptr<const Transformer> Load(const TestModel& model) {
    return Transformer::Load(OpenTestModel(model)).value();
  }
  static TokenSample Sample(int64_t tokens) {
    TokenSample sample;
    sample.sequences = {TestTokens(tokens), TestTokens(tokens)};
    sample.tokens = 2 * tokens;
    return sample;
  }
  absl::StatusOr<Json> Measure(const TestModel& model,
                               const std::string& scheme, int64_t tokens) {
    return LayerSensitivities(Load(model), ParseQuantScheme(scheme).value(),
                              Sample(tokens), nullptr, pool_.get());
  }

  const std::unique_ptr<ThreadPool> pool_ = CreateThreadPool(2).value();
};

TEST_F(LayerSensitivityTest, FewerBitsLoseMoreInEveryPart) {
  const TestModel model = MakeTestModel("llama");
  const auto coarse = Measure(model, "int2_g8", 9);
  const auto fine = Measure(model, "int8", 9);
  ASSERT_TRUE(coarse.ok() && fine.ok()) << coarse.status() << fine.status();
  const std::vector<std::string> roles = {"qkv", "o", "gate_up", "down"};
  ASSERT_EQ(coarse->size(), 8U);
  ASSERT_EQ(fine->size(), 8U);
  for (size_t i = 0; i < coarse->size(); ++i) {
    const Json& part = (*coarse)[i];
    EXPECT_EQ(part["role"], roles[i % 4]);
    EXPECT_EQ(part["block"], i / 4);
    EXPECT_EQ(part["name"], absl::StrCat("block ", i / 4, " ", roles[i % 4]));
    EXPECT_EQ(part["scheme"], "int2_g8");
    EXPECT_GT(part["sensitivity"], (*fine)[i]["sensitivity"]) << part;
    EXPECT_GT((*fine)[i]["sensitivity"].get<double>(), 0);
  }
}

// A layer of zeros is exact in any scheme, and nobody sees what goes into it.
TEST_F(LayerSensitivityTest, WhatRoundingDoesNotChangeCostsNothing) {
  TestModel model = MakeTestModel("gpt2");
  auto& values = model.Find("transformer.h.1.mlp.c_proj.weight")->values;
  values.assign(values.size(), 0);
  const auto parts = Measure(model, "int4_g8", 9);
  ASSERT_TRUE(parts.ok()) << parts.status();
  for (const Json& part : *parts) {
    const bool zero = part["block"] == 1 &&
                      (part["role"] == "down" || part["role"] == "gate_up");
    EXPECT_EQ(part["sensitivity"].get<double>() < 1e-9, zero) << part;
  }
}

TEST_F(LayerSensitivityTest, LooksAtNoMoreTokensThanItSays) {
  const auto model = Load(MakeTestModel("llama"));
  ASSERT_EQ(LayerSensitivityTokens(*model), 512);  // the most
  TokenSample sample;
  for (int i = 0; i < 32; ++i) sample.sequences.push_back(TestTokens(16));
  sample.tokens = 512;
  const QuantScheme scheme = ParseQuantScheme("int4_g8").value();
  const auto all =
      LayerSensitivities(model, scheme, sample, nullptr, pool_.get());
  sample.sequences.push_back({1, 1, 1, 1});
  sample.tokens += 4;
  const auto more =
      LayerSensitivities(model, scheme, sample, nullptr, pool_.get());
  ASSERT_TRUE(all.ok() && more.ok());
  EXPECT_EQ(*all, *more);
}

TEST_F(LayerSensitivityTest, ErrorsOfTheCheckEndIt) {
  const auto stopped = LayerSensitivities(
      Load(MakeTestModel("llama")), ParseQuantScheme("int4_g8").value(),
      Sample(9), [] { return absl::CancelledError("stop"); }, pool_.get());
  EXPECT_EQ(stopped.status().code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(std::string(stopped.status().message()), HasSubstr("stop"));
}

}  // namespace
}  // namespace qeff
