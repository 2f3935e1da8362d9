// SPDX-License-Identifier: Apache-2.0
//
// Writes FOLDER/TARGET/seed-NAME for every fuzz target: valid files that have
// each construct of their format, where a fuzzer would not find it soon. For a
// target that is new, and for a format that has changed:
//   bazel run //qeff/fuzz:make_seeds -- "${PWD}/qeff/fuzz/corpus"

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "qeff/compile/compile_in_memory.h"
#include "qeff/device/package/package_testutil.h"
#include "qeff/device/package/tokenizer_section.h"
#include "qeff/device/reference_model.h"
#include "qeff/export/export_testutil.h"
#include "qeff/export/write_gguf_model.h"
#include "qeff/fuzz/config_models.h"
#include "qeff/fuzz/edited_binaries.h"
#include "qeff/fuzz/edited_seeds.h"
#include "qeff/fuzz/fuzz_input.h"
#include "qeff/fuzz/seed_files.h"
#include "qeff/io/gguf_writer.h"
#include "qeff/io/io_testutil.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/train/token_shard_writer.h"
#include "qeff/train/train_files.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

class Seeds {
 public:
  Seeds(const std::string& folder, const std::string& target)
      : folder_(absl::StrCat(folder, "/", target)) {
    std::filesystem::create_directories(folder_);
  }

  void Add(absl::string_view name, absl::string_view bytes) const {
    WriteTestFile(absl::StrCat(folder_, "/seed-", name), bytes);
  }

 private:
  const std::string folder_;
};

void Safetensors(const Seeds& seeds) {
  seeds.Add("small",
            SafetensorsBytes(
                R"({"__metadata__":{"format":"pt"},)"
                R"("a.b":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]},)"
                R"("c\u00e9":{"dtype":"F32","shape":[],"data_offsets":[4,8]}})",
                "12345678"));
  // Every dtype of the format, supported or not, and a tensor of no bytes.
  std::string header = "{";
  for (const char* dtype :
       {"BOOL", "U8",  "I8",   "F8_E5M2", "F8_E4M3", "F8_E8M0", "I16",
        "U16",  "F16", "BF16", "I32",     "U32",     "F32",     "F64",
        "I64",  "U64", "C64",  "F4",      "F6_E2M3", "F6_E3M2"}) {
    const std::string entry =
        absl::StrCat("\"", dtype, R"(":{"dtype":")", dtype,
                     R"(","shape":[2,0],"data_offsets":[0,0]})");
    absl::StrAppend(&header, header.size() == 1 ? "" : ",", entry);
    seeds.Add(absl::StrCat("dtype-", dtype),
              SafetensorsBytes(absl::StrCat("{", entry, "}  "), ""));
  }
  seeds.Add("dtypes", SafetensorsBytes(header + "}", ""));
  const auto one = [&](const std::string& name, const std::string& tensor,
                       const std::string& shape) {
    seeds.Add(name, SafetensorsBytes(
                        absl::StrCat("{\"", tensor, "\":{\"dtype\":\"U8\",",
                                     "\"shape\":", shape,
                                     ",\"data_offsets\":[0,0]}}"),
                        ""));
  };
  one("null", "t", "null");
  one("overflow", "t", "[9223372036854775807,9223372036854775807]");
  one("name", std::string(4097, 'n'), "[0]");
  std::string many = "[0";
  for (int i = 0; i < 64; ++i) many += ",1";
  one("rank", "t", many + "]");
  // What is taken for a model by its name.
  seeds.Add("html", "<!DOCTYPE html><title>404 Not Found</title>");
  seeds.Add("pickle", "\x80\x02}q.........");
  seeds.Add("pointer", "version https://git-lfs.github.com/spec/v1\noid ...");
}

