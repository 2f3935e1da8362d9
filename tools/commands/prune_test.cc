// SPDX-License-Identifier: Apache-2.0
//
// `qeff prune` on tiny random models.

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/util/json.h"
#include "qeff/util/status.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

class PruneCommandTest : public ::testing::Test {
 protected:
  PruneCommandTest() {
    EXPECT_EQ(RunQeff({"synth", "--shape=tiny", "--output=" + model_}).code, 0);
    std::string text;
    for (int i = 0; i < 300; ++i) {
      text += "the cat sat on mat " + std::to_string(i);
    }
    WriteTestFile(text_, text);
  }

  CommandOutcome Prune(const std::vector<std::string>& flags,
                       const std::string& output = "out") const {
    std::vector<std::string> arguments = {"prune", "--model=" + model_,
                                          "--output=" + folder_ + "/" + output};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return RunQeff(arguments);
  }
  std::vector<std::string> Calibrated(std::vector<std::string> flags) const {
    for (const char* flag :
         {"--calibration_tokens=600", "--sequence_length=100"}) {
      flags.push_back(flag);
    }
    flags.push_back("--calibration=" + text_);
    return flags;
  }
  // Mean, from the original.
  double Kl(const std::string& output) const {
    const CommandOutcome eval = RunQeff(
        {"eval", "--model=" + folder_ + "/" + output, "--reference=" + model_,
         "--text=" + text_, "--context_length=64", "--max_tokens=500"});
    EXPECT_EQ(eval.code, 0) << eval.err;
    return eval.json["kl_mean"].get<double>();
  }

  const std::string folder_ = MakeTestFolder();
  const std::string model_ = folder_ + "/model";
  const std::string text_ = folder_ + "/text";
};

TEST_F(PruneCommandTest, MethodsInTheirOrder) {
  const CommandOutcome magnitude =
      Prune({"--method=magnitude", "--sparsity=0.6"}, "magnitude");
  ASSERT_EQ(magnitude.code, 0) << magnitude.err;
  EXPECT_THAT(magnitude.out, HasSubstr("mlp.down_proj"));
  EXPECT_THAT(magnitude.out, HasSubstr("wrote "));
  EXPECT_EQ(magnitude.json["layers"].size(), 14u);
  const CommandOutcome sparse =
      Prune(Calibrated({"--sparsity=0.6"}), "sparsegpt");
  ASSERT_EQ(sparse.code, 0) << sparse.err;
  EXPECT_THAT(sparse.out, HasSubstr("calibration: 600 tokens"));
  EXPECT_NEAR(sparse.json["removed"].get<double>(),
              0.6 * sparse.json["weights"].get<double>(),
              0.01 * sparse.json["weights"].get<double>());
  EXPECT_GT(sparse.json["seconds"]["solver"].get<double>(), 0);
  EXPECT_LT(Kl("sparsegpt"), 0.8 * Kl("magnitude"));
}

TEST_F(PruneCommandTest, PrunedModelsAreReadByTheOthers) {
  ASSERT_EQ(Prune(Calibrated({"--method=wanda", "--pattern=2:4"})).code, 0);
  const std::string out = folder_ + "/out";
  const CommandOutcome quantized =
      RunQeff({"quantize", "--model=" + out, "--output=" + out + "q",
               "--scheme=int4_g32"});
  ASSERT_EQ(quantized.code, 0) << quantized.err;
  const CommandOutcome text =
      RunQeff({"generate", "--model=" + out + "q", "--prompt=the cat",
               "--max_new_tokens=4"});
  EXPECT_EQ(text.code, 0) << text.err;
  // Sparser than asked already.
  const CommandOutcome again =
      RunQeff({"prune", "--model=" + out, "--output=" + out + "2",
               "--method=magnitude", "--sparsity=0.3"});
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("14 layers"));
  EXPECT_THAT(again.out, HasSubstr("sparser than asked"));
}

TEST_F(PruneCommandTest, WithQuantizationAndAllocation) {
  const CommandOutcome joint =
      Prune(Calibrated({"--pattern=2:4", "--scheme=int4_g32"}));
  ASSERT_EQ(joint.code, 0) << joint.err;
  EXPECT_THAT(joint.out, HasSubstr("int4_g32"));
  EXPECT_EQ(joint.json["layers"].size(), 14u);
  // What is left makes up for the rounding, too.
  ASSERT_EQ(Prune(Calibrated({"--pattern=2:4"}), "pruned").code, 0);
  ASSERT_EQ(RunQeff({"quantize", "--model=" + folder_ + "/pruned",
                     "--output=" + folder_ + "/rounded", "--scheme=int4_g32"})
                .code,
            0);
  const double joint_kl = Kl("out"), rounded_kl = Kl("rounded");
  EXPECT_LT(joint_kl, 0.7 * rounded_kl);
  for (const std::string allocation : {"owl", "budget"}) {
    const CommandOutcome outcome =
        Prune(Calibrated({"--sparsity=0.5", "--allocation=" + allocation}),
              allocation);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr(" to "));  // the shares of a kind
  }
}

TEST_F(PruneCommandTest, BadFlags) {
  const struct {
    std::vector<std::string> flags;
    const char* message;
  } cases[] = {
      {{}, "--sparsity and --pattern"},
      {{"--sparsity=0.5", "--pattern=2:4"}, "--sparsity and --pattern"},
      {{"--sparsity=1"}, "[0, 1)"},
      {{"--sparsity=-0.5"}, "[0, 1)"},
      {{"--sparsity=2:4"}, "N:M to --pattern"},
      {{"--pattern=0.5"}, "a share belongs to --sparsity"},
      {{"--pattern=4:2"}, "0 < N < M"},
      {{"--sparsity=0.5"}, "needs --calibration"},
      {{"--sparsity=0.5", "--method=magnitude", "--resume"}, "no meaning"},
      {{"--sparsity=0.5", "--method=wanda", "--scheme=int4", "--calibration=x"},
       "--scheme needs --method=sparsegpt"},
      {{"--pattern=2:4", "--allocation=owl", "--calibration=x"},
       "every layer gives the same"},
      {{"--sparsity=0.5", "--method=magnitude", "--allocation=owl"},
       "--allocation=owl needs --calibration"},
      {{"--sparsity=0.5", "--calibration=x", "--resume", "--restart"},
       "exclude"},
      {{"--sparsity=0.5", "--calibration=x", "--ignore=("}, "--ignore"},
      {{"--sparsity=0.5", "--method=random"}, "magnitude"},
  };
  for (const auto& one : cases) {
    const CommandOutcome outcome = Prune(one.flags);
    EXPECT_EQ(outcome.code, 2) << one.message;
    EXPECT_THAT(outcome.err, HasSubstr(one.message));
  }
  EXPECT_EQ(Prune({"--sparsity=0.5", "--calibration=/nonexistent"}).code, 3);
  EXPECT_THAT(ListTestFolder(folder_),
              ::testing::UnorderedElementsAre("model", "text"));
}

}  // namespace
}  // namespace qeff
