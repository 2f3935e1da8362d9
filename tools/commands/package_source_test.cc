// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/package_source.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/device/package/package_testutil.h"
#include "qeff/device/reference_model.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

TEST(PackageSourceTest, OneOfTheTwo) {
  std::string model, package, lm_head;
  FlagTable flags;
  DeclareModelOrPackage(&model, &package, &flags);
  flags.Add("lm_head", &lm_head, "SCHEME", "");
  const auto check = [&](std::vector<std::string> arguments) {
    EXPECT_TRUE(flags.Parse(arguments).ok());
    const absl::Status status = CheckModelOrPackage(flags);
    EXPECT_TRUE(status.ok() || IsUsageError(status)) << status;
    return std::string(status.message());
  };
  EXPECT_EQ(check({"--model=x", "--lm_head=keep"}), "");
  EXPECT_EQ(check({"--package=x"}), "");
  EXPECT_THAT(check({}), HasSubstr("either --model=DIR or --package=FILE"));
  EXPECT_THAT(check({"--model=x", "--package=x"}), HasSubstr("either"));
  EXPECT_THAT(check({"--package=x", "--lm_head=keep"}), HasSubstr("--lm_head"));
}

TEST(PackageSourceTest, OpensWithTheTokenizer) {
  const std::string path = MakeTestFolder() + "/model.qeff";
  TransformerSpec spec = SmallSpec();
  const auto error = [&] {
    const auto opened = OpenPackageWithTokenizer(path);
    EXPECT_FALSE(opened.ok());
    return opened.status().ToString();
  };
  EXPECT_THAT(error(), HasSubstr(path));
  WriteFile(path, PackageBytes(*RandomModel(spec, 1), nullptr));
  EXPECT_THAT(error(),
              HasSubstr("model.qeff: tokenizer: the package has none"));
  const TokenizerTables tables = ByteTables();
  WriteFile(path, PackageBytes(*RandomModel(spec, 1), &tables));
  EXPECT_THAT(error(), HasSubstr("expected at most 50 tokens as the model "
                                 "has, found 257"));
  spec.vocab_size = 257;
  WriteFile(path, PackageBytes(*RandomModel(spec, 1), &tables));
  const auto opened = OpenPackageWithTokenizer(path);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(opened->tokenizer->vocab_size(), 257);
}

}  // namespace
}  // namespace qeff
