// SPDX-License-Identifier: Apache-2.0
//
// `qeff quantize` with calibration, on tiny random models.

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/util/json.h"
#include "qeff/util/status.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

class QuantizeCommandTest : public ::testing::Test {
 protected:
  QuantizeCommandTest() {
    EXPECT_EQ(RunQeff({"synth", "--shape=tiny", "--output=" + model_}).code, 0);
    std::string text;
    for (int i = 0; i < 300; ++i)
      text += "the cat sat on mat " + std::to_string(i);
    WriteTestFile(text_, text);
  }

  CommandOutcome Quantize(const std::vector<std::string>& flags,
                          const std::string& output = "out") const {
    std::vector<std::string> arguments = {"quantize", "--model=" + model_,
                                          "--output=" + folder_ + "/" + output};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const bool any_scheme =
        std::any_of(flags.begin(), flags.end(), [](const std::string& flag) {
          return absl::StartsWith(flag, "--scheme=");
        });
    if (!any_scheme) arguments.push_back("--scheme=int4_g32");
    return RunQeff(arguments);
  }
  // Mean, from the original.
  double Kl(const std::string& model, const std::string& executor) const {
    const CommandOutcome eval = RunQeff(
        {"eval", "--model=" + model, "--reference=" + model_, "--text=" + text_,
         "--context_length=64", "--max_tokens=500", "--executor=" + executor});
    EXPECT_EQ(eval.code, 0) << eval.err;
    return eval.json["kl_mean"].get<double>();
  }
  std::string Calibration() const { return "--calibration=" + text_; }
  bool Exists(const std::string& name) const {
    struct stat info;
    return stat((folder_ + "/" + name).c_str(), &info) == 0;
  }

  const std::string folder_ = MakeTestFolder();
  const std::string model_ = folder_ + "/model";
  const std::string text_ = folder_ + "/text";
};

TEST_F(QuantizeCommandTest, EveryAlgorithm) {
  for (const std::string algorithm :
       {"awq", "gptq", "awq,gptq", "smoothquant", "gptq,autoround", "best"}) {
    SCOPED_TRACE(algorithm);
    const CommandOutcome outcome =
        Quantize({"--algorithm=" + algorithm, "--iterations=4", Calibration(),
                  "--calibration_tokens=600", "--sequence_length=100"},
                 algorithm);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out,
                HasSubstr("calibration: 600 tokens; memory about"));
    EXPECT_THAT(outcome.out, HasSubstr("model.layers.1.mlp.down_proj"));
    EXPECT_THAT(outcome.out, HasSubstr("time: "));
    EXPECT_THAT(outcome.out, HasSubstr("(Cholesky "));
    EXPECT_THAT(outcome.out, HasSubstr(", of it products "));
    EXPECT_GT(outcome.json["seconds"]["cholesky"].get<double>(),
              outcome.json["seconds"]["cholesky_products"].get<double>());
    EXPECT_GT(outcome.json["seconds"]["codes"].get<double>(),
              outcome.json["seconds"]["codes_products"].get<double>());
    ASSERT_EQ(outcome.json["layers"].size(), 14u);
    const bool tunes = algorithm == "gptq,autoround" || algorithm == "best";
    ASSERT_EQ(outcome.json["blocks"].size(), tunes ? 2u : 0u);
    for (const Json& block : outcome.json["blocks"]) {
      EXPECT_LE(block["loss_after"].get<double>(),
                block["loss_before"].get<double>());
    }
    for (const Json& layer : outcome.json["layers"]) {
      EXPECT_LE(layer["loss"].get<double>(),
                layer["rounding_loss"].get<double>());
      EXPECT_EQ(layer["tokens"], 600);
    }
    const CommandOutcome eval =
        RunQeff({"eval", "--model=" + folder_ + "/" + algorithm,
                 "--reference=" + model_, "--text=" + text_,
                 "--context_length=64", "--max_tokens=500"});
    EXPECT_EQ(eval.code, 0) << eval.err;
    EXPECT_FALSE(Exists(algorithm + ".partial"));
  }
}