void CheckpointIndex(const Seeds& seeds) {
  const std::string shard = SafetensorsBytes(
      {{"a", Shape({2}), {1.0f, 2.0f}}, {"b", Shape({1, 1}), {3.0f}}});
  const auto both = [&](absl::string_view map, absl::string_view metadata) {
    return absl::StrCat("{", metadata, "\"weight_map\":{", map, "}}",
                        absl::string_view("\0", 1), shard);
  };
  const absl::string_view all =
      R"("a":"a.safetensors","b":"a.safetensors","w":"b.safetensors")";
  seeds.Add("all", both(all, R"("metadata":{"total_size":20},)"));
  seeds.Add("other-size", both(all, R"("metadata":{"total_size":"21"},)"));
  seeds.Add("missing", both(R"("a":"a.safetensors","c":"a.safetensors")", ""));
  seeds.Add("unlisted", both(R"("a":"a.safetensors")", ""));
  seeds.Add("twice", both(R"("a":"a.safetensors","a":"b.safetensors")", ""));
  seeds.Add("null", both(R"("a":null)", ""));
  seeds.Add("bool", both(R"("a":true)", ""));
  seeds.Add("path", both(R"("a":"../a.safetensors","c":"")", ""));
  const std::string other = SafetensorsBytes({{"w", Shape({1}), {4.0f}}});
  const absl::string_view nul("\0", 1);
  seeds.Add("in-both", absl::StrCat(R"({"weight_map":{"v":"a.safetensors",)"
                                    R"("w":"b.safetensors"}})",
                                    nul, other));
  // Folders without an index.
  seeds.Add("gptq", absl::StrCat(nul, R"({"bits":4})", nul, other));
  seeds.Add("gptq-list", absl::StrCat(nul, "[]", nul, other));
  seeds.Add("no-weights", absl::StrCat(nul, "GGUF", nul));
}

void Config(const Seeds& seeds) {
  const std::vector<TestModel> models = ConfigModels();
  for (size_t i = 0; i < models.size(); ++i) {
    seeds.Add(absl::StrCat(i), absl::StrCat(i, models[i].config.dump()));
  }
  for (const SeedFile& seed : EditedConfigs()) seeds.Add(seed.name, seed.bytes);
}

// One layer of two heads with `size` channels.
TestModel SmallModel(const std::string& family, int size,
                     const Json& more = {}) {
  Json changes =
      family == "gpt2" ? Json{{"n_embd", size},
                              {"n_layer", 1},
                              {"n_head", 2},
                              {"n_inner", size},
                              {"n_positions", 8}}
      : family == "mpt"
          ? Json{{"d_model", size},
                 {"n_layers", 1},
                 {"n_heads", 2},
                 {"expansion_ratio", 1}}
          : Json{{"hidden_size", size},      {"intermediate_size", size},
                 {"head_dim", size / 2},     {"num_hidden_layers", 1},
                 {"num_attention_heads", 2}, {"num_key_value_heads", 1}};
  if (more.is_object()) changes.update(more);
  return MakeTestModel(family, changes.dump());
}

// Tokens of bytes and nothing else.
TokenizerTables ByteLevelTables() {
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

void Gguf(const Seeds& seeds) {
  const std::string path = MakeTestFolder() + "/m.gguf";
  const auto pool = *CreateThreadPool(1);
  std::string llama;
  MemoryFile sentencepiece;
  sentencepiece.Write(TokenizerModelSeeds()[1].bytes);
  const auto llama_tokenizer =
      *Tokenizer::FromSentencePiece(sentencepiece.path());
  const auto add = [&](const std::string& name, const std::string& family,
                       int size, GgmlType type, const Json& changes = {}) {
    const auto model =
        *Transformer::Load(OpenTestModel(SmallModel(family, size, changes)));
    const TokenizerTables tokenizer =
        family == "llama" ? llama_tokenizer->tables() : ByteLevelTables();
    QEFF_CHECK(
        WriteGgufModel(*model, tokenizer, {type, type, type}, path, pool.get())
            .ok());
    seeds.Add(name, ReadTestFile(path));
  };
  for (const char* family : {"qwen2", "qwen3", "llama", "mpt", "gpt2"}) {
    add(family, family, 8, GgmlType::kF16);
    if (absl::string_view(family) == "llama") llama = ReadTestFile(path);
  }
  for (const SeedFile& seed : EditedGgufs(llama, ReadTestFile(path))) {
    seeds.Add(seed.name, seed.bytes);
  }
  add("blocks", "llama", 32, GgmlType::kQ4_0);
  add("linear", "llama", 8, GgmlType::kF16,
      {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2}}}});
  add("llama3", "llama", 8, GgmlType::kF16,
      {{"rope_scaling",
        {{"rope_type", "llama3"},
         {"factor", 8},
         {"low_freq_factor", 1},
         {"high_freq_factor", 4},
         {"original_max_position_embeddings", 8192}}}});
  add("clamp", "mpt", 8, GgmlType::kF16,
      {{"attn_config", {{"alibi", true}, {"clip_qkv", 2}}}});
  for (const uint32_t alignment : {8u, 7u}) {
    auto writer = *GgufWriter::Create(path, {}, {});
    QEFF_CHECK(writer->Commit().ok());
    std::string bytes = ReadTestFile(path);
    bytes[16] = 1;  // keys
    bytes.resize(24);
    const std::string key(kGgufAlignmentKey);
    bytes += static_cast<char>(key.size()) + std::string(7, '\0') + key;
    bytes += std::string("\4\0\0\0", 4);  // u32
    bytes += static_cast<char>(alignment) + std::string(3, '\0');
    seeds.Add(absl::StrCat("alignment-", alignment), bytes);
  }
  // A tensor of each type, of one block.
  for (uint32_t number = 0; number < 64; ++number) {
    const GgmlTypeTraits* traits = FindGgmlType(static_cast<GgmlType>(number));
    if (traits == nullptr) continue;
    GgufTensorInfo info;
    info.name = "t";
    info.type = traits->type;
    info.shape = Shape({1, traits->block_elems});
    auto writer = *GgufWriter::Create(path, {}, {info});
    const std::vector<uint8_t> block(traits->block_bytes, 0x55);
    QEFF_CHECK(writer->Write(0, 0, block).ok() && writer->Commit().ok());
    seeds.Add(absl::StrCat("type-", number), ReadTestFile(path));
  }
}

