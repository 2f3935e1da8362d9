// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/import_gguf.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/export/write_gguf_model.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/gguf_file.h"
#include "qeff/io/gguf_writer.h"
#include "qeff/io/io_testutil.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tokenizer/tables.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/mutate_testutil.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The 256 tokens of bytes and nothing else.
TokenizerTables ByteTokenizer() {
  TokenizerTables tables;
  tables.byte_level = true;
  for (const char* token : {"a", "b", "c"}) {
    tables.tokens.push_back(token);
    tables.kinds.push_back(TokenKind::kNormal);
  }
  PreTokenizerOp op;
  op.kind = PreTokenizerOp::Kind::kPattern;
  tables.pre_tokenizer = {op};
  return tables;
}

class ImportGgufTest : public testing::Test {
 protected:
  std::shared_ptr<const Checkpoint> WriteGguf(const TestModel& model,
                                              GgmlType type) {
    const auto checkpoint = OpenTestModel(model);
    const auto loaded = Transformer::Load(checkpoint);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    const auto pool = *CreateThreadPool(1);
    const auto report = WriteGgufModel(**loaded, ByteTokenizer(),
                                       {type, type, type}, path_, pool.get());
    EXPECT_TRUE(report.ok()) << report.status();
    return checkpoint;
  }

  // Null, with a failure, when it is not read.
  std::shared_ptr<const Transformer> Imported(GgufBlocks blocks) {
    const std::string output = MakeTestFolder() + "/out";
    const auto report = ImportGguf(path_, output, blocks);
    EXPECT_TRUE(report.ok()) << report.status();
    if (!report.ok()) return nullptr;
    report_ = *report;
    const auto loaded = Transformer::Load(*Checkpoint::Open(output));
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return loaded.ok() ? *loaded : nullptr;
  }

  // The model comes back: the same spec, the same tensors, bit for bit.
  void ExpectRoundTrip(const TestModel& model) {
    const auto original = WriteGguf(model, GgmlType::kF32);
    const auto report = ImportGguf(path_, output_);
    ASSERT_TRUE(report.ok()) << report.status();
    const auto imported = Checkpoint::Open(output_);
    ASSERT_TRUE(imported.ok()) << imported.status();
    ASSERT_EQ((*imported)->tensors().size(), original->tensors().size());
    EXPECT_EQ(report->tensors,
              static_cast<int64_t>(original->tensors().size()));
    EXPECT_EQ(report->weight_bytes, original->weight_bytes());
    for (const TensorInfo& info : original->tensors()) {
      const auto found = (*imported)->Get(info.name, info.shape);
      ASSERT_TRUE(found.ok()) << found.status();
      EXPECT_EQ(found->bytes, original->Get(info.name)->bytes) << info.name;
    }
    const auto before = *Transformer::Load(original);
    const auto after = Transformer::Load(*imported);
    ASSERT_TRUE(after.ok()) << after.status();
    ExpectSameSpec(before->spec(), (*after)->spec());
  }

  static void ExpectSameSpec(const TransformerSpec& a,
                             const TransformerSpec& b) {
    EXPECT_EQ(a.num_layers, b.num_layers);
    EXPECT_EQ(a.num_kv_heads, b.num_kv_heads);
    EXPECT_EQ(a.head_dim, b.head_dim);
    EXPECT_EQ(a.norm_epsilon, b.norm_epsilon);
    EXPECT_EQ(a.max_positions, b.max_positions);
    EXPECT_EQ(a.rope.theta, b.rope.theta);
    EXPECT_EQ(a.rope.scaling, b.rope.scaling);
    EXPECT_EQ(a.rope.factor, b.rope.factor);
    EXPECT_EQ(a.rope.original_max_positions, b.rope.original_max_positions);
    EXPECT_EQ(a.ffn_size, b.ffn_size);
    EXPECT_EQ(a.activation, b.activation);
    EXPECT_EQ(a.alibi_bias_max, b.alibi_bias_max);
    EXPECT_EQ(a.clip_qkv, b.clip_qkv);
    EXPECT_EQ(a.attention_scale, b.attention_scale);
    EXPECT_EQ(a.qkv_bias, b.qkv_bias);
    EXPECT_EQ(a.attention_output_bias, b.attention_output_bias);
    EXPECT_EQ(a.ffn_bias, b.ffn_bias);
    EXPECT_EQ(a.qk_norm, b.qk_norm);
    EXPECT_EQ(a.tied_lm_head, b.tied_lm_head);
  }

