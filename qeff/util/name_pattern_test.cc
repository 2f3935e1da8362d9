// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/name_pattern.h"

#include <string>

#include "gtest/gtest.h"

namespace qeff {
namespace {

bool Search(absl::string_view pattern, absl::string_view name) {
  const auto compiled = NamePattern::Compile(pattern);
  EXPECT_TRUE(compiled.ok()) << compiled.status();
  return compiled.ok() && compiled->Search(name);
}

bool Match(absl::string_view pattern, absl::string_view name) {
  const auto compiled = NamePattern::Compile(pattern);
  EXPECT_TRUE(compiled.ok()) << compiled.status();
  return compiled.ok() && compiled->MatchPrefix(name);
}

TEST(NamePattern, Literals) {
  EXPECT_TRUE(Search("mlp", "model.layers.0.mlp.up_proj"));
  EXPECT_FALSE(Search("mlp$", "model.layers.0.mlp.up_proj"));
  EXPECT_TRUE(Search("up_proj$", "model.layers.0.mlp.up_proj"));
  EXPECT_FALSE(Match("mlp", "model.layers.0.mlp"));
  EXPECT_TRUE(Match("model", "model.layers.0.mlp"));
  EXPECT_TRUE(Search("", ""));
  EXPECT_TRUE(Search("^$", ""));
}

TEST(NamePattern, Classes) {
  EXPECT_TRUE(Search(R"(layers\.\d+\.)", "model.layers.12.x"));
  EXPECT_FALSE(Search(R"(layers\.\d+\.)", "model.layers.x.x"));
  EXPECT_TRUE(Search(R"(layers\.[0-35]\.)", "layers.5."));
  EXPECT_FALSE(Search(R"(layers\.[0-35]\.)", "layers.4."));
  EXPECT_TRUE(Search(R"([^a-z_.])", "layers.4"));
  EXPECT_FALSE(Search(R"([^a-z_.\d])", "layers.4"));
  EXPECT_TRUE(Search("[]]", "]"));
  EXPECT_TRUE(Search("[a-]", "-"));
  EXPECT_TRUE(Match(R"(\w+\W\s\S\D)", "ab. xy"));
}

TEST(NamePattern, RepeatsAndAlternatives) {
  EXPECT_TRUE(Match("(q|k|v)_proj$", "k_proj"));
  EXPECT_FALSE(Match("(?:q|k|v)_proj$", "o_proj"));
  EXPECT_TRUE(Match("a{2,3}$", "aaa"));
  EXPECT_FALSE(Match("a{2,3}$", "aaaa"));
  EXPECT_FALSE(Match("a{2,3}$", "a"));
  EXPECT_TRUE(Match("a{2,}$", "aaaaa"));
  EXPECT_TRUE(Match("(ab){2}$", "abab"));
  EXPECT_TRUE(Match("a*?b+?c??$", "bb"));
  EXPECT_TRUE(Match("x|y|zz$", "zz"));
  EXPECT_TRUE(Match("(a|b|)*c", "abbac"));
  EXPECT_TRUE(Match(".*down_proj.*", "model.layers.3.mlp.down_proj"));
}

TEST(NamePattern, LinearTimeWhereBacktrackingExplodes) {
  EXPECT_FALSE(Match("(a+)+$", std::string(4000, 'a') + "b"));
  EXPECT_FALSE(Match("(a|a)*(a|a)*(a|a)*b", std::string(4000, 'a')));
  EXPECT_FALSE(Match("(a*)*(b*)*c", std::string(4000, 'a')));
}

TEST(NamePattern, ErrorsNameThePattern) {
  for (const char* bad :
       {"(", ")", "a)", "[", "[b-a]", "*", "a**", "a{3,2}", "a{99999}", "\\",
        "((a{1000}){1000})", "(?=a)", "\\1"}) {
    const auto compiled = NamePattern::Compile(bad);
    EXPECT_EQ(compiled.status().code(), absl::StatusCode::kInvalidArgument)
        << bad;
    EXPECT_NE(compiled.status().message().find("pattern"), std::string::npos);
  }
  EXPECT_FALSE(NamePattern::Compile(std::string(2000, 'a')).ok());
  EXPECT_FALSE(NamePattern::Compile(std::string(1000, '(')).ok());
}

}  // namespace
}  // namespace qeff
