// SPDX-License-Identifier: Apache-2.0
//
// Real tokenizers go out and back in import_shared_data_test.

#include "qeff/export/gguf_tokenizer_files.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/tokenizer/tokenizer.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

GgufArray Strings(const std::vector<std::string>& texts) {
  GgufStrings strings;
  for (const std::string& text : texts) strings.push_back(text);
  return strings;
}

std::string Key(const std::string& name) { return "tokenizer.ggml." + name; }

// "ab" from bytes and merges; two padding tokens.
GgufMetadata ByteLevel() {
  GgufMetadata metadata;
  metadata.emplace_back(Key("model"), std::string("gpt2"));
  metadata.emplace_back(Key("pre"), std::string("gpt-2"));
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  for (char c = '!'; c <= '~'; ++c) {
    tokens.emplace_back(1, c);
    types.push_back(1);
  }
  // The rest of the alphabet of bytes, which begins at U+00A1 and U+0100.
  for (int c = 0xA1; c <= 0x143; ++c) {
    if (c == 0xAD) continue;
    tokens.push_back(
        {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 63))});
    types.push_back(1);
  }
  for (const char* token : {"ab", "<s>", "<user>", "[PAD1]", "[PAD2]"}) {
    tokens.push_back(token);
  }
  for (const int type : {1, 3, 4, 5, 5}) types.push_back(type);
  const uint32_t bos = static_cast<uint32_t>(tokens.size()) - 4;
  metadata.emplace_back(Key("tokens"), Strings(tokens));
  metadata.emplace_back(Key("token_type"), GgufArray(types));
  metadata.emplace_back(Key("merges"), Strings({"a b"}));
  metadata.emplace_back(Key("bos_token_id"), bos);
  metadata.emplace_back(Key("add_bos_token"), true);
  return metadata;
}

GgufMetadata SentencePiece() {
  GgufMetadata metadata;
  metadata.emplace_back(Key("model"), std::string("llama"));
  metadata.emplace_back(Key("tokens"), Strings({"<unk>", "<s>", "</s>",
                                                "\xE2\x96\x81", "a", "b", "ab",
                                                "\xE2\x96\x81"
                                                "ab"}));
  metadata.emplace_back(Key("token_type"), GgufArray(std::vector<int32_t>{
                                               2, 3, 3, 1, 1, 1, 1, 1}));
  metadata.emplace_back(Key("scores"), GgufArray(std::vector<float>{
                                           0, 0, 0, -9, -9, -9, -1, -2}));
  return metadata;
}

void Set(const std::string& name, GgufValue value, GgufMetadata* metadata) {
  for (auto& entry : *metadata) {
    if (entry.first == Key(name)) {
      entry.second = std::move(value);
      return;
    }
  }
  metadata->emplace_back(Key(name), std::move(value));
}

std::unique_ptr<Tokenizer> Load(const GgufMetadata& metadata) {
  const auto files = GgufTokenizerFiles(metadata, "f.gguf");
  EXPECT_TRUE(files.ok()) << files.status();
  const std::string folder = MakeTestFolder();
  for (const auto& [name, content] : *files) {
    WriteTestFile(folder + "/" + name, content);
  }
  auto tokenizer = Tokenizer::FromFolder(folder);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

void ExpectError(const GgufMetadata& metadata, absl::StatusCode code,
                 const std::string& part) {
  const auto files = GgufTokenizerFiles(metadata, "dir/f.gguf");
  EXPECT_EQ(files.status().code(), code) << part;
  EXPECT_THAT(std::string(files.status().message()), HasSubstr(part));
  EXPECT_THAT(std::string(files.status().message()), HasSubstr("dir/f.gguf: "));
}

TEST(GgufTokenizerFilesTest, ByteLevel) {
  const GgufMetadata metadata = ByteLevel();
  const auto* tokens = FindGgufArray<GgufStrings>(metadata, Key("tokens"));
  const int32_t count = static_cast<int32_t>(tokens->size());
  const auto tokenizer = Load(metadata);
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->vocab_size(), count - 2);
  EXPECT_EQ(tokenizer->bos_id(), count - 4);
  EXPECT_THAT(*tokenizer->Encode("ab", true),
              ElementsAre(count - 4, count - 5));
  EXPECT_THAT(*tokenizer->Encode("b<user>", false),
              ElementsAre('b' - '!', count - 3));
  EXPECT_EQ(*tokenizer->Decode({count - 5, 'c' - '!'}, true), "abc");
}

TEST(GgufTokenizerFilesTest, SentencePiece) {
  const auto tokenizer = Load(SentencePiece());
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_THAT(*tokenizer->Encode("ab a", true), ElementsAre(1, 7, 3, 4));
  GgufMetadata metadata = SentencePiece();
  Set("add_bos_token", false, &metadata);
  Set("add_space_prefix", false, &metadata);
  EXPECT_THAT(*Load(metadata)->Encode("ab", true), ElementsAre(6));
}

TEST(GgufTokenizerFilesTest, WhatIsWrong) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const std::vector<int32_t> short_types = {2, 3};
  const std::vector<int32_t> bad_types = {2, 3, -77, 1, 1, 1, 1, 1};
  std::vector<float> nan_scores(8, 0.0f);
  nan_scores[3] = std::nanf("");
  const struct {
    const char* name;
    GgufValue value;
    const char* message;
  } cases[] = {
      {"model", uint32_t{1}, "tokenizer.ggml.model': expected a string"},
      {"tokens", uint32_t{1}, "tokenizer.ggml.tokens': expected an array"},
      {"tokens", GgufArray(GgufStrings()), "not empty"},
      {"token_type", GgufArray(short_types), "as many numbers as tokens, 8"},
      {"token_type", GgufArray(bad_types), "found -77 for token 2"},
      {"scores", GgufArray(nan_scores), "finite ones"},
      {"scores", GgufArray(std::vector<float>(3)), "an array of 8 floats"},
      {"bos_token_id", uint32_t{8}, "an id below 8, found 8"},
      {"eos_token_id", uint32_t{0xFFFFFFFF}, "an id below 8"},
      {"tokens", Strings({"", "b", "c", "d", "e", "f", "g", "h"}), "token 0"},
      {"tokens", Strings({"a", "\xFF", "c", "d", "e", "f", "g", "h"}),
       "token 1"},
  };
  for (const auto& c : cases) {
    GgufMetadata metadata = SentencePiece();
    Set(c.name, c.value, &metadata);
    ExpectError(metadata, invalid, c.message);
  }
  GgufMetadata metadata = ByteLevel();
  Set("merges", uint32_t{0}, &metadata);
  ExpectError(metadata, invalid, "merges': expected an array of strings");
  Set("merges", Strings({"a \xC3"}), &metadata);
  ExpectError(metadata, invalid, "merge 0");
}

TEST(GgufTokenizerFilesTest, WhatQeffLacks) {
  GgufMetadata metadata = ByteLevel();
  Set("pre", std::string("deepseek-llm"), &metadata);
  ExpectError(metadata, absl::StatusCode::kUnimplemented,
              "supported are gpt-2, mpt, llama-bpe and qwen2");
  Set("model", std::string("t5"), &metadata);
  ExpectError(metadata, absl::StatusCode::kUnimplemented,
              "supported are llama and gpt2");
}

}  // namespace
}  // namespace qeff
