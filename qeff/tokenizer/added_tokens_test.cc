// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/added_tokens.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/tokenizer/unicode_tables_icu.h"

namespace qeff {
namespace {

using Sections = std::vector<std::pair<std::string, int32_t>>;

const UnicodeTables& Tables() {
  static const auto* const tables =
      new UnicodeTables(BuildUnicodeTables().value());
  return *tables;
}

AddedToken Token(const std::string& content, int32_t id) {
  AddedToken token;
  token.content = content;
  token.id = id;
  return token;
}

Sections Split(const std::vector<AddedToken>& tokens, const std::string& text) {
  AddedTokenMatcher matcher(&Tables());
  for (const AddedToken& token : tokens) matcher.Add(token.content, token);
  Sections sections;
  for (const auto& s : matcher.Split(text)) {
    sections.emplace_back(text.substr(s.begin, s.end - s.begin), s.id);
  }
  return sections;
}

TEST(AddedTokenMatcherTest, LongestAtTheLeftmostPlace) {
  const std::vector<AddedToken> tokens = {Token("<a", 1), Token("<a>", 2),
                                          Token("a><", 3)};
  EXPECT_EQ(Split(tokens, "x<a>< <a"),
            (Sections{{"x", -1}, {"<a>", 2}, {"< ", -1}, {"<a", 1}}));
  EXPECT_EQ(Split(tokens, ""), Sections());
  EXPECT_EQ(Split({}, "abc"), (Sections{{"abc", -1}}));
}

TEST(AddedTokenMatcherTest, SwallowsWhiteSpace) {
  AddedToken token = Token("<m>", 1);
  token.lstrip = true;
  token.rstrip = true;
  EXPECT_EQ(Split({token}, "a \u3000<m>\n<m> b"),
            (Sections{{"a", -1}, {" \u3000<m>\n", 1}, {"<m> ", 1}, {"b", -1}}));
  EXPECT_EQ(Split({token}, " <m> "), (Sections{{" <m> ", 1}}));
}

TEST(AddedTokenMatcherTest, SingleWord) {
  AddedToken token = Token("cat", 1);
  token.single_word = true;
  EXPECT_EQ(Split({token},
                  "cats cat, \u00E9"
                  "cat"),
            (Sections{{"cats ", -1},
                      {"cat", 1},
                      {", \u00E9"
                       "cat",
                       -1}}));
}

TEST(AddedTokenMatcherTest, TheFirstOfEqualSpellingsCounts) {
  EXPECT_EQ(Split({Token("a", 1), Token("a", 2)}, "a"), (Sections{{"a", 1}}));
}

}  // namespace
}  // namespace qeff
