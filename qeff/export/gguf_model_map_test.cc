// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/gguf_model_map.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

TransformerSpec SmallSpec(const std::string& family) {
  TransformerSpec spec;
  spec.family = family;
  spec.hidden_size = 64;
  spec.num_layers = 2;
  spec.num_heads = 4;
  spec.num_kv_heads = 2;
  spec.head_dim = 16;
  spec.ffn_size = 96;
  spec.vocab_size = 300;
  spec.max_positions = 128;
  spec.attention_scale = 0.25;
  return spec;
}

GgufModelMap Map(const TransformerSpec& spec, GgufModelTypes types = {}) {
  auto map = MapGgufModel(spec, types);
  EXPECT_TRUE(map.ok()) << map.status();
  return *std::move(map);
}

const GgufModelTensor* Find(const GgufModelMap& map, const std::string& name) {
  for (const GgufModelTensor& tensor : map.tensors) {
    if (tensor.info.name == name) return &tensor;
  }
  return nullptr;
}

TEST(GgufModelMapTest, Llama) {
  const GgufModelMap map = Map(SmallSpec("llama"));
  const auto number = [&](const char* key) {
    return *FindGgufValue<uint32_t>(map.metadata, key);
  };
  EXPECT_EQ(map.metadata[0].first, "general.architecture");
  EXPECT_EQ(std::get<std::string>(map.metadata[0].second), "llama");
  EXPECT_EQ(number("general.file_type"), 2u);
  EXPECT_EQ(number("llama.block_count"), 2u);
  EXPECT_EQ(number("llama.feed_forward_length"), 96u);
  EXPECT_EQ(number("llama.attention.head_count_kv"), 2u);
  EXPECT_EQ(number("llama.rope.dimension_count"), 16u);
  EXPECT_EQ(*FindGgufValue<float>(map.metadata, "llama.rope.freq_base"),
            10000.0f);
  // token_embd, two blocks of 9, output_norm, output.
  ASSERT_EQ(map.tensors.size(), 21u);
  EXPECT_EQ(Find(map, "token_embd.weight")->info.type, GgmlType::kQ8_0);
  const GgufModelTensor* k = Find(map, "blk.1.attn_k.weight");
  EXPECT_EQ(k->info.type, GgmlType::kQ4_0);
  EXPECT_EQ(k->info.shape, Shape({32, 64}));
  EXPECT_EQ(k->block, 1);
  EXPECT_EQ(k->role, LinearRole::kK);
  EXPECT_TRUE(k->interleave);
  EXPECT_FALSE(Find(map, "blk.1.attn_v.weight")->interleave);
  EXPECT_EQ(Find(map, "blk.0.ffn_down.weight")->info.shape, Shape({64, 96}));
  EXPECT_EQ(Find(map, "blk.0.ffn_norm.weight")->info.type, GgmlType::kF32);
  EXPECT_EQ(Find(map, "output.weight")->info.type, GgmlType::kQ8_0);
}

TEST(GgufModelMapTest, TiedModelsHaveNoOutput) {
  TransformerSpec spec = SmallSpec("llama");
  spec.tied_lm_head = true;
  GgufModelTypes types;
  types.lm_head = GgmlType::kQ4_0;
  const GgufModelMap map = Map(spec, types);
  EXPECT_EQ(Find(map, "output.weight"), nullptr);
  EXPECT_EQ(Find(map, "token_embd.weight")->info.type, GgmlType::kQ4_0);
}

TEST(GgufModelMapTest, RowsThatAreNotWholeBlocksAreF16) {
  TransformerSpec spec = SmallSpec("llama");
  spec.ffn_size = 172;
  const GgufModelMap map = Map(spec);
  EXPECT_EQ(Find(map, "blk.0.ffn_down.weight")->info.type, GgmlType::kF16);
  EXPECT_EQ(Find(map, "blk.0.ffn_up.weight")->info.type, GgmlType::kQ4_0);
}

TEST(GgufModelMapTest, QwenHasBiasesOrNormsAndNoInterleaving) {
  TransformerSpec spec = SmallSpec("qwen2");
  spec.qkv_bias = true;
  const GgufModelMap qwen2 = Map(spec);
  const GgufModelTensor* q = Find(qwen2, "blk.0.attn_q.weight");
  EXPECT_FALSE(q->interleave);
  const GgufModelTensor* bias = Find(qwen2, "blk.0.attn_q.bias");
  EXPECT_EQ(bias->info.shape, Shape({64}));
  EXPECT_EQ(bias->info.type, GgmlType::kF32);
  EXPECT_EQ(Find(qwen2, "blk.0.attn_output.bias"), nullptr);

  spec = SmallSpec("qwen3");
  spec.qk_norm = true;
  const GgufModelMap qwen3 = Map(spec);
  EXPECT_EQ(Find(qwen3, "blk.1.attn_k_norm.weight")->info.shape, Shape({16}));
}

