// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/train_bpe.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

WordCounts Words(absl::string_view text) {
  WordCounts words;
  AddWords(text, &words);
  return words;
}

TEST(AddWordsTest, SplitsAtSpacesLinesAndKinds) {
  const WordCounts words = Words("ab  cd12, x!\nab\r\n\xFF z");
  EXPECT_EQ(words.at("▁ab"), 2);
  // Two spaces: one is a word of its own.
  EXPECT_EQ(words.at("▁"), 2);
  EXPECT_EQ(words.at("▁cd"), 1);
  EXPECT_EQ(words.at("12"), 1);
  EXPECT_EQ(words.at(","), 1);
  EXPECT_EQ(words.at("▁x"), 1);
  EXPECT_EQ(words.at("!"), 1);
  EXPECT_EQ(words.at("▁z"), 1);
  EXPECT_EQ(words.size(), 8u);
  EXPECT_EQ(Words("é e\xCC\x81 мир").size(), 3u);
}

// The example of the paper: low 5, lower 2, newest 6, widest 3.
TEST(TrainBpeTest, MergesAsInThePaper) {
  const WordCounts words = {
      {"low", 5}, {"lower", 2}, {"newest", 6}, {"widest", 3}};
  const auto pieces = TrainBpe(words, 10 + 4);
  ASSERT_TRUE(pieces.ok()) << pieces.status();
  // "es" and "st" are both 9 times there; the first by bytes is merged first.
  EXPECT_THAT(pieces->merges, ElementsAre("es", "est", "lo", "low"));
  EXPECT_EQ(pieces->characters.size(), 10u);
  EXPECT_EQ(pieces->characters[0], "e");  // 2 + 6 * 2 + 3
}

TEST(TrainBpeTest, CountsAnewWhatAMergeChanges) {
  // Runs of the same are counted once for each neighbour: "aa" 12 times. After
  // "bc" is merged, "ab" is gone.
  const WordCounts words = {{"abc", 10}, {"bc", 1}, {"aaaa", 4}};
  const auto pieces = TrainBpe(words, 3 + 4);
  ASSERT_TRUE(pieces.ok());
  EXPECT_THAT(pieces->merges, ElementsAre("aa", "bc", "abc", "aaaa"));
}

TEST(TrainBpeTest, SaysHowManyPiecesThereCouldBe) {
  const auto few = TrainBpe({{"abc", 1}}, 10);
  EXPECT_EQ(few.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(few.status().message()),
              HasSubstr("room for 5 pieces, expected the 10"));
  EXPECT_THAT(std::string(TrainBpe({{"abc", 1}}, 2).status().message()),
              HasSubstr("3 different characters"));
  EXPECT_FALSE(TrainBpe({}, 10).ok());
}

TEST(TrainBpeTest, LeavesRareCharactersToBytes) {
  WordCounts words = {{"aé", 1}};
  words["ab"] = 5000;
  const auto pieces = TrainBpe(words, 3);
  ASSERT_TRUE(pieces.ok()) << pieces.status();
  EXPECT_THAT(pieces->characters, ElementsAre("a", "b"));
  EXPECT_THAT(pieces->merges, ElementsAre("ab"));
}

}  // namespace
}  // namespace qeff