// To a folder that both executors run alike, and on into a GGUF file.
TEST_F(QuantizeCommandTest, MseNeedsNoText) {
  const CommandOutcome outcome = Quantize({"--algorithm=mse"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("least squared error"));
  EXPECT_TRUE(Exists("out/model.safetensors"));
  const CommandOutcome refused =
      Quantize({"--algorithm=mse", Calibration()}, "refused");
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("--algorithm=rtn or mse"));
}

TEST_F(QuantizeCommandTest, SkipsBadTensors) {
  PoisonTestTensor(model_, "model.layers.1.mlp.down_proj.weight", 1);
  const CommandOutcome refused = Quantize({});
  EXPECT_EQ(refused.code, 6);
  EXPECT_THAT(refused.err, HasSubstr("--skip_bad_tensors"));
  for (const std::string algorithm :
       {"rtn", "gptq", "awq,gptq", "smoothquant"}) {
    SCOPED_TRACE(algorithm);
    std::vector<std::string> flags = {"--skip_bad_tensors",
                                      "--algorithm=" + algorithm};
    if (algorithm != "rtn") {
      flags.insert(flags.end(), {Calibration(), "--calibration_tokens=300",
                                 "--sequence_length=100", "--lm_head=int8"});
    }
    const CommandOutcome outcome = Quantize(flags, algorithm);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("1 linear layers kept"));
    ASSERT_EQ(outcome.json["skipped"].size(), 1u);
    EXPECT_EQ(outcome.json["skipped"][0]["reason"],
              "element [0, 1] is NaN or infinite");
    if (algorithm == "rtn") continue;
    const Json& lm_head = outcome.json["layers"].back();
    EXPECT_EQ(lm_head["module"], "lm_head");
    EXPECT_THAT(lm_head["fallback"].get<std::string>(),
                HasSubstr("inputs are not finite"));
  }
  for (const std::string algorithm : {"gptq,autoround", "rotate,rtn"}) {
    EXPECT_EQ(Quantize({"--skip_bad_tensors", "--algorithm=" + algorithm,
                        Calibration()})
                  .code,
              2);
  }
}

// Best is gptq and autoround.
TEST_F(QuantizeCommandTest, TimeLimits) {
  const std::vector<std::string> best = {
      "--scheme=int2_g32",     "--algorithm=best",
      "--iterations=100000",   "--calibration_tokens=300",
      "--sequence_length=100", Calibration()};
  const auto run = [&](const std::string& limit, const std::string& output) {
    std::vector<std::string> flags = best;
    flags.push_back("--time_limit=" + limit);
    return Quantize(flags, output);
  };
  // 100,000 iterations take minutes by any estimate, gptq of this model less
  // than a second.
  const CommandOutcome some = run("10s", "some");
  ASSERT_EQ(some.code, 0) << some.err;
  EXPECT_THAT(some.out,
              HasSubstr("time limit: gptq,autoround left out, about"));
  EXPECT_EQ(some.json["layers"].size(), 14u);
  EXPECT_EQ(some.json["blocks"].size(), 0u);
  const CommandOutcome none = run("1ns", "none");
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.err, HasSubstr("--time_limit=1ns: the least is mse"));
  EXPECT_FALSE(Exists("none"));
  EXPECT_EQ(run("0", "zero").code, 2);
  EXPECT_THAT(run("soon", "soon").err, HasSubstr("expected a duration"));
  EXPECT_EQ(
      Quantize({"--algorithm=gptq", "--time_limit=1h", Calibration()}, "other")
          .code,
      2);
}

// 12 layers of 3.5 million weights.
TEST_F(QuantizeCommandTest, LargeModelsAreNotTunedWithoutALimit) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "takes minutes";
#endif
  const std::string model = folder_ + "/large", output = folder_ + "/out";
  ASSERT_EQ(RunQeff({"synth", "--shape=smollm-135m", "--layers=12",
                     "--output=" + model})
                .code,
            0);
  const CommandOutcome outcome = RunQeff(
      {"quantize", "--model=" + model, "--output=" + output,
       "--scheme=int4_g32", "--algorithm=best", "--calibration_tokens=64",
       "--sequence_length=64", Calibration()});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out,
              HasSubstr("no --time_limit: gptq,autoround left out, about"));
  EXPECT_EQ(outcome.json["blocks"].size(), 0u);
}

