// SPDX-License-Identifier: Apache-2.0
//
// `qeff quantize --algorithm=rotate,...` on tiny random models.

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/util/json.h"
#include "qeff/util/status.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class QuantizeRotateTest : public ::testing::Test {
 protected:
  QuantizeRotateTest() {
    std::string text;
    for (int i = 0; i < 300; ++i) {
      text += "the cat sat on mat " + std::to_string(i);
    }
    WriteTestFile(text_, text);
  }

  // A model that Quantize works on.
  void Synth(const std::vector<std::string>& flags) {
    std::vector<std::string> arguments = {"synth", "--output=" + model_};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    ASSERT_EQ(RunQeff(arguments).code, 0);
  }
  CommandOutcome Quantize(const std::string& algorithm,
                          const std::string& output,
                          const std::vector<std::string>& flags = {}) const {
    std::vector<std::string> arguments = {"quantize", "--model=" + model_,
                                          "--algorithm=rotate," + algorithm,
                                          "--output=" + Path(output)};
    if (algorithm != "rtn") {
      arguments.insert(arguments.end(),
                       {"--calibration=" + text_, "--calibration_tokens=600",
                        "--sequence_length=100"});
    }
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return RunQeff(arguments);
  }
  // Mean KL of what `source` names from the original.
  double Kl(const std::string& source, const std::string& flag) const {
    const CommandOutcome eval =
        RunQeff({"eval", source, "--reference=" + model_, "--text=" + text_,
                 "--context_length=64", "--max_tokens=500", flag});
    EXPECT_EQ(eval.code, 0) << eval.err;
    return eval.json["kl_mean"].get<double>();
  }
  std::string Path(const std::string& name) const {
    return folder_ + "/" + name;
  }
  bool Exists(const std::string& name) const {
    struct stat info;
    return lstat(Path(name).c_str(), &info) == 0;
  }
  std::string Weights(const std::string& output) const {
    return ReadTestFile(Path(output) + "/model.safetensors");
  }

  const std::string folder_ = MakeTestFolder();
  const std::string model_ = folder_ + "/model";
  const std::string text_ = folder_ + "/text";
};

