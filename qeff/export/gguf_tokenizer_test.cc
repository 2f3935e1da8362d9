// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/gguf_tokenizer.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::StatusCode kUnimplemented = absl::StatusCode::kUnimplemented;

std::vector<std::string> Strings(const GgufMetadata& metadata,
                                 const std::string& key) {
  std::vector<std::string> strings;
  const auto* array = FindGgufArray<GgufStrings>(metadata, key);
  if (array == nullptr) return strings;
  for (size_t i = 0; i < array->size(); ++i) {
    strings.emplace_back((*array)[i]);
  }
  return strings;
}

TokenizerTables Vocabulary(const std::vector<std::string>& tokens) {
  TokenizerTables tables;
  for (const std::string& token : tokens) {
    tables.tokens.push_back(token);
    tables.kinds.push_back(TokenKind::kNormal);
  }
  return tables;
}

PreTokenizerOp Split(SplitPattern pattern) {
  PreTokenizerOp op;
  op.kind = PreTokenizerOp::Kind::kPattern;
  op.pattern = pattern;
  return op;
}

// A byte-level tokenizer of <s> and a few letters.
TokenizerTables ByteLevel() {
  TokenizerTables tables = Vocabulary({"<s>", "a", "b", "ab", "x"});
  tables.model = ModelKind::kBpe;
  tables.byte_level = true;
  tables.merges = {{1, 2, 3}};
  tables.pre_tokenizer = {Split(SplitPattern::kLlama3)};
  tables.kinds[4] = TokenKind::kAdded;
  AddedToken start;
  start.content = "<s>";
  start.special = true;
  AddedToken added;
  added.content = "x";
  added.id = 4;
  tables.added = {start, added};
  tables.prefix = {0};
  tables.bos_id = 0;
  return tables;
}

// BPE with byte fallback, as tokenizer.json has it.
TokenizerTables ByteFallback() {
  TokenizerTables tables =
      Vocabulary({"<unk>", "<0x0A>", "a", "b", "c", "ab", "abc"});
  tables.model = ModelKind::kBpe;
  tables.byte_fallback = true;
  tables.unk_id = 0;
  tables.merges = {{2, 3, 5}, {5, 4, 6}};
  NormalizerOp prepend;
  prepend.kind = NormalizerOp::Kind::kPrepend;
  tables.normalizer = {prepend};
  return tables;
}