// The choice of the beginning counts, whatever the limit is later.
TEST_F(QuantizeCommandTest, TimeLimitsWhenResuming) {
  const std::string model = folder_ + "/five";
  ASSERT_EQ(
      RunQeff({"synth", "--shape=tiny", "--layers=5", "--output=" + model})
          .code,
      0);
  const auto run = [&](const std::string& output,
                       const std::vector<std::string>& flags) {
    std::vector<std::string> arguments = {"quantize",
                                          "--model=" + model,
                                          "--scheme=int2_g32",
                                          "--algorithm=best",
                                          "--calibration_tokens=300",
                                          "--sequence_length=100",
                                          "--iterations=4",
                                          Calibration(),
                                          "--output=" + folder_ + "/" + output};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return RunQeff(arguments);
  };
  const pid_t child = fork();
  if (child == 0) {
    run("again", {"--time_limit=1h"});
    _exit(0);
  }
  for (int i = 0; i < 20000 && !Exists("again.partial/hidden_states.2"); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  kill(child, SIGKILL);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  ASSERT_FALSE(Exists("again"));
  const CommandOutcome whole = run("whole", {});
  ASSERT_EQ(whole.code, 0) << whole.err;
  EXPECT_EQ(whole.json["blocks"].size(), 5u);
  const CommandOutcome resumed = run("again", {"--time_limit=1ns", "--resume"});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr("resuming after"));
  EXPECT_EQ(resumed.json["blocks"].size(), 5u);
  EXPECT_EQ(ReadTestFile(folder_ + "/again/model.safetensors"),
            ReadTestFile(folder_ + "/whole/model.safetensors"));
}

TEST_F(QuantizeCommandTest, TimeLimitsWhenAnotherRunIsResumed) {
  std::vector<std::string> flags = {
      "--scheme=int2_g32",        "--algorithm=best",      "--iterations=2",
      "--calibration_tokens=300", "--sequence_length=100", Calibration()};
  ASSERT_EQ(mkdir((folder_ + "/again.partial").c_str(), 0777), 0);
  WriteTestFile(folder_ + "/again.partial/journal", "{\"autoround\": 2}\n");
  flags.insert(flags.end(), {"--time_limit=1ns", "--resume"});
  const CommandOutcome outcome = Quantize(flags, "again");
  // It is another run, which is said, and not that there is no time.
  EXPECT_EQ(outcome.code, 3) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("belongs to a run with another"));
}

TEST_F(QuantizeCommandTest, BlocksOfGgml) {
  for (const std::string scheme : {"q4_0", "q8_0"}) {
    SCOPED_TRACE(scheme);
    const std::string output = folder_ + "/" + scheme;
    const CommandOutcome quantized =
        RunQeff({"quantize", "--model=" + model_, "--output=" + output,
                 "--scheme=" + scheme, "--lm_head=q8_0"});
    ASSERT_EQ(quantized.code, 0) << quantized.err;
    EXPECT_THAT(quantized.out,
                HasSubstr("rows of 172 are not whole blocks of 32"));
    const double host = Kl(output, "host");
    // Activations are integers in the engine.
    EXPECT_NEAR(Kl(output, "engine"), host, 0.2 * host + 1e-4);
    const std::string file = output + ".gguf";
    const CommandOutcome exported = RunQeff(
        {"export", "--format=gguf", "--model=" + output, "--output=" + file});
    ASSERT_EQ(exported.code, 0) << exported.err;
    EXPECT_THAT(exported.out, HasSubstr("ffn_down.weight is f16"));
    // The embedding is Q8_0 there.
    EXPECT_NEAR(Kl(file, "host"), host, 0.2 * host + 1e-4);
  }
  const CommandOutcome refused =
      RunQeff({"quantize", "--model=" + model_, "--output=" + folder_ + "/k",
               "--scheme=q4_k"});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err,
              HasSubstr("down_proj: rows of 172 are not whole blocks of 256"));
}

