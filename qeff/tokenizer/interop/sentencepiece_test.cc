// SPDX-License-Identifier: Apache-2.0
//
// Ids against libsentencepiece: BPE and unigram models that are trained here,
// with and without byte fallback, normalization and user-defined pieces.

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/tokenizer/train_tokenizer.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

const char* const kWords[] = {
    "the",     "little", "girl",    "and",    "her",   "friend", "played",
    "in",      "garden", "where",   "a",      "big",   "red",    "ball",
    "was",     "lost",   "found",   "again",  "happy", "sad",    "said",
    "Hello,",  "world!", "naïve",   "Straße", "мир",   "привет", "日本語",
    "東京",    "한국어", "12345",   "3.14",   "x+y=z", "don't",  "it's",
    "running", "jumped", "quickly", "houses", "tree",  "trees",  "sunny"};

std::string RandomSentence(Random* random, int words) {
  std::string text;
  for (int i = 0; i < words; ++i) {
    absl::StrAppend(&text, i == 0 ? "" : " ",
                    kWords[random->NextBelow(std::size(kWords))]);
  }
  return text;
}

// Text with what the training text lacks.
std::string OddText(Random* random) {
  const char* const kOdd[] = {"  ",           " ", "\t", "\n",    "é",
                              "e\xCC\x81",    "😀", "ﬁ",  "Ａ",    "①",
                              "\u3000",       "▁", "ß",  "<sep>", "<sep><sep>",
                              "\xEF\xB7\xBA", "q", "Z",  "ｶﾞ",    "\xFF",
                              "\xE3\x81",     "x"};
  std::string text;
  for (int i = 0; i < 12; ++i) {
    if (random->NextBelow(2) == 0) {
      absl::StrAppend(&text, RandomSentence(random, 1));
    } else {
      absl::StrAppend(&text, kOdd[random->NextBelow(std::size(kOdd))]);
    }
  }
  return text;
}

class SentencePieceTest : public testing::TestWithParam<const char*> {};

TEST_P(SentencePieceTest, IdsEqual) {
  const std::string folder = testing::TempDir();
  const std::string corpus = absl::StrCat(folder, "/corpus.txt");
  const std::string prefix = absl::StrCat(folder, "/model");
  Random random(1);
  {
    std::ofstream file(corpus);
    for (int i = 0; i < 2000; ++i) file << RandomSentence(&random, 8) << "\n";
  }
  std::vector<std::string> texts;
  for (int i = 0; i < 4000; ++i) {
    texts.push_back(i % 2 == 0 ? RandomSentence(&random, 12)
                               : OddText(&random));
  }
  const std::string records = absl::StrCat(folder, "/texts");
  std::ofstream(records, std::ios::binary)
      << absl::StrJoin(texts, "\n<record>\n");
  const std::string output = absl::StrCat(folder, "/ids");
  const std::string command = absl::StrCat(
      "qeff/tokenizer/interop/sentencepiece_oracle '--num_threads=1 --input=",
      corpus, " --model_prefix=", prefix, " ", GetParam(), "' ", prefix,
      ".model ", records, " ", output, " 2>", folder, "/log");
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  auto tokenizer = Tokenizer::FromSentencePiece(prefix + ".model");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::ifstream lines(output);
  for (const std::string& text : texts) {
    std::string expected;
    ASSERT_TRUE(std::getline(lines, expected));
    const auto ids = (*tokenizer)->Encode(text, false);
    ASSERT_TRUE(ids.ok());
    ASSERT_EQ(absl::StrJoin(*ids, ","), expected) << "\"" << text << "\"";
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, SentencePieceTest,
    testing::Values(
        "--model_type=bpe --vocab_size=450 --byte_fallback=true "
        "--normalization_rule_name=identity --split_digits=true",
        "--model_type=bpe --vocab_size=200 --user_defined_symbols=<sep>,ing",
        "--model_type=bpe --vocab_size=200 --remove_extra_whitespaces=false "
        "--add_dummy_prefix=false --character_coverage=0.98",
        "--model_type=bpe --vocab_size=200 --treat_whitespace_as_suffix=true",
        "--model_type=unigram --vocab_size=180 --hard_vocab_limit=false",
        "--model_type=unigram --vocab_size=170 --hard_vocab_limit=false "
        "--user_defined_symbols=<sep>",
        "--model_type=unigram --vocab_size=500 --byte_fallback=true "
        "--hard_vocab_limit=false --normalization_rule_name=nmt_nfkc_cf"));

// A model that was trained here: libsentencepiece reads it and gives its ids.
TEST(TrainedHereTest, IdsEqual) {
  const std::string folder = testing::TempDir();
  const std::string corpus = absl::StrCat(folder, "/own_corpus.txt");
  const std::string prefix = absl::StrCat(folder, "/unused");
  Random random(1);
  {
    std::ofstream file(corpus);
    for (int i = 0; i < 2000; ++i) file << RandomSentence(&random, 8) << "\n";
  }
  const std::string own = absl::StrCat(folder, "/own");
  ASSERT_TRUE(TrainTokenizer({corpus}, 450, own).ok());
  std::vector<std::string> texts;
  for (int i = 0; i < 4000; ++i) {
    texts.push_back(i % 2 == 0 ? RandomSentence(&random, 12)
                               : OddText(&random));
  }
  const std::string records = absl::StrCat(folder, "/own_texts");
  std::ofstream(records, std::ios::binary)
      << absl::StrJoin(texts, "\n<record>\n");
  const std::string output = absl::StrCat(folder, "/own_ids");
  const std::string command = absl::StrCat(
      "qeff/tokenizer/interop/sentencepiece_oracle '--num_threads=1 --input=",
      corpus, " --model_prefix=", prefix,
      " --model_type=bpe --vocab_size=150' ", own, "/tokenizer.model ", records,
      " ", output, " 2>", folder, "/log");
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  const auto tokenizer = Tokenizer::FromFolder(own);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::ifstream lines(output);
  for (const std::string& text : texts) {
    std::string expected;
    ASSERT_TRUE(std::getline(lines, expected));
    const auto ids = (*tokenizer)->Encode(text, false);
    ASSERT_TRUE(ids.ok());
    ASSERT_EQ(absl::StrJoin(*ids, ","), expected) << "\"" << text << "\"";
  }
}

}  // namespace
}  // namespace qeff
