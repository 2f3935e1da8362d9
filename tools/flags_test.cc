// SPDX-License-Identifier: Apache-2.0

#include "tools/flags.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class FlagTableTest : public ::testing::Test {
 protected:
  FlagTableTest() {
    flags_.AddRequired("model", &model_, "DIR", "The model.");
    flags_.Add("max_tokens", &max_tokens_, "N", "How many.");
    flags_.Add("asymmetric", &asymmetric_, "", "Zero points.");
    flags_.Add("json", &json_, "FILE", "Where to.");
    flags_.AddChoice("protocol", &protocol_, {"window", "llama.cpp"}, "How.");
  }

  std::string ErrorOf(std::vector<std::string> arguments) {
    const absl::Status status = flags_.Parse(arguments);
    EXPECT_TRUE(IsUsageError(status)) << status;
    return std::string(status.message());
  }

  FlagTable flags_;
  std::string model_;
  int64_t max_tokens_ = 5;
  bool asymmetric_ = false;
  std::string json_;
  std::string protocol_ = "window";
};

TEST_F(FlagTableTest, ParsesEveryForm) {
  ASSERT_TRUE(flags_
                  .Parse({"--model", "a", "--max_tokens=7", "--asymmetric",
                          "--protocol=llama.cpp"})
                  .ok());
  EXPECT_EQ(model_, "a");
  EXPECT_EQ(max_tokens_, 7);
  EXPECT_TRUE(asymmetric_);
  EXPECT_EQ(protocol_, "llama.cpp");
  EXPECT_TRUE(flags_.WasGiven("max_tokens"));
  ASSERT_TRUE(flags_.Parse({"--model=b=c", "--noasymmetric"}).ok());
  EXPECT_EQ(model_, "b=c");
  EXPECT_FALSE(asymmetric_);
  EXPECT_FALSE(flags_.WasGiven("max_tokens"));
  ASSERT_TRUE(flags_.Parse({"--model=x", "--asymmetric=false"}).ok());
}

TEST_F(FlagTableTest, RepeatedFlagsAddUp) {
  std::vector<std::string> prompts = {"old"};
  flags_.AddRepeated("prompt", &prompts, "STRING", "A text.");
  ASSERT_TRUE(flags_.Parse({"--model=x", "--prompt=a=b", "--prompt", ""}).ok());
  EXPECT_THAT(prompts, ElementsAre("a=b", ""));
  EXPECT_TRUE(flags_.WasGiven("prompt"));
  ASSERT_TRUE(flags_.Parse({"--model=x"}).ok());
  EXPECT_TRUE(prompts.empty());
  EXPECT_FALSE(flags_.WasGiven("prompt"));
  EXPECT_THAT(flags_.Help(), HasSubstr("--prompt=STRING\n"));
}

TEST_F(FlagTableTest, UsageErrors) {
  EXPECT_THAT(ErrorOf({"--model=x", "--max_token=7"}),
              HasSubstr("unknown flag --max_token; did you mean "
                        "--max_tokens?"));
  EXPECT_THAT(ErrorOf({"--model=x", "--zzzzzzz"}),
              ::testing::Not(HasSubstr("did you mean")));
  EXPECT_THAT(ErrorOf({}), HasSubstr("--model=DIR is required"));
  EXPECT_THAT(ErrorOf({"--model=x", "--model=y"}), HasSubstr("given twice"));
  EXPECT_THAT(ErrorOf({"--model=x", "--max_tokens=1.5"}),
              HasSubstr("--max_tokens: cannot use '1.5'"));
  EXPECT_THAT(ErrorOf({"--model=x", "--max_tokens"}),
              HasSubstr("needs a value"));
  EXPECT_THAT(ErrorOf({"--model=x", "positional"}),
              HasSubstr("unexpected argument 'positional'"));
  EXPECT_THAT(ErrorOf({"--model=x", "--protocol=other"}),
              HasSubstr("expected one of window, llama.cpp"));
  EXPECT_THAT(ErrorOf({"--model=x", "--nomodel"}), HasSubstr("unknown flag"));
  EXPECT_THAT(ErrorOf({"--model="}),
              HasSubstr("--model: expected a folder, found an empty name"));
}

TEST_F(FlagTableTest, HelpShowsDefaults) {
  const std::string help = flags_.Help();
  EXPECT_THAT(help, HasSubstr("--max_tokens=N\n      How many. Default: 5."));
  EXPECT_THAT(help, StartsWith("Required:\n  --model=DIR\n      The model.\n"));
  EXPECT_THAT(help, HasSubstr("Where to. Default: none."));
  EXPECT_THAT(help, HasSubstr("--protocol=window|llama.cpp"));
}

TEST_F(FlagTableTest, SectionsOfTheHelp) {
  int n = 0;
  flags_.BeginSection("More");
  flags_.Add("rounds", &n, "N", "How often.");
  flags_.BeginSection("Flags");
  flags_.Add("last", &n, "N", "The last.");
  const std::string help = flags_.Help();
  EXPECT_LT(help.find("\nFlags:\n"), help.find("--last"));
  EXPECT_LT(help.find("--last"), help.find("\nMore:\n  --rounds=N\n"));
}

TEST_F(FlagTableTest, Lists) {
  const std::vector<FlagInfo> list = flags_.List();
  ASSERT_EQ(list.size(), 5u);
  EXPECT_EQ(list[0].name, "model");
  EXPECT_EQ(list[0].placeholder, "DIR");
  EXPECT_TRUE(list[0].required);
  EXPECT_EQ(list[1].default_text, "5");
  EXPECT_TRUE(list[2].is_bool);
  EXPECT_THAT(list[4].choices, ElementsAre("window", "llama.cpp"));
}

TEST(WrapTextTest, Wraps) {
  EXPECT_EQ(WrapText("aa bb cc", 1, 6), " aa bb\n cc\n");
}

}  // namespace
}  // namespace qeff