// Every scheme that is no integers, by every algorithm, to folders that both
// executors run alike.
TEST_F(QuantizeCommandTest, CodebooksByEveryAlgorithm) {
  for (const std::string scheme :
       {"nf4", "fp8_e4m3", "mxfp4", "mxfp6", "mxint8"}) {
    const std::string output = folder_ + "/" + scheme;
    const std::vector<std::string> flags = {"quantize", "--model=" + model_,
                                            "--scheme=" + scheme,
                                            "--lm_head=" + scheme};
    std::vector<std::string> rounded = flags;
    rounded.push_back("--output=" + output);
    ASSERT_EQ(RunQeff(rounded).code, 0);
    const double rounding = Kl(output, "host");
    EXPECT_GT(rounding, 0);
    // Activations are integers in the engine.
    EXPECT_NEAR(Kl(output, "engine"), rounding, 0.2 * rounding + 1e-4);
    for (const std::string algorithm : {"awq", "gptq", "awq,gptq", "best"}) {
      SCOPED_TRACE(scheme + " " + algorithm);
      std::vector<std::string> solved = flags;
      solved.insert(solved.end(),
                    {"--output=" + output + algorithm, Calibration(),
                     "--algorithm=" + algorithm, "--calibration_tokens=300",
                     "--sequence_length=100"});
      const CommandOutcome quantized = RunQeff(solved);
      ASSERT_EQ(quantized.code, 0) << quantized.err;
      ASSERT_EQ(quantized.json["layers"].size(), 15u);
      for (const Json& layer : quantized.json["layers"]) {
        EXPECT_EQ(layer["scheme"], scheme);
        EXPECT_LE(layer["loss"].get<double>(),
                  layer["rounding_loss"].get<double>());
      }
      if (algorithm != "gptq") continue;
      EXPECT_LT(Kl(output + algorithm, "host"), 1.2 * rounding);
    }
  }
}

TEST_F(QuantizeCommandTest, CodebooksHaveNoZeroPoints) {
  for (const std::string scheme : {"nf4", "mxint8", "q4_0", "w8a8"}) {
    const CommandOutcome refused =
        RunQeff({"quantize", "--model=" + model_, "--output=" + folder_ + "/a",
                 "--scheme=" + scheme, "--asymmetric"});
    EXPECT_EQ(refused.code, kExitUsage);
    EXPECT_THAT(refused.err, HasSubstr("--asymmetric has no meaning with "
                                       "--scheme=" +
                                       scheme));
  }
}

// Of the schemes that are listed, within bits and within bytes.
TEST_F(QuantizeCommandTest, Budgets) {
  const std::vector<std::string> sample = {
      Calibration(), "--calibration_tokens=600", "--sequence_length=100"};
  const auto spend = [&](std::vector<std::string> flags) {
    std::vector<std::string> arguments = {"quantize", "--model=" + model_};
    arguments.insert(arguments.end(), sample.begin(), sample.end());
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return RunQeff(arguments);
  };
  const CommandOutcome bits = spend(
      {"--budget=4.5bpw", "--algorithm=gptq", "--output=" + folder_ + "/bits"});
  ASSERT_EQ(bits.code, 0) << bits.err;
  EXPECT_THAT(bits.out, HasSubstr("KL divergence of the parts"));
  EXPECT_LE(bits.json["quantized_bits_per_weight"].get<double>(), 4.5 + 1e-9);
  EXPECT_GT(bits.json["quantized_bits_per_weight"].get<double>(), 4.25);
  EXPECT_EQ(RunQeff({"eval", "--model=" + folder_ + "/bits", "--text=" + text_,
                     "--context_length=64", "--max_tokens=100"})
                .code,
            0);
  const std::string bytes = bits.json["bytes_after"].dump();
  const CommandOutcome two =
      spend({"--budget=" + bytes + "B", "--scheme=int3_g32,int8", "--dry_run",
             "--output=" + folder_ + "/bytes"});
  ASSERT_EQ(two.code, 0) << two.err;
  EXPECT_LE(two.json["bytes_after"], bits.json["bytes_after"]);
  for (const Json& tensor : two.json["tensors"]) {
    EXPECT_THAT(tensor["scheme"].get<std::string>(),
                ::testing::AnyOf("kept", "int3_g32", "int8"));
  }
  for (const auto& [flags, message] :
       std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"--budget=4.5"}, "--budget: expected bits a weight"},
           {{"--budget=2bpw"}, "budget"},
           {{"--budget=4bpw", "--scheme=int4_g32,,"}, "--scheme"},
           {{}, "--scheme or --budget is required"}}) {
    std::vector<std::string> with_output = flags;
    with_output.push_back("--output=" + folder_ + "/none");
    const CommandOutcome outcome = spend(with_output);
    EXPECT_NE(outcome.code, 0);
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_FALSE(Exists("none"));
  }
}

