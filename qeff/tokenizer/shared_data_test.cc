// SPDX-License-Identifier: Apache-2.0
//
// Real tokenizers against known ids. The folder is given in the environment
// variable QEFF_SHARED_DATA; without it every test is skipped.

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "qeff/tokenizer/tokenizer.h"

namespace qeff {
namespace {

std::string SharedData() {
  const char* folder = std::getenv("QEFF_SHARED_DATA");
  return folder == nullptr ? "" : folder;
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

class SharedDataTest : public testing::Test {
 protected:
  void SetUp() override {
    if (SharedData().empty()) GTEST_SKIP() << "QEFF_SHARED_DATA is not set";
  }

  static std::unique_ptr<Tokenizer> Load(const std::string& name) {
    auto tokenizer =
        Tokenizer::FromFolder(absl::StrCat(SharedData(), "/", name));
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
  }
};

// Without the spaces that a SentencePiece normalizer removes: at the ends, and
// all but the first of several.
std::string WithoutExtraSpaces(const std::string& text) {
  return absl::StrJoin(absl::StrSplit(text, ' ', absl::SkipEmpty()), " ");
}

struct VectorCase {
  const char* vectors;
  const char* tokenizer;
  bool round_trip;
};

class VectorTest : public SharedDataTest,
                   public testing::WithParamInterface<VectorCase> {};

TEST_P(VectorTest, IdsEqual) {
  const auto tokenizer =
      Load(absl::StrCat("tokenizers/", GetParam().tokenizer));
  ASSERT_NE(tokenizer, nullptr);
  const std::string base =
      absl::StrCat(SharedData(), "/vectors/", GetParam().vectors);
  const std::string input = ReadAll(base + ".inp");
  const std::string output = ReadAll(base + ".out");
  const std::vector<std::string> texts =
      absl::StrSplit(input, "\n__ggml_vocab_test__\n");
  const std::vector<std::string> lines = absl::StrSplit(output, '\n');
  ASSERT_GE(texts.size(), 46u);
  ASSERT_GE(lines.size(), 46u);
  for (size_t i = 0; i < 46; ++i) {
    std::vector<int32_t> expected;
    for (const auto word : absl::StrSplit(lines[i], ' ', absl::SkipEmpty())) {
      int32_t id;
      ASSERT_TRUE(absl::SimpleAtoi(word, &id));
      expected.push_back(id);
    }
    const auto ids = tokenizer->Encode(texts[i], false);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, expected) << "vector " << i << ": " << texts[i];
    if (!GetParam().round_trip) continue;
    const auto text = tokenizer->Decode(*ids, false);
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_EQ(*text, texts[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, VectorTest,
    testing::Values(VectorCase{"gpt-2", "gpt2", true},
                    VectorCase{"llama-bpe", "llama3", true},
                    VectorCase{"qwen2", "qwen3", true},
                    VectorCase{"bert-bge", "bert", false}),
    [](const auto& info) { return std::string(info.param.tokenizer); });

TEST_F(SharedDataTest, SentencePieceEqualsTokenizerJson) {
  const std::string folder = absl::StrCat(SharedData(), "/stories260k");
  auto json = Tokenizer::FromFolder(folder);
  ASSERT_TRUE(json.ok()) << json.status();
  auto model = Tokenizer::FromSentencePiece(folder + "/tokenizer.model");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*json)->vocab_size(), (*model)->vocab_size());
  EXPECT_EQ((*json)->bos_id(), (*model)->bos_id());
  EXPECT_EQ((*json)->eos_id(), (*model)->eos_id());
  std::vector<std::string> texts = absl::StrSplit(
      ReadAll(absl::StrCat(SharedData(), "/vectors/llama-spm.inp")),
      "\n__ggml_vocab_test__\n");
  texts.push_back(
      ReadAll(absl::StrCat(SharedData(), "/text/tinystories_valid.txt")));
  texts.push_back("<s>a</s>b c<unk><s>");
  texts.push_back("");
  for (const std::string& original : texts) {
    // tokenizer.model asks for this, tokenizer.json cannot express it.
    const std::string text = WithoutExtraSpaces(original);
    const auto a = (*json)->Encode(text, true);
    const auto b = (*model)->Encode(text, true);
    ASSERT_TRUE(a.ok() && b.ok());
    EXPECT_EQ(*a, *b) << text.substr(0, 200);
    const auto decoded_a = (*json)->Decode(*a, true);
    const auto decoded_b = (*model)->Decode(*b, true);
    ASSERT_TRUE(decoded_a.ok() && decoded_b.ok());
    EXPECT_EQ(*decoded_a, *decoded_b);
  }
  const std::string& stories = texts[texts.size() - 3];
  const auto ids = (*json)->Encode(stories, true);
  ASSERT_TRUE(ids.ok());
  const auto decoded = (*json)->Decode(*ids, true);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(*decoded, stories);
}

TEST_F(SharedDataTest, Stories) {
  const auto tokenizer = Load("stories260k");
  ASSERT_NE(tokenizer, nullptr);
  const auto ids = tokenizer->Encode("Once upon a time", true);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(*ids, (std::vector<int32_t>{1, 403, 407, 261, 378}));
}

TEST_F(SharedDataTest, LowerCaseStoriesRoundTrip) {
  const auto tokenizer = Load("tinystories6m");
  ASSERT_NE(tokenizer, nullptr);
  const std::string text =
      ReadAll(absl::StrCat(SharedData(), "/text/tinystories_lower_valid.txt"));
  const auto ids = tokenizer->Encode(text, true);
  ASSERT_TRUE(ids.ok());
  const auto decoded = tokenizer->Decode(*ids, true);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(*decoded, WithoutExtraSpaces(text));
}

TEST_F(SharedDataTest, BosAndEos) {
  const auto llama = Load("tokenizers/llama3");
  ASSERT_NE(llama, nullptr);
  EXPECT_EQ(llama->bos_id(), absl::optional<int32_t>(128000));
  EXPECT_EQ(llama->eos_id(), absl::optional<int32_t>(128001));
  EXPECT_EQ(llama->vocab_size(), 128256);
  EXPECT_TRUE(llama->is_special(128000));
  EXPECT_FALSE(llama->is_special(1000));
  const auto qwen = Load("tokenizers/qwen3");
  ASSERT_NE(qwen, nullptr);
  EXPECT_EQ(qwen->bos_id(), absl::nullopt);
  EXPECT_EQ(qwen->eos_id(), absl::optional<int32_t>(151645));
}

}  // namespace
}  // namespace qeff
