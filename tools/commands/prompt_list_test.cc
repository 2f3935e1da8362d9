// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/prompt_list.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(PromptListTest, OneALine) {
  const std::string path = MakeTestFolder() + "/prompts.txt";
  WriteTestFile(path, "One prompt\n\n two \r\n\r\nlast");
  const auto prompts = ReadPromptList(path);
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  EXPECT_THAT(*prompts, ElementsAre("One prompt", " two ", "last"));
}

TEST(PromptListTest, Errors) {
  const std::string path = MakeTestFolder() + "/prompts.txt";
  EXPECT_THAT(ReadPromptList(path).status().ToString(), HasSubstr(path));
  WriteTestFile(path, "\n\n");
  EXPECT_THAT(ReadPromptList(path).status().ToString(),
              HasSubstr("prompts.txt: no prompts in it"));
}

}  // namespace
}  // namespace qeff