void DevicePackages(const Seeds& seeds) {
  TransformerSpec gpt = TinySpec();
  gpt.norm = NormKind::kLayerNorm;
  gpt.norm_bias = gpt.qkv_bias = gpt.attention_output_bias = true;
  gpt.ffn_bias = gpt.tied_lm_head = true;
  gpt.gated_ffn = false;
  gpt.position = PositionKind::kLearned;
  gpt.max_positions = 8;
  TransformerSpec qwen = TinySpec();
  qwen.qk_norm = qwen.qkv_bias = true;
  const TokenizerTables tables = FullTables();
  seeds.Add("tokenizer", PackageBytes(*RandomModel(TinySpec(), 1), &tables));
  seeds.Add("gpt", PackageBytes(*RandomModel(gpt, 1, DType::kF16), nullptr));
  seeds.Add("qwen", PackageBytes(*RandomModel(qwen, 1, DType::kBF16), nullptr));
  const auto pool = *CreateThreadPool(1);
  for (const auto& [scheme, size] :
       std::vector<std::pair<const char*, int>>{{"int2_g32", 32},
                                                {"int3_g32", 32},
                                                {"int4_g32", 32},
                                                {"int8", 16}}) {
    QuantizeOptions options;
    options.scheme = *ParseQuantScheme(scheme);
    const auto model =
        LoadFolder(QuantizedFolder(SmallModel("llama", size), options));
    seeds.Add(scheme,
              PackageBytes(**CompileInMemory(*model, {}, pool.get()), nullptr));
  }
  const auto bf16 =
      *Transformer::Load(OpenTestModel(SmallModel("llama", 16), DType::kBF16));
  seeds.Add("bf16",
            PackageBytes(**CompileInMemory(*bf16, {}, pool.get()), nullptr));
  // Three weights of four are zero.
  TestModel sparse = SmallModel("llama", 32);
  for (TestTensor& tensor : sparse.tensors) {
    if (tensor.shape.rank() != 2) continue;
    for (size_t i = 0; i < tensor.values.size(); ++i) {
      if (i % 4 != 1) tensor.values[i] = 0;
    }
  }
  QuantizeOptions options;
  options.scheme = *ParseQuantScheme("int8");
  CompileOptions smaller;
  smaller.sparse = SparseRule::kSmaller;
  const auto sparse_model = LoadFolder(QuantizedFolder(sparse, options));
  seeds.Add("sparse",
            PackageBytes(**CompileInMemory(*sparse_model, smaller, pool.get()),
                         nullptr));
  for (const SeedFile& seed : EditedPackages())
    seeds.Add(seed.name, seed.bytes);
  seeds.Add("int8-cache", PackageBytes(*RandomModel(TinySpec(), 1), nullptr,
                                       [](PackageHeader* header) {
                                         header->options.kv_cache = DType::kI8;
                                         header->options.activations =
                                             Activations::kFast;
                                       }));
}

