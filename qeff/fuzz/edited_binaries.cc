// SPDX-License-Identifier: Apache-2.0

#include "qeff/fuzz/edited_binaries.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "qeff/device/package/package_header.h"
#include "qeff/device/package/package_testutil.h"
#include "qeff/device/reference_model.h"
#include "qeff/distill/teacher_cache.h"
#include "qeff/fuzz/fuzz_input.h"
#include "qeff/io/gguf_file.h"
#include "qeff/io/gguf_writer.h"
#include "qeff/io/io_testutil.h"
#include "qeff/train/sequence_sampler.h"
#include "qeff/train/token_shard.h"
#include "qeff/train/token_shard_writer.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// `gguf` with another value of a key, or with one key more.
std::string WithValue(const std::string& gguf, const std::string& key,
                      const GgufValue& value) {
  MemoryFile in;
  in.Write(gguf);
  const auto file = *GgufFile::Open(in.path());
  GgufMetadata metadata = file->header().metadata;
  bool found = false;
  for (auto& entry : metadata) {
    if (entry.first != key) continue;
    entry.second = value;
    found = true;
  }
  if (!found) metadata.emplace_back(key, value);
  const std::string path = MakeTestFolder() + "/m.gguf";
  const std::vector<GgufTensorInfo>& tensors = file->header().tensors;
  const auto writer = *GgufWriter::Create(path, metadata, tensors);
  for (size_t i = 0; i < tensors.size(); ++i) {
    QEFF_CHECK(writer->Write(i, 0, file->Bytes(tensors[i])).ok());
  }
  QEFF_CHECK(writer->Commit().ok());
  return ReadTestFile(path);
}

size_t TokensOf(const std::string& gguf) {
  MemoryFile in;
  in.Write(gguf);
  const auto file = *GgufFile::Open(in.path());
  return FindGgufArray<GgufStrings>(file->header().metadata,
                                    "tokenizer.ggml.tokens")
      ->size();
}

// A cache for sequences of `length` of that many tokens.
std::string TeacherCache(int64_t tokens, int64_t length,
                         const std::string& teacher) {
  const std::string folder = MakeTestFolder();
  const std::string path = folder + "/tokens", cache = folder + "/cache";
  auto writer = *TokenShardWriter::Create(path, 20);
  QEFF_CHECK(writer->Append(TestTokens(tokens)).ok() && writer->Commit().ok());
  const auto pool = *CreateThreadPool(1);
  const auto live = *MakeLiveTeacher(
      *Transformer::Load(OpenTestModel(MakeTestModel("llama"))), {},
      uint64_t{1} << 30, pool.get());
  const auto sampler = *SequenceSampler::Create(*TokenShard::Open(path), length,
                                                1, /*shuffle=*/false);
  TeacherCacheInfo info;
  info.vocab_size = 20;
  info.top_k = 3;
  info.sequence_length = length;
  info.sequences = sampler->num_sequences();
  info.text = "0";
  info.teacher = teacher;
  QEFF_CHECK(
      WriteTeacherCache(info, live.get(), sampler.get(), cache, {}, pool.get())
          .ok());
  return absl::StrCat(ReadTestFile(cache + "/config.json"),
                      absl::string_view("\0", 1),
                      ReadTestFile(cache + "/model.safetensors"));
}

GgufArray Strings(absl::string_view text) {
  GgufStrings strings;
  strings.push_back(text);
  return strings;
}

}  // namespace

std::vector<SeedFile> EditedGgufs(const std::string& llama,
                                  const std::string& gpt2) {
  std::vector<SeedFile> seeds;
  const auto add = [&](const std::string& gguf, const char* name,
                       const char* key, const GgufValue& value) {
    seeds.push_back(
        {absl::StrCat("edited-", name), WithValue(gguf, key, value)});
  };
  const std::vector<float> undefined(TokensOf(llama), std::nanf(""));
  add(llama, "id", "tokenizer.ggml.bos_token_id", uint32_t{999});
  add(llama, "types", "tokenizer.ggml.token_type",
      GgufArray(std::vector<int32_t>{1}));
  add(llama, "map", "tokenizer.ggml.precompiled_charsmap",
      GgufArray(std::vector<uint8_t>(4)));
  add(llama, "score", "tokenizer.ggml.scores",
      GgufArray(std::vector<float>{1}));
  add(llama, "scores", "tokenizer.ggml.scores", GgufArray(undefined));
  add(llama, "experts", "llama.expert_count", uint32_t{2});
  add(llama, "rope", "llama.rope.scaling.type", std::string("yarn"));
  add(gpt2, "merge", "tokenizer.ggml.merges", Strings("a b"));
  add(gpt2, "merges", "tokenizer.ggml.merges", Strings("a \xFF"));
  add(gpt2, "added", "tokenizer.ggml.token_type",
      GgufArray(std::vector<int32_t>{1, 1, 3}));
  return seeds;
}

std::vector<SeedFile> EditedPackages() {
  std::vector<SeedFile> seeds;
  const auto model = RandomModel(TinySpec(), 1);
  const auto add = [&](const char* name,
                       const std::function<void(PackageHeader*)>& edit) {
    seeds.push_back(
        {absl::StrCat("edited-", name), PackageBytes(*model, nullptr, edit)});
  };
  add("layers", [](PackageHeader* h) { h->spec.num_layers = 1000; });
  add("target", [](PackageHeader* h) {
    h->target = HostPackageTarget() == PackageTarget::kAArch64
                    ? PackageTarget::kX86_64
                    : PackageTarget::kAArch64;
  });
  // As many bytes, in a matrix.
  add("vector", [](PackageHeader* h) {
    for (PackageTensor& tensor : h->tensors) {
      if (tensor.rows != 1) continue;
      tensor.rows = 2;
      tensor.cols /= 2;
      break;
    }
  });
  add("cache", [](PackageHeader* h) { h->options.kv_cache = DType::kBF16; });
  add("bytes", [](PackageHeader* h) { ++h->tensors[0].data.bytes; });
  // More than the tensors take.
  std::string longer = PackageBytes(*model, nullptr) + std::string(64, '\0');
  const uint64_t file_bytes = longer.size();
  std::memcpy(&longer[16], &file_bytes, sizeof(file_bytes));
  FixHeaderChecksum(&longer);
  seeds.push_back({"edited-size", std::move(longer)});
  return seeds;
}

std::vector<SeedFile> TeacherCacheSeeds() {
  const std::string small = TeacherCache(17, 8, "t");
  return {
      {"small", small},
      {"teacher", TeacherCache(17, 8, "u")},
      {"one-sequence", TeacherCache(9, 8, "t")},
      {"short-sequences", TeacherCache(9, 4, "t")},
      {"dtype", absl::StrReplaceAll(small, {{"\"F32\"", "\"I32\""}})},
  };
}

}  // namespace qeff