// To folders and packages that the engine runs; float activations ignore what
// is said about inputs.
TEST_F(QuantizeCommandTest, W8A8) {
  const auto kl = [&](const std::string& source, const std::string& flag) {
    const CommandOutcome eval =
        RunQeff({"eval", source, "--reference=" + model_, "--text=" + text_,
                 "--context_length=64", "--max_tokens=500", flag});
    EXPECT_EQ(eval.code, 0) << eval.err;
    return eval.json["kl_mean"].get<double>();
  };
  const std::vector<std::vector<std::string>> runs = {
      {"--scheme=w8a8"},
      {"--scheme=w8a8", "--algorithm=smoothquant", Calibration()},
      {"--scheme=w8a8_static", Calibration()},
      {"--scheme=w8a8_static", "--algorithm=smoothquant,gptq", Calibration(),
       "--observer=percentile"}};
  for (size_t i = 0; i < runs.size(); ++i) {
    const std::string output = std::to_string(i);
    SCOPED_TRACE(output);
    std::vector<std::string> flags = runs[i];
    if (i > 0) {
      flags.insert(flags.end(),
                   {"--calibration_tokens=600", "--sequence_length=100"});
    }
    const CommandOutcome outcome = Quantize(flags, output);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.json["layout"], "compressed-tensors");
    const std::string folder = "--model=" + folder_ + "/" + output;
    const double rounded = kl(folder, "--activations=fast");
    EXPECT_LT(rounded, 0.01);
    EXPECT_LT(kl(folder, "--activations=f32"), rounded);
    const std::string package = folder_ + "/" + output + ".qeff";
    const CommandOutcome compiled =
        RunQeff({"compile", folder, "--output=" + package});
    ASSERT_EQ(compiled.code, 0) << compiled.err;
    EXPECT_EQ(kl("--package=" + package, "--activations=fast"), rounded);
  }
  const CommandOutcome refused = Quantize({"--scheme=w8a8_static"}, "refused");
  EXPECT_EQ(refused.code, kExitUsage);
  EXPECT_THAT(refused.err, HasSubstr("needs --calibration"));
}

