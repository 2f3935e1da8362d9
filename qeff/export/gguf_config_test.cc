// SPDX-License-Identifier: Apache-2.0
//
// Whole models go out and back in import_gguf_test; here are keys that are
// wrong.

#include "qeff/export/gguf_config.h"

#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/gguf_writer.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

class GgufConfigTest : public testing::Test {
 protected:
  // Metadata of a llama with hidden size 8.
  static GgufMetadata Metadata() {
    GgufMetadata metadata;
    metadata.emplace_back("general.architecture", std::string("llama"));
    const std::pair<const char*, uint32_t> sizes[] = {
        {"block_count", 1},          {"context_length", 64},
        {"embedding_length", 8},     {"feed_forward_length", 16},
        {"attention.head_count", 2}, {"attention.head_count_kv", 1}};
    for (const auto& [name, value] : sizes) {
      metadata.emplace_back(std::string("llama.") + name, value);
    }
    metadata.emplace_back("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    return metadata;
  }

  // Replaces or adds a key.
  static GgufMetadata With(const std::string& key, GgufValue value) {
    GgufMetadata metadata = Metadata();
    for (auto& entry : metadata) {
      if (entry.first != key) continue;
      entry.second = std::move(value);
      return metadata;
    }
    metadata.emplace_back(key, std::move(value));
    return metadata;
  }

  static GgufMetadata Without(const std::string& key) {
    GgufMetadata metadata;
    for (auto& entry : Metadata()) {
      if (entry.first != key) metadata.push_back(entry);
    }
    return metadata;
  }

  // Maps a file of one embedding and `extra`.
  absl::StatusOr<GgufModel> Map(const GgufMetadata& metadata,
                                const std::vector<GgufTensorInfo>& extra = {}) {
    std::vector<GgufTensorInfo> infos = {
        Tensor("token_embd.weight", GgmlType::kF32, Shape({10, 8}))};
    infos.insert(infos.end(), extra.begin(), extra.end());
    const auto writer = GgufWriter::Create(path_, metadata, infos);
    EXPECT_TRUE(writer.ok()) << writer.status();
    for (size_t i = 0; i < infos.size(); ++i) {
      const std::vector<uint8_t> zeros((*writer)->tensors()[i].size_bytes);
      EXPECT_TRUE((*writer)->Write(i, 0, zeros).ok());
    }
    EXPECT_TRUE((*writer)->Commit().ok());
    file_ = *GgufFile::Open(path_);
    return MapGgufFile(*file_);
  }

  static GgufTensorInfo Tensor(const std::string& name, GgmlType type,
                               Shape shape) {
    GgufTensorInfo info;
    info.name = name;
    info.type = type;
    info.shape = std::move(shape);
    return info;
  }

  void ExpectError(const absl::StatusOr<GgufModel>& model,
                   absl::StatusCode code, const std::string& part) {
    EXPECT_EQ(model.status().code(), code) << part << ": " << model.status();
    EXPECT_THAT(std::string(model.status().message()), HasSubstr(part));
    EXPECT_THAT(std::string(model.status().message()), HasSubstr(path_));
  }

  const std::string path_ = MakeTestFolder() + "/model.gguf";
  std::shared_ptr<const GgufFile> file_;
};

TEST_F(GgufConfigTest, Config) {
  const auto model = Map(Metadata());
  ASSERT_TRUE(model.ok()) << model.status();
  const Json expected = Json::parse(R"({
      "architectures": ["LlamaForCausalLM"], "model_type": "llama",
      "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
      "max_position_embeddings": 64, "vocab_size": 10,
      "tie_word_embeddings": true, "intermediate_size": 16,
      "num_key_value_heads": 1, "head_dim": 4, "rms_norm_eps": 1e-05,
      "rope_theta": 10000.0, "hidden_act": "silu", "attention_bias": false,
      "mlp_bias": false})");
  EXPECT_EQ(model->config, expected);
  ASSERT_EQ(model->tensors.size(), 1u);
  EXPECT_EQ(model->tensors[0].name, "model.embed_tokens.weight");
  EXPECT_EQ(model->tensors[0].interleaved_head_dim, 0);
}

TEST_F(GgufConfigTest, QueriesAndKeysAreInterleaved) {
  const auto model =
      Map(Metadata(),
          {Tensor("blk.0.attn_q.weight", GgmlType::kF32, Shape({8, 8})),
           Tensor("blk.0.attn_k.bias", GgmlType::kF32, Shape({4})),
           Tensor("blk.0.attn_v.weight", GgmlType::kF32, Shape({4, 8}))});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->tensors[1].name, "model.layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(model->tensors[1].interleaved_head_dim, 4);
  EXPECT_EQ(model->tensors[2].interleaved_head_dim, 4);
  EXPECT_EQ(model->tensors[3].interleaved_head_dim, 0);
}