TransformerSpec Gpt2Spec() {
  TransformerSpec spec = SmallSpec("gpt2");
  spec.num_kv_heads = 4;
  spec.norm = NormKind::kLayerNorm;
  spec.norm_bias = true;
  spec.position = PositionKind::kLearned;
  spec.qkv_bias = spec.attention_output_bias = spec.ffn_bias = true;
  spec.activation = Activation::kGeluTanh;
  spec.gated_ffn = false;
  spec.tied_lm_head = true;
  return spec;
}

TransformerSpec MptSpec() {
  TransformerSpec spec = SmallSpec("mpt");
  spec.num_kv_heads = 4;
  spec.norm = NormKind::kLayerNorm;
  spec.position = PositionKind::kAlibi;
  spec.activation = Activation::kGelu;
  spec.gated_ffn = false;
  spec.tied_lm_head = true;
  return spec;
}

TEST(GgufModelMapTest, Gpt2) {
  const GgufModelMap map = Map(Gpt2Spec());
  EXPECT_EQ(
      *FindGgufValue<float>(map.metadata, "gpt2.attention.layer_norm_epsilon"),
      1e-5f);
  EXPECT_EQ(FindGgufValue<float>(map.metadata, "gpt2.rope.freq_base"), nullptr);
  // Embeddings, two blocks of 12, output_norm with its bias.
  ASSERT_EQ(map.tensors.size(), 28u);
  EXPECT_EQ(Find(map, "position_embd.weight")->info.shape, Shape({128, 64}));
  EXPECT_EQ(Find(map, "position_embd.weight")->info.type, GgmlType::kF32);
  EXPECT_EQ(Find(map, "blk.1.attn_qkv.weight")->info.shape, Shape({192, 64}));
  EXPECT_FALSE(Find(map, "blk.1.attn_qkv.weight")->interleave);
  EXPECT_EQ(Find(map, "blk.1.attn_qkv.bias")->info.shape, Shape({192}));
  EXPECT_EQ(Find(map, "blk.1.ffn_down.bias")->info.shape, Shape({64}));
  EXPECT_EQ(Find(map, "blk.1.ffn_norm.bias")->source, GgufSource::kFfnNormBias);
  EXPECT_EQ(Find(map, "blk.0.ffn_gate.weight"), nullptr);
  EXPECT_EQ(Find(map, "output_norm.bias")->info.shape, Shape({64}));
}

TEST(GgufModelMapTest, Mpt) {
  TransformerSpec spec = MptSpec();
  const GgufModelMap map = Map(spec);
  EXPECT_EQ(*FindGgufValue<float>(map.metadata, "mpt.attention.max_alibi_bias"),
            8);
  EXPECT_EQ(FindGgufValue<float>(map.metadata, "mpt.attention.clamp_kqv"),
            nullptr);
  ASSERT_EQ(map.tensors.size(), 14u);
  EXPECT_EQ(Find(map, "blk.0.attn_qkv.bias"), nullptr);
  EXPECT_EQ(Find(map, "blk.0.attn_norm.bias"), nullptr);
  spec.clip_qkv = 6;
  EXPECT_EQ(
      *FindGgufValue<float>(Map(spec).metadata, "mpt.attention.clamp_kqv"),
      6.0f);
}

TEST(GgufModelMapTest, RopeScaling) {
  TransformerSpec spec = SmallSpec("llama");
  spec.rope.scaling = RopeScaling::kLinear;
  spec.rope.factor = 4;
  GgufModelMap map = Map(spec);
  EXPECT_EQ(
      *FindGgufValue<std::string>(map.metadata, "llama.rope.scaling.type"),
      "linear");
  EXPECT_EQ(*FindGgufValue<float>(map.metadata, "llama.rope.scaling.factor"),
            4.0f);
  spec.rope.scaling = RopeScaling::kLlama3;
  map = Map(spec);
  EXPECT_EQ(Find(map, "rope_freqs.weight")->info.shape, Shape({8}));
}

void ExpectRefused(const TransformerSpec& spec, const char* part) {
  const absl::Status status = MapGgufModel(spec, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(part));
}

TEST(GgufModelMapTest, RefusesWhatLlamaCppWouldComputeInAnotherWay) {
  ExpectRefused(SmallSpec("bloom"), "GGUF of a bloom model: not supported");
  TransformerSpec spec = SmallSpec("llama");
  spec.activation = Activation::kGelu;
  ExpectRefused(spec, "SiLU");
  spec = SmallSpec("mistral");
  spec.sliding_window = 32;
  ExpectRefused(spec, "sliding window");
  spec = SmallSpec("qwen2");
  spec.rope.scaling = RopeScaling::kLlama3;
  ExpectRefused(spec, "rope scaling");
  spec = SmallSpec("qwen3");
  spec.qkv_bias = true;
  ExpectRefused(spec, "no biases");
  spec = Gpt2Spec();
  spec.activation = Activation::kRelu;
  ExpectRefused(spec, "gelu_new");
  spec = MptSpec();
  spec.attention_scale = 1;
  ExpectRefused(spec, "attention scale");
}

}  // namespace
}  // namespace qeff