// What the layers' first solver counts of inputs is counted for it.
TEST_F(QuantizeCommandTest, TunedBlocksAndAnLmHeadWithStaticInputs) {
  const CommandOutcome outcome = Quantize(
      {"--algorithm=gptq,autoround", "--iterations=2", "--lm_head=w8a8_static",
       Calibration(), "--calibration_tokens=300", "--sequence_length=100"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.json["layers"].size(), 15u);
}

TEST_F(QuantizeCommandTest, TooFewTokensIsSaid) {
  const CommandOutcome outcome =
      Quantize({"--algorithm=gptq", Calibration(), "--calibration_tokens=50"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("has 172 inputs, for which 688 tokens"));
  EXPECT_THAT(outcome.json["warning"].get<std::string>(),
              HasSubstr("688 tokens are needed"));
}

TEST_F(QuantizeCommandTest, UsageErrors) {
  const std::vector<std::vector<std::string>> wrong = {
      {"--algorithm=gptq"},
      {"--algorithm=gptq,awq", Calibration()},
      {Calibration()},
      {"--resume"},
      {"--algorithm=gptq", Calibration(), "--resume", "--restart"}};
  for (const auto& flags : wrong) {
    EXPECT_EQ(Quantize(flags).code, kExitUsage) << flags.back();
  }
  EXPECT_FALSE(Exists("out"));
  EXPECT_FALSE(Exists("out.partial"));
}

TEST_F(QuantizeCommandTest, BadTexts) {
  const std::string bad = folder_ + "/bad";
  const auto outcome = [&](const std::string& text) {
    WriteTestFile(bad, text);
    return Quantize({"--algorithm=gptq", "--calibration=" + bad});
  };
  EXPECT_THAT(outcome("").err, HasSubstr("bad: the file is empty"));
  EXPECT_THAT(outcome(std::string("a\0b", 3)).err,
              HasSubstr("expected text, found a NUL byte at 1"));
  EXPECT_EQ(outcome("").code, kExitInvalidInput);
  EXPECT_EQ(Quantize({"--algorithm=gptq", "--calibration=/no/such"}).code,
            kExitInvalidInput);
  EXPECT_EQ(
      Quantize({"--algorithm=gptq", Calibration(), "--calibration_tokens=0"})
          .code,
      kExitInvalidInput);
  EXPECT_FALSE(Exists("out.partial"));
}

TEST_F(QuantizeCommandTest, MemoryLimitBelowWhatIsPossible) {
  const CommandOutcome outcome =
      Quantize({"--algorithm=gptq", Calibration(), "--memory_limit=1000000"});
  EXPECT_EQ(outcome.code, kExitResource);
  EXPECT_THAT(outcome.err, HasSubstr("memory limit: expected at least"));
  EXPECT_FALSE(Exists("out.partial"));
}

// Once a block is done: what is finished is kept, and the same command goes on
// to the bytes of a run that nobody interrupted.
TEST_F(QuantizeCommandTest, InterruptKeepsWhatIsFinished) {
  const std::string model = folder_ + "/deep";
  ASSERT_EQ(
      RunQeff({"synth", "--shape=tiny", "--layers=12", "--output=" + model})
          .code,
      0);
  const auto quantize = [&](const std::string& output,
                            const std::vector<std::string>& flags = {}) {
    std::vector<std::string> arguments = {"quantize",
                                          "--model=" + model,
                                          "--scheme=int4_g32",
                                          "--algorithm=gptq",
                                          Calibration(),
                                          "--calibration_tokens=1000",
                                          "--sequence_length=100",
                                          "--output=" + folder_ + "/" + output};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return RunQeff(arguments);
  };
  // A signal that comes too late is nobody's.
  struct sigaction ignore = {}, before;
  ignore.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGINT, &ignore, &before), 0);
  std::thread user([&] {
    for (int i = 0; i < 20000 && !Exists("a.partial/hidden_states.2"); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    kill(getpid(), SIGINT);
  });
  const CommandOutcome interrupted = quantize("a");
  user.join();
  sigaction(SIGINT, &before, nullptr);
  EXPECT_EQ(interrupted.code, 130) << interrupted.err;
  EXPECT_THAT(interrupted.err, HasSubstr("--resume goes on"));
  EXPECT_FALSE(Exists("a"));
  ASSERT_TRUE(Exists("a.partial/journal"));

  const CommandOutcome resumed = quantize("a", {"--resume"});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr("resuming after"));
  ASSERT_EQ(quantize("b").code, 0);
  EXPECT_EQ(ReadTestFile(folder_ + "/a/model.safetensors"),
            ReadTestFile(folder_ + "/b/model.safetensors"));
}

TEST_F(QuantizeCommandTest, ExistingOutputAndUnfinishedWork) {
  ASSERT_EQ(mkdir((folder_ + "/out.partial").c_str(), 0777), 0);
  const std::vector<std::string> flags = {"--algorithm=gptq", Calibration(),
                                          "--calibration_tokens=600"};
  CommandOutcome outcome = Quantize(flags);
  EXPECT_EQ(outcome.code, kExitInvalidInput);
  EXPECT_THAT(outcome.err, HasSubstr("--resume"));
  std::vector<std::string> again = flags;
  again.push_back("--restart");
  EXPECT_EQ(Quantize(again).code, 0);
  outcome = Quantize(flags);
  EXPECT_EQ(outcome.code, kExitInvalidInput);
  EXPECT_THAT(outcome.err, HasSubstr("exists already"));
}

}  // namespace
}  // namespace qeff