  const std::string folder_ = MakeTestFolder();
  const std::string path_ = folder_ + "/model.gguf";
  const std::string output_ = MakeTestFolder() + "/out";
  ImportReport report_;  // of Imported
};

TEST_F(ImportGgufTest, Llama) { ExpectRoundTrip(MakeTestModel("llama")); }

TEST_F(ImportGgufTest, LlamaWithBiases) {
  ExpectRoundTrip(
      MakeTestModel("llama", R"({"attention_bias": true, "mlp_bias": true})"));
}

TEST_F(ImportGgufTest, LlamaWithLinearRope) {
  ExpectRoundTrip(MakeTestModel("llama", R"({"rope_theta": 1234.5,
      "rope_scaling": {"rope_type": "linear", "factor": 2.5}})"));
}

TEST_F(ImportGgufTest, LlamaWithRopeOfLlama3) {
  ExpectRoundTrip(MakeTestModel("llama", R"({"rope_theta": 500000.0,
      "head_dim": 16, "max_position_embeddings": 131072, "rope_scaling": {
      "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
      "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})"));
}

TEST_F(ImportGgufTest, Qwen2) { ExpectRoundTrip(MakeTestModel("qwen2")); }
TEST_F(ImportGgufTest, Qwen3) { ExpectRoundTrip(MakeTestModel("qwen3")); }
TEST_F(ImportGgufTest, Gpt2) { ExpectRoundTrip(MakeTestModel("gpt2")); }

TEST_F(ImportGgufTest, Gpt2WithSizesOfItsOwn) {
  ExpectRoundTrip(MakeTestModel("gpt2", R"({"n_inner": 40,
      "tie_word_embeddings": false, "layer_norm_epsilon": 3e-6})"));
}

TEST_F(ImportGgufTest, Mpt) { ExpectRoundTrip(MakeTestModel("mpt")); }

TEST_F(ImportGgufTest, MptWithSizesOfItsOwn) {
  ExpectRoundTrip(MakeTestModel("mpt", R"({"layer_norm_epsilon": 3e-6,
      "attn_config": {"alibi_bias_max": 4.5, "clip_qkv": 3.25}})"));
}

// Rows of whole blocks of 256.
TestModel BlockModel(const std::string& family) {
  if (family == "gpt2")
    return MakeTestModel(family, R"({"n_embd": 256, "n_head": 8})");
  if (family == "mpt")
    return MakeTestModel(family, R"({"d_model": 256, "n_heads": 8})");
  return MakeTestModel(family,
                       R"({"hidden_size": 256, "num_attention_heads": 8,
                           "num_key_value_heads": 4, "head_dim": 32,
                           "intermediate_size": 256, "sliding_window": null})");
}

// What a row of `type` holds of `values`.
void RoundTo(GgmlType type, absl::Span<float> values) {
  if (type == GgmlType::kF32) return;
  const GgmlTypeTraits& traits = *FindGgmlType(type);
  if (type == GgmlType::kF16 || type == GgmlType::kBF16) {
    const DType dtype = type == GgmlType::kF16 ? DType::kF16 : DType::kBF16;
    std::vector<uint8_t> bytes(values.size() * 2);
    ConvertFromFloat(values, dtype, absl::MakeSpan(bytes));
    return ConvertToFloat(dtype, bytes, values);
  }
  std::vector<uint8_t> blocks(values.size() / traits.block_elems *
                              traits.block_bytes);
  EncodeGgmlRow(type, values, {}, absl::MakeSpan(blocks));
  DecodeGgmlRow(type, blocks, values);
}