TEST(GgufTokenizerTest, ByteLevel) {
  const auto metadata = GgufTokenizerMetadata(ByteLevel(), 6);
  ASSERT_TRUE(metadata.ok()) << metadata.status();
  const auto text = [&](const char* key) {
    return *FindGgufValue<std::string>(*metadata, key);
  };
  EXPECT_EQ(text("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(text("tokenizer.ggml.pre"), "llama-bpe");
  EXPECT_THAT(Strings(*metadata, "tokenizer.ggml.tokens"),
              ElementsAre("<s>", "a", "b", "ab", "x", "[PAD5]"));
  EXPECT_THAT(Strings(*metadata, "tokenizer.ggml.merges"), ElementsAre("a b"));
  EXPECT_THAT(*FindGgufArray<std::vector<int32_t>>(*metadata,
                                                   "tokenizer.ggml.token_type"),
              ElementsAre(3, 1, 1, 1, 4, 5));
  EXPECT_EQ(*FindGgufValue<uint32_t>(*metadata, "tokenizer.ggml.bos_token_id"),
            0u);
  EXPECT_EQ(FindGgufValue<uint32_t>(*metadata, "tokenizer.ggml.eos_token_id"),
            nullptr);
  EXPECT_TRUE(*FindGgufValue<bool>(*metadata, "tokenizer.ggml.add_bos_token"));
  EXPECT_FALSE(*FindGgufValue<bool>(*metadata, "tokenizer.ggml.add_eos_token"));
}

TEST(GgufTokenizerTest, NamesOfPreTokenizers) {
  TokenizerTables tables = ByteLevel();
  const std::pair<SplitPattern, const char*> kNames[] = {
      {SplitPattern::kGpt2, "gpt-2"},
      {SplitPattern::kLlama3, "llama-bpe"},
      {SplitPattern::kQwen2, "qwen2"}};
  for (const auto& [pattern, name] : kNames) {
    tables.pre_tokenizer = {Split(pattern)};
    const auto metadata = GgufTokenizerMetadata(tables, 5);
    ASSERT_TRUE(metadata.ok()) << metadata.status();
    EXPECT_EQ(*FindGgufValue<std::string>(*metadata, "tokenizer.ggml.pre"),
              name);
  }
}

TEST(GgufTokenizerTest, ScoresAreRanksOfMerges) {
  const auto metadata = GgufTokenizerMetadata(ByteFallback(), 7);
  ASSERT_TRUE(metadata.ok()) << metadata.status();
  EXPECT_EQ(*FindGgufValue<std::string>(*metadata, "tokenizer.ggml.model"),
            "llama");
  EXPECT_THAT(
      *FindGgufArray<std::vector<float>>(*metadata, "tokenizer.ggml.scores"),
      ElementsAre(-1e9f, -1e9f, -1e9f, -1e9f, -1e9f, 0.0f, -1.0f));
  EXPECT_THAT(*FindGgufArray<std::vector<int32_t>>(*metadata,
                                                   "tokenizer.ggml.token_type"),
              ElementsAre(2, 6, 1, 1, 1, 1, 1));
  EXPECT_TRUE(
      *FindGgufValue<bool>(*metadata, "tokenizer.ggml.add_space_prefix"));
}

TEST(GgufTokenizerTest, SentencePieceKeepsItsScores) {
  TokenizerTables tables = Vocabulary({"<unk>", "</s>", "a"});
  tables.kinds = {TokenKind::kUnknown, TokenKind::kControl,
                  TokenKind::kUserDefined};
  tables.model = ModelKind::kSentencePieceBpe;
  tables.scores = {0.0f, 0.0f, -2.5f};
  tables.unk_id = 0;
  const auto metadata = GgufTokenizerMetadata(tables, 3);
  ASSERT_TRUE(metadata.ok()) << metadata.status();
  EXPECT_THAT(
      *FindGgufArray<std::vector<float>>(*metadata, "tokenizer.ggml.scores"),
      ElementsAre(0.0f, 0.0f, -2.5f));
  EXPECT_THAT(*FindGgufArray<std::vector<int32_t>>(*metadata,
                                                   "tokenizer.ggml.token_type"),
              ElementsAre(2, 3, 4));
  EXPECT_FALSE(
      *FindGgufValue<bool>(*metadata, "tokenizer.ggml.add_space_prefix"));
}

void ExpectRefused(const TokenizerTables& tables, absl::StatusCode code,
                   const char* part) {
  const absl::Status status = GgufTokenizerMetadata(tables, 7).status();
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(part));
}

TEST(GgufTokenizerTest, RefusesWhatGgufCannotSay) {
  TokenizerTables tables = ByteFallback();
  tables.merges = {{2, 3, 5}, {5, 4, 6}, {3, 2, 5}};
  ExpectRefused(tables, kUnimplemented, "the order of merges");
  tables = ByteFallback();
  tables.byte_fallback = false;
  ExpectRefused(tables, kUnimplemented, "a model other than");
  tables.model = ModelKind::kWordPiece;
  ExpectRefused(tables, kUnimplemented, "a model other than");
  tables.model = ModelKind::kUnigram;
  ExpectRefused(tables, kUnimplemented, "a model other than");
  tables = ByteLevel();
  tables.pre_tokenizer.push_back(Split(SplitPattern::kGpt2));
  ExpectRefused(tables, kUnimplemented, "a pre-tokenizer other than");
  tables.pre_tokenizer.clear();
  ExpectRefused(tables, kUnimplemented, "a pre-tokenizer other than");
  tables = ByteLevel();
  tables.normalizer.resize(1);
  tables.normalizer[0].kind = NormalizerOp::Kind::kLowercase;
  ExpectRefused(tables, kUnimplemented, "a normalizer other than NFC");
  tables = Vocabulary(std::vector<std::string>(8, "t"));
  ExpectRefused(
      tables, absl::StatusCode::kInvalidArgument,
      "expected at most 7 tokens, the rows of the embedding, found 8");
}

}  // namespace
}  // namespace qeff
