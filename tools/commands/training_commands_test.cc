// SPDX-License-Identifier: Apache-2.0
//
// train, distill and teacher_cache on the repository's own small models, which
// come out as their README says.

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

constexpr char kLlama[] = "tools/demo_model/llama";
constexpr char kText[] = "tools/demo_model/text.txt";

TEST(DemoModelTest, IsAsItsReadmeSays) {
  const auto perplexity = [](const std::string& model) {
    const CommandOutcome eval =
        RunQeff({"eval", "--model=" + model, std::string("--text=") + kText,
                 "--context_length=256"});
    EXPECT_EQ(eval.code, 0) << eval.err;
    return eval.json["perplexity"].get<double>();
  };
  // BF16 products round differently where the processor has none of its own.
  EXPECT_NEAR(perplexity(kLlama), 67.3977, 0.2);
  EXPECT_NEAR(perplexity("tools/demo_model/mpt"), 42.2105, 0.15);
}

class TrainingCommandsTest : public testing::Test {
 protected:
  CommandOutcome Run(std::vector<std::string> arguments) const {
    for (const char* flag : {"--steps=4", "--batch_size=4",
                             "--sequence_length=64", "--learning_rate=1e-4"}) {
      arguments.push_back(flag);
    }
    arguments.push_back(std::string("--data=") + kText);
    return RunQeff(arguments);
  }
  std::string Output(const std::string& name) const {
    return "--output=" + folder_ + "/" + name;
  }

  const std::string folder_ = MakeTestFolder();
};

TEST_F(TrainingCommandsTest, TrainsOnAndFromScratch) {
  const CommandOutcome on =
      Run({"train", std::string("--model=") + kLlama, Output("on"),
           std::string("--text=") + kText, "--eval_tokens=2000",
           "--metrics=" + folder_ + "/metrics"});
  ASSERT_EQ(on.code, 0) << on.err;
  EXPECT_LT(on.json["held_out_loss"].get<double>(),
            on.json["held_out_loss_before"].get<double>());
  EXPECT_EQ(on.json["parameters"], 1705216);
  const CommandOutcome scratch =
      Run({"train", "--config=tiny-gpt2", std::string("--tokenizer=") + kLlama,
           Output("scratch")});
  ASSERT_EQ(scratch.code, 0) << scratch.err;
  // Random: the next token is one of 2048.
  EXPECT_NEAR(scratch.json["loss"].get<double>(), std::log(2048.0), 0.5);
  EXPECT_EQ(RunQeff({"generate", "--model=" + folder_ + "/scratch",
                     "--prompt=The whale", "--max_new_tokens=3"})
                .code,
            0);
}

TEST_F(TrainingCommandsTest, DistillsFromAPrunedTeacherAndItsCache) {
  const std::string teacher = std::string("--teacher=") + kLlama;
  const CommandOutcome cache =
      RunQeff({"teacher_cache", teacher, std::string("--data=") + kText,
               "--sequence_length=64", "--top_k=32", Output("cache")});
  ASSERT_EQ(cache.code, 0) << cache.err;
  const std::string from = "--teacher_cache=" + folder_ + "/cache";
  const CommandOutcome live =
      Run({"distill", teacher, "--student_init=prune:layers=1",
           "--loss=kl:1,hidden:0.1", Output("live")});
  ASSERT_EQ(live.code, 0) << live.err;
  EXPECT_LT(live.json["parameters"], 1705216);
  const CommandOutcome cached =
      Run({"distill", teacher, from, "--student_init=prune:layers=1",
           "--scheme=int4_g32", "--learn_scales", Output("cached")});
  ASSERT_EQ(cached.code, 0) << cached.err;
  EXPECT_GT(cached.json["loss"].get<double>(), 0);
  const CommandOutcome eval =
      RunQeff({"eval", "--model=" + folder_ + "/cached",
               std::string("--text=") + kText, "--context_length=64"});
  EXPECT_EQ(eval.code, 0) << eval.err;
  // What a cache cannot say.
  EXPECT_EQ(Run({"distill", teacher, from, "--student_init=prune:layers=1",
                 "--loss=hidden:1", Output("x")})
                .code,
            2);
  EXPECT_EQ(Run({"distill", teacher, from, "--student_init=prune:layers=1",
                 "--temperature=2", Output("x")})
                .code,
            2);
}

TEST_F(TrainingCommandsTest, AQuantizedTeacherTeaches) {
  const CommandOutcome teacher =
      RunQeff({"quantize", std::string("--model=") + kLlama, Output("teacher"),
               "--scheme=int4_g32"});
  ASSERT_EQ(teacher.code, 0) << teacher.err;
  const CommandOutcome student =
      Run({"distill", "--teacher=" + folder_ + "/teacher",
           std::string("--student=") + kLlama, Output("student")});
  ASSERT_EQ(student.code, 0) << student.err;
  // The divergence of a model from itself in four bits.
  EXPECT_GT(student.json["loss"].get<double>(), 1e-4);
  EXPECT_LT(student.json["loss"].get<double>(), 0.2);
}

TEST_F(TrainingCommandsTest, RefusesWhatDoesNotFit) {
  const std::string teacher = std::string("--teacher=") + kLlama;
  // The other model's tokenizer has other tokens.
  const CommandOutcome other =
      Run({"distill", teacher, "--student=tools/demo_model/mpt", Output("x")});
  EXPECT_EQ(other.code, 3);
  EXPECT_THAT(other.err, HasSubstr("student"));
  const CommandOutcome loss =
      Run({"distill", teacher, "--student=tiny", "--loss=kll:1", Output("x")});
  EXPECT_EQ(loss.code, 2);
  EXPECT_THAT(loss.err, HasSubstr("kll"));
  const CommandOutcome sizes =
      Run({"distill", teacher, "--student_init=prune:depth=1", Output("x")});
  EXPECT_EQ(sizes.code, 2);
  EXPECT_THAT(sizes.err, HasSubstr("found depth=1"));
  EXPECT_EQ(Run({"train", std::string("--model=") + kLlama, "--config=tiny",
                 Output("x")})
                .code,
            2);
  const CommandOutcome scheme =
      Run({"train", std::string("--model=") + kLlama, "--scheme=nf4",
           "--learn_scales", Output("x")});
  EXPECT_EQ(scheme.code, 3);
  EXPECT_THAT(scheme.err, HasSubstr("symmetric integers"));
  const CommandOutcome empty =
      RunQeff({"train", std::string("--model=") + kLlama, "--data=/dev/null",
               Output("x")});
  EXPECT_EQ(empty.code, 3);
  EXPECT_TRUE(ListTestFolder(folder_).empty());
}

}  // namespace
}  // namespace qeff