class FamilyTest : public ImportGgufTest,
                   public testing::WithParamInterface<const char*> {};

constexpr GgmlType kFloatTypes[] = {GgmlType::kF32, GgmlType::kF16,
                                    GgmlType::kBF16};
constexpr GgmlType kKeptBlocks[] = {GgmlType::kQ8_0, GgmlType::kQ4_0,
                                    GgmlType::kQ4_K, GgmlType::kQ5_K,
                                    GgmlType::kQ6_K};
constexpr GgmlType kOtherBlocks[] = {GgmlType::kQ4_1, GgmlType::kQ5_0,
                                     GgmlType::kQ5_1, GgmlType::kMXFP4};

// `after` has in a linear layer what `type` holds of that of `before`.
void ExpectLayer(const Transformer& before, const Transformer& after,
                 const LinearModule& module, GgmlType type) {
  LinearWeights expected = *before.LoadLinear(module.block, module.role);
  const auto found = after.LoadLinear(module.block, module.role);
  ASSERT_TRUE(found.ok()) << found.status();
  for (int64_t r = 0; r < expected.weight.rows(); ++r) {
    const size_t cols = static_cast<size_t>(expected.weight.cols());
    RoundTo(type, absl::MakeSpan(expected.weight.row(r), cols));
    ASSERT_TRUE(std::equal(found->weight.row(r), found->weight.row(r) + cols,
                           expected.weight.row(r)))
        << module.module << ", row " << r;
  }
  EXPECT_EQ(found->bias, expected.bias);
}

void ExpectRounded(const Transformer& before, const Transformer& after,
                   GgmlType type) {
  for (const LinearModule& module : before.map().Linears()) {
    ExpectLayer(before, after, module, type);
  }
}

// Floats stay as they are.
TEST_P(FamilyTest, Floats) {
  const TestModel model = BlockModel(GetParam());
  for (const GgmlType type : kFloatTypes) {
    SCOPED_TRACE(FindGgmlType(type)->name);
    const auto before = *Transformer::Load(WriteGguf(model, type));
    const auto after = Imported(GgufBlocks::kKeep);
    ASSERT_NE(after, nullptr);
    EXPECT_FALSE(after->quantization().has_value());
    const std::string name = before->map().Linears().back().module + ".weight";
    EXPECT_EQ(after->checkpoint().Get(name)->dtype,
              type == GgmlType::kF16    ? DType::kF16
              : type == GgmlType::kBF16 ? DType::kBF16
                                        : DType::kF32);
    ExpectRounded(*before, *after, type);
  }
}

// The folder has the blocks of the file, but for the order of the rows of
// heads.
TEST_P(FamilyTest, BlocksThatStay) {
  const TestModel model = BlockModel(GetParam());
  for (const GgmlType type : kKeptBlocks) {
    SCOPED_TRACE(FindGgmlType(type)->name);
    const auto before = *Transformer::Load(WriteGguf(model, type));
    const auto after = Imported(GgufBlocks::kKeep);
    ASSERT_NE(after, nullptr);
    ASSERT_TRUE(after->quantization().has_value());
    EXPECT_EQ(after->quantization()->layout(), QuantizedLayout::kQeff);
    const auto linears = before->map().Linears();
    EXPECT_EQ(report_.quantized_tensors, static_cast<int64_t>(linears.size()));
    const auto file = *GgufFile::Open(path_);
    const auto blocks = after->checkpoint().Get(
        BlocksTensorName(before->map().blocks[1].linears.back().module));
    ASSERT_TRUE(blocks.ok()) << blocks.status();
    EXPECT_EQ(blocks->bytes, file->Bytes(*file->Find("blk.1.ffn_down.weight")));
    ExpectRounded(*before, *after, type);

    const auto floats = Imported(GgufBlocks::kFloat);
    ASSERT_NE(floats, nullptr);
    EXPECT_FALSE(floats->quantization().has_value());
    EXPECT_EQ(report_.quantized_tensors, 0);
    for (const LinearModule& module : linears) {
      EXPECT_EQ(floats->LoadLinear(module.block, module.role)->weight.span(),
                after->LoadLinear(module.block, module.role)->weight.span());
    }
  }
}