// A tied model in BF16, to a folder and a package that compute what it does.
TEST_F(QuantizeRotateTest, RoundTrip) {
  Synth({"--shape=tiny-qwen2"});
  const CommandOutcome outcome = Quantize("rtn", "out", {"--scheme=int8"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("hidden states by Hadamard blocks of 64, "
                                     "values of each head by blocks of 16"));
  EXPECT_THAT(outcome.out, HasSubstr("lm_head gets a weight of its own, which "
                                     "the embedding was: 0.041 MB more"));
  EXPECT_EQ(outcome.json["rotation"]["lm_head_bytes"], 320 * 64 * 2);
  EXPECT_FALSE(Exists("out.rotated"));
  const auto written = Checkpoint::Open(Path("out"));
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ((*written)->config()["tie_word_embeddings"], false);
  EXPECT_THAT((*written)->config().dump(), Not(HasSubstr("rotat")));
  for (const TensorInfo& info : (*written)->tensors()) {
    EXPECT_NE(info.dtype, DType::kF32) << info.name;
  }
  const std::string source = "--model=" + Path("out");
  const double host = Kl(source, "--executor=host");
  EXPECT_LT(host, 1e-3);
  EXPECT_NEAR(Kl(source, "--activations=f32"), host, 1e-4);
  const std::string package = Path("out.qeff");
  ASSERT_EQ(RunQeff({"compile", source, "--output=" + package}).code, 0);
  EXPECT_LT(Kl("--package=" + package, "--activations=fast"), 1e-2);
  const CommandOutcome generated =
      RunQeff({"generate", source, "--prompt=the cat", "--max_new_tokens=8"});
  EXPECT_EQ(generated.code, 0) << generated.err;
}

// Though the rotated copy holds what is quantized in float32.
TEST_F(QuantizeRotateTest, ScalesHaveTheModelsType) {
  Synth({"--shape=tiny", "--dtype=f16"});
  for (const std::string algorithm : {"rtn", "gptq"}) {
    SCOPED_TRACE(algorithm);
    ASSERT_EQ(Quantize(algorithm, algorithm, {"--scheme=int4_g32"}).code, 0);
    const auto written = Checkpoint::Open(Path(algorithm));
    ASSERT_TRUE(written.ok()) << written.status();
    for (const TensorInfo& info : (*written)->tensors()) {
      EXPECT_FALSE(info.dtype == DType::kBF16 || info.dtype == DType::kF32)
          << info.name;
    }
    EXPECT_LT(Kl("--model=" + Path(algorithm), "--executor=host"), 0.2);
  }
}

TEST_F(QuantizeRotateTest, BeforeEveryAlgorithm) {
  Synth({"--shape=tiny-qwen3"});
  for (const std::string algorithm :
       {"gptq", "awq,gptq", "smoothquant", "best"}) {
    SCOPED_TRACE(algorithm);
    const std::string scheme = algorithm == "smoothquant" ? "w8a8" : "int4_g32";
    const CommandOutcome outcome = Quantize(
        algorithm, algorithm, {"--scheme=" + scheme, "--lm_head=" + scheme});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    ASSERT_EQ(outcome.json["layers"].size(), 15u);
    for (const Json& layer : outcome.json["layers"]) {
      EXPECT_LE(layer["loss"].get<double>(),
                layer["rounding_loss"].get<double>());
    }
    EXPECT_LT(Kl("--model=" + Path(algorithm), "--executor=host"), 0.1);
    EXPECT_FALSE(Exists(algorithm + ".partial"));
    EXPECT_FALSE(Exists(algorithm + ".rotated"));
  }
  const CommandOutcome budget =
      Quantize("gptq", "budget", {"--budget=5bpw", "--scheme=int4_g32,int8"});
  ASSERT_EQ(budget.code, 0) << budget.err;
  EXPECT_LE(budget.json["quantized_bits_per_weight"].get<double>(), 5 + 1e-9);
}

TEST_F(QuantizeRotateTest, PlansAndErrorsLeaveNothing) {
  Synth({"--shape=tiny"});
  const CommandOutcome plan =
      Quantize("rtn", "out", {"--scheme=int4_g32", "--dry_run"});
  ASSERT_EQ(plan.code, 0) << plan.err;
  EXPECT_THAT(plan.out, HasSubstr("rotation: hidden states"));
  EXPECT_FALSE(Exists("out"));
  EXPECT_FALSE(Exists("out.rotated"));

  // What is not of a run stays.
  ASSERT_EQ(mkdir(Path("out.rotated").c_str(), 0777), 0);
  WriteTestFile(Path("out.rotated/diary"), "mine");
  const CommandOutcome foreign = Quantize("rtn", "out", {"--scheme=int4"});
  EXPECT_EQ(foreign.code, kExitInvalidInput);
  EXPECT_THAT(foreign.err, HasSubstr("out.rotated: exists already and is no "
                                     "rotated model"));
  EXPECT_EQ(ReadTestFile(Path("out.rotated/diary")), "mine");

  const CommandOutcome exists = Quantize("rtn", "model", {"--scheme=int4"});
  EXPECT_EQ(exists.code, kExitInvalidInput);
  EXPECT_THAT(exists.err, HasSubstr("model: exists already"));
  EXPECT_FALSE(Exists("model.rotated"));

  // What a calibrated run would refuse in the end.
  ASSERT_EQ(mkdir(Path("begun.partial").c_str(), 0777), 0);
  const CommandOutcome begun = Quantize("gptq", "begun", {"--scheme=int4"});
  EXPECT_EQ(begun.code, kExitInvalidInput);
  EXPECT_THAT(begun.err, HasSubstr("unfinished work of an earlier run"));
  EXPECT_THAT(begun.out, Not(HasSubstr("rotation: writes")));
  EXPECT_FALSE(Exists("begun.rotated"));

  const CommandOutcome failed = Quantize(
      "gptq", "small", {"--scheme=int4_g32", "--memory_limit=1000000"});
  EXPECT_EQ(failed.code, kExitResource);
  EXPECT_FALSE(Exists("small.rotated"));
}

TEST_F(QuantizeRotateTest, OtherNormsAreRefused) {
  Synth({"--shape=tiny-gpt2"});
  const CommandOutcome refused = Quantize("rtn", "out", {"--scheme=int4"});
  EXPECT_EQ(refused.code, kExitInvalidInput);
  EXPECT_THAT(refused.err, HasSubstr("ln_f.weight': rotate: expected an "
                                     "RMSNorm without bias, found LayerNorm"));
  EXPECT_FALSE(Exists("out.rotated"));
}

// The copy that a killed run has left is used by --resume, and by no run that
// needs another one.
TEST_F(QuantizeRotateTest, KilledAndResumed) {
  Synth({"--shape=tiny", "--layers=5"});
  const std::vector<std::string> flags = {"--scheme=int4_g32"};
  const auto kill_one = [&](const std::string& output) {
    const pid_t child = fork();
    if (child == 0) {
      Quantize("gptq", output, flags);
      _exit(0);
    }
    for (int i = 0; i < 20000 && !Exists(output + ".partial/hidden_states.2");
         ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    kill(child, SIGKILL);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    ASSERT_TRUE(Exists(output + ".rotated/config.json"));
    ASSERT_FALSE(Exists(output));
  };
  kill_one("a");
  std::vector<std::string> resume = flags;
  resume.push_back("--resume");
  const CommandOutcome resumed = Quantize("gptq", "a", resume);
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr("rotation: goes on with"));
  EXPECT_THAT(resumed.out, HasSubstr("resuming after"));
  ASSERT_EQ(Quantize("gptq", "b", flags).code, 0);
  EXPECT_EQ(Weights("a"), Weights("b"));

  kill_one("c");
  std::vector<std::string> other = flags;
  other.insert(other.end(), {"--restart", "--seed=5"});
  const CommandOutcome restarted = Quantize("gptq", "c", other);
  ASSERT_EQ(restarted.code, 0) << restarted.err;
  EXPECT_THAT(restarted.out, HasSubstr("rotation: writes"));
  std::vector<std::string> seed = flags;
  seed.push_back("--seed=5");
  ASSERT_EQ(Quantize("gptq", "d", seed).code, 0);
  EXPECT_EQ(Weights("c"), Weights("d"));
  EXPECT_NE(Weights("c"), Weights("a"));
  for (const std::string name : {"a", "b", "c", "d"}) {
    EXPECT_FALSE(Exists(name + ".rotated"));
    EXPECT_FALSE(Exists(name + ".partial"));
  }
}

}  // namespace
}  // namespace qeff