void Recipes(const Seeds& seeds) {
  seeds.Add("all",
            "# a comment\nstep { prune { method: \"sparsegpt\" pattern: "
            "\"2:4\"\n  compensate: false } }\n"
            "step { distill { loss: \"kl:1,ce:0.5\" steps: 500 "
            "learning_rate: 3e-4 } }\nstep { quantize { scheme: \"int4_g32\" "
            "algorithm: \"gptq\" seed: 7 } }\nstep { evaluate {} }\n"
            "step { export { format: \"gguf\" } }\n"
            "step { compile { target: \"x86-64\" } }\n");
  seeds.Add("budget",
            "step { quantize { budget: \"3.5\" scale_rule: \"mse\" "
            "asymmetric: true lm_head: \"int8\" ignore: 'down' } }\n"
            "step { evaluate { context_length: 64 stride: 32 } }");
  seeds.Add("structured",
            "step { prune { ffn_size: 16 heads: 2 layers: 1 } }\n"
            "step { distill { student_init: \"x\" schedule: \"cosine\" } }\n"
            "step: < export: < format: 'onnx' continuous_batching: true > >");
}

void TokenShards(const Seeds& seeds) {
  const std::string path = MakeTestFolder() + "/tokens";
  for (const int64_t vocab_size : {20, 70000}) {
    auto writer = *TokenShardWriter::Create(path, vocab_size);
    for (const int64_t length : {13, 1, 5}) {
      QEFF_CHECK(writer->Append(TestTokens(length)).ok());
    }
    QEFF_CHECK(writer->Commit().ok());
    seeds.Add(absl::StrCat("vocabulary-", vocab_size), ReadTestFile(path));
  }
}

void TrainStates(const Seeds& seeds) {
  const std::string folder = MakeTestFolder();
  std::vector<float> weight = {1, 2, 3, 4}, moment = {5, 6};
  auto files = *TrainFiles::Open(folder, TrainStateDescription(), 2);
  QEFF_CHECK(files
                 ->Save({{"step", 1}, {"loss", 0.5}},
                        {{"weight", absl::MakeSpan(weight)},
                         {"moment", absl::MakeSpan(moment)}})
                 .ok());
  seeds.Add("saved",
            absl::StrCat(ReadTestFile(folder + "/journal"),
                         absl::string_view("\0", 1),
                         ReadTestFile(folder + "/state-00000001.safetensors")));
}

void Tokenizers(const std::string& folder) {
  const Seeds json(folder, "tokenizer_json"), model(folder, "tokenizer_model"),
      section(folder, "tokenizer_section"), text(folder, "tokenizer_encode");
  MemoryFile file;
  for (const SeedFile& seed : TokenizerJsonSeeds()) {
    json.Add(seed.name, seed.bytes);
  }
  for (const SeedFile& seed : EditedTokenizerJsons()) {
    json.Add(seed.name, seed.bytes);
  }
  json.Add("config", absl::StrCat(TokenizerJsonSeeds()[3].bytes,
                                  absl::string_view("\0", 1),
                                  R"({"bos_token":"[CLS]","eos_token":)"
                                  R"({"content":"[SEP]"}})"));
  for (const SeedFile& seed : TokenizerModelSeeds()) {
    model.Add(seed.name, seed.bytes);
  }
  section.Add("full", EncodeTokenizerTables(FullTables()));
  section.Add("bytes", EncodeTokenizerTables(ByteTables()));
  for (size_t i = 0; i < 14; ++i) {
    text.Add(absl::StrCat(i),
             absl::StrCat(std::string(1, static_cast<char>(i)),
                          "The cat's 42 kittens, [CLS] <|end|> don't\n\n  "
                          "a\u0301 \u2581\uff21\U0001f600 \u4e2d\u6587 "
                          "\xFF\xC3 ab abab <u> </s><unk> A  b"));
  }
}

void MakeSeeds(const std::string& folder) {
  Safetensors(Seeds(folder, "safetensors"));
  CheckpointIndex(Seeds(folder, "checkpoint_index"));
  Config(Seeds(folder, "config"));
  Tokenizers(folder);
  Gguf(Seeds(folder, "gguf"));
  DevicePackages(Seeds(folder, "device_package"));
  Recipes(Seeds(folder, "recipe"));
  TokenShards(Seeds(folder, "token_shard"));
  const Seeds caches(folder, "teacher_cache");
  for (const SeedFile& seed : TeacherCacheSeeds()) {
    caches.Add(seed.name, seed.bytes);
  }
  TrainStates(Seeds(folder, "train_state"));
}

}  // namespace
}  // namespace qeff

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_seeds FOLDER\n");
    return 2;
  }
  qeff::MakeSeeds(argv[1]);
  return 0;
}