// Blocks that qeff has no scheme for become floats.
TEST_P(FamilyTest, BlocksThatBecomeFloats) {
  const TestModel model = BlockModel(GetParam());
  for (const GgmlType type : kOtherBlocks) {
    SCOPED_TRACE(FindGgmlType(type)->name);
    const auto before = *Transformer::Load(WriteGguf(model, type));
    const auto after = Imported(GgufBlocks::kKeep);
    ASSERT_NE(after, nullptr);
    EXPECT_FALSE(after->quantization().has_value());
    ExpectRounded(*before, *after, type);
  }
}

// As llama.cpp mixes them: layers have their own types, some are floats.
TEST_F(ImportGgufTest, LayersOfSeveralTypes) {
  const auto type_of = [](absl::string_view name) {
    if (absl::StrContains(name, "ffn_down.w")) return GgmlType::kQ6_K;
    if (absl::StrContains(name, "attn_k.w")) return GgmlType::kQ8_0;
    if (absl::StrContains(name, "attn_v.w")) return GgmlType::kF32;
    const bool linear =
        absl::StrContains(name, "blk.") && !absl::StrContains(name, "_norm");
    return linear ? GgmlType::kQ4_K : GgmlType::kF32;
  };
  const auto before =
      *Transformer::Load(WriteGguf(BlockModel("llama"), GgmlType::kF32));
  {
    const auto source = *GgufFile::Open(path_);
    std::vector<GgufTensorInfo> tensors = source->header().tensors;
    for (GgufTensorInfo& tensor : tensors) tensor.type = type_of(tensor.name);
    const auto writer =
        *GgufWriter::Create(path_, source->header().metadata, tensors);
    for (size_t i = 0; i < tensors.size(); ++i) {
      const GgufTensorInfo& tensor = source->header().tensors[i];
      const size_t cols = static_cast<size_t>(GgufRowElems(tensor));
      std::vector<float> row(cols);
      std::vector<uint8_t> bytes;
      for (int64_t r = 0; r < GgufRows(tensor); ++r) {
        ASSERT_TRUE(source->ReadRows(tensor, r, absl::MakeSpan(row)).ok());
        const size_t row_bytes = writer->tensors()[i].size_bytes /
                                 static_cast<size_t>(GgufRows(tensor));
        bytes.resize(bytes.size() + row_bytes);
        const auto out = absl::MakeSpan(bytes).last(row_bytes);
        if (tensors[i].type == GgmlType::kF32) {
          std::memcpy(out.data(), row.data(), row_bytes);
        } else {
          EncodeGgmlRow(tensors[i].type, row, {}, out);
        }
      }
      ASSERT_TRUE(writer->Write(i, 0, bytes).ok());
    }
    ASSERT_TRUE(writer->Commit().ok());
  }
  const auto after = Imported(GgufBlocks::kKeep);
  ASSERT_NE(after, nullptr);
  // Two blocks of q, k, o, gate, up and down.
  EXPECT_EQ(report_.quantized_tensors, 12);
  for (const LinearModule& module : before->map().Linears()) {
    SCOPED_TRACE(module.module);
    GgmlType type = GgmlType::kQ4_K;
    if (module.role == LinearRole::kDown) type = GgmlType::kQ6_K;
    if (module.role == LinearRole::kK) type = GgmlType::kQ8_0;
    if (module.role == LinearRole::kV) type = GgmlType::kF32;
    if (module.role == LinearRole::kLmHead) type = GgmlType::kF32;
    const auto stored = after->quantization()->Find(module.module);
    EXPECT_EQ(stored.has_value(), type != GgmlType::kF32);
    if (stored.has_value()) {
      EXPECT_EQ(stored->ggml, type);
    }
    ExpectLayer(*before, *after, module, type);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, FamilyTest,
                         testing::Values("llama", "mistral", "qwen2", "qwen3",
                                         "gpt2", "mpt"),
                         [](const auto& info) { return info.param; });

TEST_F(ImportGgufTest, OutputMustNotExist) {
  WriteGguf(MakeTestModel("llama"), GgmlType::kF32);
  ASSERT_TRUE(ImportGguf(path_, output_).ok());
  EXPECT_EQ(ImportGguf(path_, output_).status().code(),
            absl::StatusCode::kAlreadyExists);
}

// A cut file, a value that is not finite, another file: no output.
TEST_F(ImportGgufTest, NothingIsLeftOfWhatFails) {
  WriteGguf(MakeTestModel("llama"), GgmlType::kF32);
  const std::string bytes = ReadTestFile(path_);
  const std::string output_folder = MakeTestFolder();
  const std::string output = output_folder + "/out";
  for (size_t size = 0; size + 64 < bytes.size(); size += 41) {
    WriteTestFile(path_, absl::string_view(bytes).substr(0, size));
    const absl::Status status = ImportGguf(path_, output).status();
    ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << size;
  }
  std::string bad = bytes;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(&bad[bad.size() - 64], &nan, sizeof(nan));
  WriteTestFile(path_, bad);
  const absl::Status status = ImportGguf(path_, output).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("has a value that is not finite"));
  EXPECT_THAT(ListTestFolder(output_folder), ElementsAre());
}