TEST_F(GgufConfigTest, KeysThatAreMissingOrWrong) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  for (const char* key :
       {"general.architecture", "llama.block_count", "llama.context_length",
        "llama.embedding_length", "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon"}) {
    ExpectError(Map(Without(key)), invalid, key);
    ExpectError(Map(With(key, 1.5)), invalid, key);
  }
  for (const char* name :
       {"block_count", "attention.head_count", "attention.head_count_kv",
        "feed_forward_length", "vocab_size"}) {
    const std::string key = std::string("llama.") + name;
    ExpectError(Map(With(key, uint32_t{0})), invalid, key);
    ExpectError(Map(With(key, int32_t{-1})), invalid, key);
    ExpectError(Map(With(key, uint32_t{0xFFFFFFFF})), invalid, key);
  }
  for (const float bad : {0.0f, -1.0f, std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    for (const char* key :
         {"llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"}) {
      ExpectError(Map(With(key, bad)), invalid, key);
    }
  }
}

TEST_F(GgufConfigTest, ContradictionsAreFound) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  // Of blocks without tensors nothing is made.
  ExpectError(Map(With("llama.block_count", uint32_t{2})), invalid,
              "expected no more than there are tensors");
  ExpectError(Map(With("llama.vocab_size", uint32_t{11})), invalid,
              "expected 10, the rows of token_embd.weight, found 11");
  ExpectError(Map(With("llama.attention.head_count_kv", uint32_t{9})), invalid,
              "num_key_value_heads");
  ExpectError(Map(Metadata(), {Tensor("blk.0.attn_q.weight", GgmlType::kF32,
                                      Shape({6, 8}))}),
              invalid, "expected whole heads of 4");
}

// The metadata under the names of `architecture`, with a LayerNorm's epsilon.
GgufMetadata Renamed(GgufMetadata metadata, const std::string& architecture) {
  for (auto& entry : metadata) {
    if (entry.first.rfind("llama.", 0) == 0) {
      entry.first = architecture + entry.first.substr(5);
    }
  }
  std::get<std::string>(metadata[0].second) = architecture;
  metadata.emplace_back(architecture + ".attention.layer_norm_epsilon", 1e-5f);
  return metadata;
}

TEST_F(GgufConfigTest, Gpt2AndMpt) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const auto lacking = absl::StatusCode::kUnimplemented;
  const GgufMetadata heads = With("llama.attention.head_count_kv", uint32_t{2});
  const std::vector<GgufTensorInfo> tensors = {
      Tensor("blk.0.attn_qkv.weight", GgmlType::kF32, Shape({24, 8}))};
  const auto gpt2 = Map(Renamed(heads, "gpt2"), tensors);
  ASSERT_TRUE(gpt2.ok()) << gpt2.status();
  EXPECT_EQ(gpt2->tensors[1].name, "transformer.h.0.attn.c_attn.weight");
  EXPECT_TRUE(gpt2->tensors[1].transposed);
  EXPECT_EQ(gpt2->config["n_inner"], 16);
  ExpectError(Map(Renamed(Metadata(), "gpt2")), lacking,
              "gpt2.attention.head_count_kv: 1 is not supported; expected 2");

  GgufMetadata mpt = Renamed(heads, "mpt");
  ExpectError(Map(mpt), invalid, "mpt.attention.max_alibi_bias");
  mpt.emplace_back("mpt.attention.max_alibi_bias", 8.0f);
  const auto model = Map(mpt, tensors);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->tensors[1].name, "transformer.blocks.0.attn.Wqkv.weight");
  EXPECT_FALSE(model->tensors[1].transposed);
  EXPECT_EQ(model->config["expansion_ratio"], 2.0);
  ExpectError(
      Map(mpt, {Tensor("blk.0.attn_qkv.bias", GgmlType::kF32, Shape({24}))}),
      lacking, "has no place in a mpt model");
}

TEST_F(GgufConfigTest, WhatQeffLacks) {
  const auto lacking = absl::StatusCode::kUnimplemented;
  ExpectError(Map(With("general.architecture", std::string("gemma3"))), lacking,
              "supported are llama, qwen2, qwen3, gpt2 and mpt");
  ExpectError(Map(With("llama.expert_count", uint32_t{8})), lacking,
              "llama.expert_count");
  ExpectError(Map(With("llama.rope.dimension_count", uint32_t{2})), lacking,
              "llama.rope.dimension_count");
  ExpectError(Map(With("llama.rope.scaling.type", std::string("yarn"))),
              lacking, "yarn");
  ExpectError(Map(Metadata(),
                  {Tensor("rope_freqs.weight", GgmlType::kF32, Shape({2}))}),
              lacking, "factors of Llama 3");
  ExpectError(Map(Metadata(), {Tensor("blk.0.ffn_gate_inp.weight",
                                      GgmlType::kF32, Shape({4, 8}))}),
              lacking, "blk.0.ffn_gate_inp.weight");
  ExpectError(
      Map(Metadata(), {Tensor("blk.0.ffn_up.weight", static_cast<GgmlType>(11),
                              Shape({1, 256}))}),
      lacking, "Q3_K");
}

}  // namespace
}  // namespace qeff
