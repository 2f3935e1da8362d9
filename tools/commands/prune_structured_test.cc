// SPDX-License-Identifier: Apache-2.0
//
// `qeff prune --method=structured` and `qeff sensitivity` on tiny random
// models.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/util/json.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

class PruneStructuredTest : public ::testing::Test {
 protected:
  PruneStructuredTest() {
    std::string text;
    for (int i = 0; i < 300; ++i) {
      text += "the cat sat on mat " + std::to_string(i);
    }
    WriteTestFile(text_, text);
    EXPECT_EQ(RunQeff({"synth", "--shape=tiny", "--output=" + model_}).code, 0);
  }

  CommandOutcome Prune(const std::vector<std::string>& flags) const {
    std::vector<std::string> arguments = {"prune",
                                          "--method=structured",
                                          "--model=" + model_,
                                          "--output=" + output_,
                                          "--calibration=" + text_,
                                          "--calibration_tokens=600",
                                          "--sequence_length=100"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return RunQeff(arguments);
  }

  const std::string folder_ = MakeTestFolder();
  const std::string model_ = folder_ + "/model", output_ = folder_ + "/pruned";
  const std::string text_ = folder_ + "/text";
};

TEST_F(PruneStructuredTest, WritesAModelThatGenerates) {
  const CommandOutcome pruned =
      Prune({"--parameters=0.85", "--importance=gradients"});
  ASSERT_EQ(pruned.code, 0) << pruned.err;
  const double share = pruned.json["parameters_after"].get<double>() /
                       pruned.json["parameters_before"].get<double>();
  EXPECT_LE(share, 0.85);
  EXPECT_GE(share, 0.8);
  EXPECT_THAT(pruned.out, HasSubstr("wrote "));
  const CommandOutcome generated =
      RunQeff({"generate", "--model=" + output_, "--prompt=the cat",
               "--max_new_tokens=5"});
  EXPECT_EQ(generated.code, 0) << generated.err;
  // A pruned model is a model: it is quantized as any other.
  const CommandOutcome quantized =
      RunQeff({"quantize", "--model=" + output_, "--scheme=int8",
               "--algorithm=rtn", "--output=" + folder_ + "/int8"});
  EXPECT_EQ(quantized.code, 0) << quantized.err;
  const CommandOutcome refused = RunQeff(
      {"prune", "--method=structured", "--model=" + folder_ + "/int8",
       "--output=" + folder_ + "/no", "--calibration=" + text_, "--layers=1"});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err, HasSubstr("prune the original"));
}

TEST_F(PruneStructuredTest, RefusesFlags) {
  const struct {
    std::vector<std::string> flags;
    int code;
    const char* message;
  } cases[] = {
      {{}, 2, "--parameters or one or more of --ffn_size"},
      {{"--parameters=1.5"}, 2, "--parameters=1.5: expected a share"},
      {{"--parameters=0.8", "--layers=1"}, 2, "--parameters excludes"},
      {{"--layers=1", "--importance=magic"}, 2, "--importance"},
      {{"--layers=1", "--sparsity=0.5"}, 2, "--sparsity has no meaning with"},
      {{"--layers=100"}, 3, "--layers=100: expected 1 to"},
      {{"--ffn_size=-1"}, 3, "--ffn_size=-1: expected 1 to"},
      {{"--parameters=0.1"}, 3, "--parameters=0.1: no sizes"},
  };
  for (const auto& each : cases) {
    const CommandOutcome outcome = Prune(each.flags);
    EXPECT_EQ(outcome.code, each.code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(each.message));
  }
  const CommandOutcome other =
      RunQeff({"prune", "--method=magnitude", "--sparsity=0.5", "--layers=1",
               "--model=" + model_, "--output=" + output_});
  EXPECT_EQ(other.code, 2);
  EXPECT_THAT(other.err, HasSubstr("--layers needs --method=structured"));
}

TEST_F(PruneStructuredTest, SensitivityListsAllParts) {
  const CommandOutcome outcome =
      RunQeff({"sensitivity", "--model=" + model_, "--calibration=" + text_,
               "--calibration_tokens=200", "--sequence_length=50",
               "--scheme=int8,int4_g32"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json& removals = outcome.json["removals"];
  ASSERT_GE(removals.size(), 1u);
  EXPECT_GT(removals[0]["kl"].get<double>(), 0);
  EXPECT_EQ(removals[0]["ffn_quarters_kl"].size(), 4u);
  const Json& quantizing = outcome.json["quantizing"];
  EXPECT_EQ(quantizing.size(), 4 * removals.size());
  EXPECT_GT(quantizing[0]["kl"]["int4_g32"].get<double>(),
            quantizing[0]["kl"]["int8"].get<double>());
  const CommandOutcome bad =
      RunQeff({"sensitivity", "--model=" + model_, "--calibration=" + text_,
               "--scheme=int99"});
  EXPECT_EQ(bad.code, 2);
  EXPECT_THAT(bad.err, HasSubstr("--scheme"));
}

}  // namespace
}  // namespace qeff