// Any bit of the header: an error, or a folder that loads or says why not.
TEST_F(ImportGgufTest, FlippedBitsAreNoTrouble) {
  WriteGguf(MakeTestModel("llama"), GgmlType::kF32);
  const std::string bytes = ReadTestFile(path_);
  const std::string output_folder = MakeTestFolder();
  int refused = 0;
  for (size_t bit = 0; bit < 8 * 1400; bit += 7) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
    WriteTestFile(path_, flipped);
    const std::string output = output_folder + "/" + std::to_string(bit);
    if (!ImportGguf(path_, output).ok()) {
      ++refused;
      continue;
    }
    const auto checkpoint = Checkpoint::Open(output);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    (void)Transformer::Load(*checkpoint);
    (void)Tokenizer::FromFolder(output);
  }
  EXPECT_GT(refused, 500);
}

TEST_F(ImportGgufTest, DamageIsNoTrouble) {
  WriteGguf(MakeTestModel("llama"), GgmlType::kF32);
  const std::string bytes = ReadTestFile(path_);
  constexpr size_t kHeader = 1400;
  const std::string output_folder = MakeTestFolder();
  int64_t number = 0;
  ReadDamaged(bytes.substr(0, kHeader), 1500, "", [&](const std::string& head) {
    WriteTestFile(path_, head + bytes.substr(kHeader));
    const std::string output = output_folder + "/" + std::to_string(++number);
    const auto imported = ImportGguf(path_, output);
    if (!imported.ok()) {
      EXPECT_THAT(ListTestFolder(output_folder), ElementsAre());
      EXPECT_THAT(std::string(imported.status().message()), HasSubstr(path_));
      return imported.status();
    }
    const auto checkpoint = Checkpoint::Open(output);
    if (!checkpoint.ok()) return checkpoint.status();
    (void)Transformer::Load(*checkpoint);
    (void)Tokenizer::FromFolder(output);
    std::filesystem::remove_all(output);
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace qeff
