// SPDX-License-Identifier: Apache-2.0
//
// The scanners against ICU's regular expressions.

#include "qeff/tokenizer/pattern_scanner.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/tokenizer/unicode_tables_icu.h"
#include "qeff/tokenizer/utf8.h"
#include "qeff/util/random.h"
#include "unicode/regex.h"
#include "unicode/unistr.h"

namespace qeff {
namespace {

using testing::ValuesIn;

const UnicodeTables& Tables() {
  static const auto* const tables =
      new UnicodeTables(BuildUnicodeTables().value());
  return *tables;
}

constexpr const char* kRegexes[] = {
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
};

class PatternScannerTest : public testing::TestWithParam<const char*> {
 protected:
  static std::vector<std::string> Matches(const std::string& text) {
    const auto pattern = FindSplitPattern(GetParam());
    EXPECT_TRUE(pattern.has_value());
    const PatternScanner scanner(&Tables(), *pattern);
    std::vector<std::string> matches;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = scanner.MatchEnd(text, begin);
      EXPECT_GT(end, begin);
      EXPECT_LE(end, text.size());
      matches.push_back(text.substr(begin, end - begin));
      begin = end;
    }
    return matches;
  }

  void SetUp() override {
    UErrorCode error = U_ZERO_ERROR;
    matcher_ = std::make_unique<icu::RegexMatcher>(
        icu::UnicodeString::fromUTF8(GetParam()), 0, error);
    ASSERT_TRUE(U_SUCCESS(error));
  }

  std::vector<std::string> MatchesByIcu(const std::string& text) {
    UErrorCode error = U_ZERO_ERROR;
    const icu::UnicodeString subject = icu::UnicodeString::fromUTF8(text);
    matcher_->reset(subject);
    std::vector<std::string> matches;
    while (matcher_->find(error)) {
      matches.emplace_back();
      matcher_->group(error).toUTF8String(matches.back());
    }
    EXPECT_TRUE(U_SUCCESS(error));
    return matches;
  }

 private:
  // Compiling these takes milliseconds.
  std::unique_ptr<icu::RegexMatcher> matcher_;
};

TEST_P(PatternScannerTest, RandomText) {
  const char* const kPieces[] = {
      "a",      "Z",   "é",      "ſ",  "K",      "数",     "1",      "٣",
      "½",      " ",   "  ",     "\n", "\r",     "\t",     "\u00A0", "\u2028",
      "\u3000", "'",   "'s",     "'S", "'ſ",     "'t",     "'RE",    "'ve",
      "'m",     "'lL", "'d",     "'x", ".",      "!?",     "\u0301", "😀",
      "-",      "_",   "\u200D", "ab", "123456", "\u0085", "\uFEFF"};
  Random random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (uint64_t j = random.NextBelow(10); j > 0; --j) {
      text += kPieces[random.NextBelow(std::size(kPieces))];
    }
    ASSERT_EQ(Matches(text), MatchesByIcu(text)) << "\"" << text << "\"";
  }
}

TEST_P(PatternScannerTest, EveryCodePoint) {
  for (uint32_t block = 0; block <= 0x10FFFF; block += 64) {
    std::string text;
    for (uint32_t c = block; c < block + 64; ++c) {
      if (c >= 0xD800 && c < 0xE000) continue;
      text += "a";
      AppendUtf8(c, &text);
      text += "1";
      AppendUtf8(c, &text);
      text += " .";
    }
    ASSERT_EQ(Matches(text), MatchesByIcu(text)) << block;
  }
}

TEST_P(PatternScannerTest, InvalidBytesAreNeitherLettersNorSpaces) {
  EXPECT_EQ(Matches("a\xFF\x80 b").back(), " b");
}

INSTANTIATE_TEST_SUITE_P(All, PatternScannerTest, ValuesIn(kRegexes));

TEST(FindSplitPatternTest, UnknownIsNone) {
  EXPECT_FALSE(FindSplitPattern("(a+)+$").has_value());
  EXPECT_FALSE(FindSplitPattern("").has_value());
}

}  // namespace
}  // namespace qeff
