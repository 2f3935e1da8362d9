// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/compiler_options.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(const std::string& text) {
  const auto option = ParseCompilerOption(text);
  EXPECT_EQ(option.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(option.status().message());
}

TEST(ParseCompilerOptionTest, TakesQEfficientsAndTheCompilersSpelling) {
  const CompilerOption depth_first{"aic_enable_depth_first", ""};
  for (const char* text :
       {"aic_enable_depth_first", "aic-enable-depth-first",
        "-aic-enable-depth-first", "aic_enable_depth_first=true"}) {
    EXPECT_EQ(*ParseCompilerOption(text), depth_first) << text;
  }
  EXPECT_EQ(*ParseCompilerOption("-mos=-1"), (CompilerOption{"mos", "-1"}));
  EXPECT_EQ(*ParseCompilerOption("node-precision-info=a=b.yaml"),
            (CompilerOption{"node_precision_info", "a=b.yaml"}));
  EXPECT_EQ(*ParseCompilerOption("vtcm_working_set_limit_ratio=0.5"),
            (CompilerOption{"vtcm_working_set_limit_ratio", "0.5"}));
}

TEST(ParseCompilerOptionTest, NamesTheNearest) {
  EXPECT_THAT(ErrorOf("aic_enable_depth_frist"),
              HasSubstr("did you mean aic_enable_depth_first?"));
  EXPECT_THAT(ErrorOf("zzzzzzzz"), Not(HasSubstr("did you mean")));
}

TEST(ParseCompilerOptionTest, SaysWhatIsSetElsewhere) {
  EXPECT_THAT(ErrorOf("mxfp6=true"), HasSubstr("old name of mxfp6_matmul"));
  EXPECT_THAT(ErrorOf("-aic-num-cores=16"), HasSubstr("num_cores"));
  EXPECT_THAT(ErrorOf("custom-IO-list-file=x"), HasSubstr("is written"));
}

TEST(ParseCompilerOptionTest, ChecksValues) {
  EXPECT_THAT(ErrorOf("mos"), HasSubstr("an integer, found ''"));
  EXPECT_THAT(ErrorOf("mos=1.5"), HasSubstr("an integer"));
  EXPECT_THAT(ErrorOf("qpc_crc=yes"), HasSubstr("no value, or true"));
  EXPECT_THAT(ErrorOf("vtcm_working_set_limit_ratio=inf"),
              HasSubstr("a number"));
  EXPECT_THAT(ErrorOf("mdp_dump_partition_config=/tmp/x.json"),
              HasSubstr("without a folder"));
  EXPECT_THAT(ErrorOf("node_precision_info="), HasSubstr("a value"));
  EXPECT_THAT(ParseCompilerOptions({"mos=1", "-mos=2"}).status().message(),
              HasSubstr("mos is given twice"));
}

TEST(CompilerArgumentsTest, AreInQEfficientsOrder) {
  CompilerCommand command;
  command.onnx = "../GPT2LMHeadModel.onnx";
  command.specializations = "specializations.json";
  command.custom_io = "custom_io.yaml";
  command.output_folder = "qpc";
  EXPECT_THAT(CompilerArguments(command),
              ElementsAre("-aic-hw", "-aic-hw-version=ai100",
                          "-m=../GPT2LMHeadModel.onnx", "-retained-state",
                          "-convert-to-fp16", "-aic-num-cores=16",
                          "-network-specialization-config=specializations.json",
                          "-custom-IO-list-file=custom_io.yaml",
                          "-aic-binary-dir=qpc"));
  command.mxfp6_matmul = true;
  command.num_cores = 14;
  command.options = *ParseCompilerOptions(
      {"mos=1", "aic_enable_depth_first", "mdp_load_partition_config=u.json"});
  command.slicing_partition = "mdp_ts_4.json";
  EXPECT_THAT(
      CompilerArguments(command),
      ElementsAre(
          "-aic-hw", "-aic-hw-version=ai100", "-m=../GPT2LMHeadModel.onnx",
          "-mdp-load-partition-config=u.json", "-retained-state",
          "-convert-to-fp16", "-mxfp6-matmul", "-aic-num-cores=14", "-mos=1",
          "-aic-enable-depth-first", "-mdp-load-partition-config=mdp_ts_4.json",
          "-network-specialization-config=specializations.json",
          "-custom-IO-list-file=custom_io.yaml", "-aic-binary-dir=qpc"));
}

}  // namespace
}  // namespace qeff
