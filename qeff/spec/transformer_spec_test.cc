// SPDX-License-Identifier: Apache-2.0

#include "qeff/spec/transformer_spec.h"

#include <cmath>
#include <functional>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

TransformerSpec Valid() {
  TransformerSpec spec;
  spec.family = "llama";
  spec.hidden_size = 64;
  spec.num_layers = 2;
  spec.num_heads = 8;
  spec.num_kv_heads = 4;
  spec.head_dim = 8;
  spec.ffn_size = 172;
  spec.vocab_size = 512;
  spec.max_positions = 512;
  spec.attention_scale = 1 / std::sqrt(8.0);
  spec.bos_token_id = 1;
  spec.eos_token_ids = {2};
  return spec;
}

TEST(TransformerSpecTest, AcceptsAValidOne) {
  EXPECT_TRUE(ValidateSpec(Valid()).ok());
  EXPECT_EQ(Valid().block_linear_elems(),
            64 * (64 + 32 + 32 + 64) + 3 * 64 * 172);
}

TEST(TransformerSpecTest, NamesTheFieldThatIsWrong) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const struct {
    std::function<void(TransformerSpec&)> change;
    const char* message;
  } cases[] = {
      {[](auto& s) { s.hidden_size = 0; }, "hidden_size"},
      {[](auto& s) { s.num_layers = -1; }, "num_layers"},
      {[](auto& s) { s.vocab_size = int64_t{1} << 31; }, "vocab_size"},
      {[](auto& s) { s.num_kv_heads = 3; }, "divisor of num_heads 8, found 3"},
      {[](auto& s) { s.head_dim = 7; }, "even size"},
      {[&](auto& s) { s.norm_epsilon = nan; }, "norm_epsilon"},
      {[](auto& s) { s.rope.theta = 0; }, "rope_theta"},
      {[](auto& s) { s.rope.factor = -1; }, "rope factor"},
      {[](auto& s) { s.bos_token_id = 512; }, "bos_token_id"},
      {[](auto& s) { s.eos_token_ids = {-5}; }, "eos_token_id"},
      {[](auto& s) { s.attention_scale = 0; }, "attention_scale"},
      {[](auto& s) { s.attention_scale = 1e300; }, "attention_scale"},
      {[](auto& s) { s.clip_qkv = -1; }, "clip_qkv"},
      {[&](auto& s) { s.clip_qkv = nan; }, "clip_qkv"},
      // 0 in float32.
      {[](auto& s) { s.clip_qkv = 1e-300; }, "clip_qkv"},
  };
  for (const auto& c : cases) {
    TransformerSpec spec = Valid();
    c.change(spec);
    const absl::Status status = ValidateSpec(spec);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
}

TEST(RopeTest, PlainAndLinear) {
  TransformerSpec spec = Valid();
  EXPECT_DOUBLE_EQ(RopeFrequencies(spec)[0], 1.0);
  EXPECT_DOUBLE_EQ(RopeFrequencies(spec)[2], 0.01);
  spec.rope.scaling = RopeScaling::kLinear;
  spec.rope.factor = 4;
  EXPECT_DOUBLE_EQ(RopeFrequencies(spec)[0], 0.25);
}

TEST(RopeTest, Llama3KeepsShortWavesAndStretchesLongOnes) {
  TransformerSpec spec = Valid();
  spec.head_dim = 128;
  spec.rope = {500000.0, RopeScaling::kLlama3, 8.0, 1.0, 4.0, 8192};
  const std::vector<double> scaled = RopeFrequencies(spec);
  spec.rope.scaling = RopeScaling::kNone;
  const std::vector<double> plain = RopeFrequencies(spec);
  EXPECT_DOUBLE_EQ(scaled.front(), plain.front());
  EXPECT_DOUBLE_EQ(scaled.back(), plain.back() / 8);
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_LE(scaled[i], plain[i] * (1 + 1e-12));
    EXPECT_GE(scaled[i], plain[i] / 8 * (1 - 1e-12));
    if (i > 0) {
      EXPECT_LT(scaled[i], scaled[i - 1]);
    }
  }
}

TEST(AlibiTest, SlopesForAnyNumberOfHeads) {
  TransformerSpec spec = Valid();
  spec.position = PositionKind::kAlibi;
  spec.num_heads = 4;
  EXPECT_THAT(AlibiSlopes(spec),
              ::testing::ElementsAre(0.25, 0.0625, 0.015625, 0.00390625));
  spec.num_heads = 6;  // of 8: 2^-1 .. 2^-8; even ones, then odd ones
  EXPECT_THAT(
      AlibiSlopes(spec),
      ::testing::ElementsAre(0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125));
}

}  // namespace
}  // namespace qeff
