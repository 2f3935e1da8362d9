// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/token_list.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(ParseTokenListTest, Parses) {
  EXPECT_THAT(*ParseTokenList("1,5,7"), ElementsAre(1, 5, 7));
  EXPECT_THAT(*ParseTokenList(" 0 , 2147483647\n"), ElementsAre(0, 2147483647));
  EXPECT_THAT(*ParseTokenList(""), IsEmpty());
}

TEST(ParseTokenListTest, NamesTheBadField) {
  for (const char* text : {"1,,2", "1,x", "-1", "1;2", "2147483648", "1.0"}) {
    const auto tokens = ParseTokenList(text);
    EXPECT_EQ(tokens.status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
  EXPECT_THAT(std::string(ParseTokenList("1,x").status().message()),
              HasSubstr("found 'x'"));
}

}  // namespace
}  // namespace qeff
