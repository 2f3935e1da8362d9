// SPDX-License-Identifier: Apache-2.0
//
// Steps and runs on a tiny model.

#include "qeff/train/train_run.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/train/model_weights.h"
#include "qeff/train/train_files.h"
#include "qeff/train/train_run_testutil.h"
#include "qeff/train/train_step.h"
#include "qeff/util/mutate_testutil.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

TEST(TrainStepTest, LearnsToCount) {
  for (const auto kind : {OptimizerKind::kAdamW, OptimizerKind::kAdafactor}) {
    TrainStepOptions options = Trained::Options();
    options.optimizer.kind = kind;
    Trained trained({}, 2, options);
    EXPECT_NEAR(trained.Loss(), std::log(static_cast<double>(kVocab)), 0.1);
    StepReport report;
    for (int64_t i = 0; i < 60; ++i) {
      report = *trained.step->Run(i);
      EXPECT_EQ(report.bad, "");
      EXPECT_EQ(report.counted, 4 * (kLength - 2));
      EXPECT_EQ(report.tokens, 4 * kLength);
    }
    // Chance of the next of 64 tokens that were seen about 30 times each.
    EXPECT_LT(report.terms[0].sum, 1.5);
    EXPECT_LT(trained.Loss(), 2.0);
  }
}

TEST(TrainStepTest, TheSameBitsForAnyThreadsAndRecompute) {
  TrainStepOptions recompute = Trained::Options();
  recompute.recompute = true;
  Trained one({}, 1), two({}, 2), again({}, 2, recompute);
  for (int64_t i = 0; i < 3; ++i) {
    const StepReport a = *one.step->Run(i), b = *two.step->Run(i),
                     c = *again.step->Run(i);
    EXPECT_EQ(a.terms[0].sum, b.terms[0].sum);
    EXPECT_EQ(a.gradient_norm, b.gradient_norm);
    EXPECT_EQ(a.gradient_norm, c.gradient_norm);
  }
  EXPECT_EQ(AllOf(one.weights->weights()), AllOf(two.weights->weights()));
  EXPECT_EQ(AllOf(one.weights->weights()), AllOf(again.weights->weights()));
}

TEST(TrainStepTest, MicroBatchesGiveTheSameGradientToRounding) {
  TrainStepOptions whole = Trained::Options();
  whole.micro_batch_size = 4;
  Trained a, b({}, 2, whole);
  const StepReport x = *a.step->Run(0), y = *b.step->Run(0);
  // Sums of the same terms in another order: some rounding errors of 2^-24.
  EXPECT_NEAR(x.gradient_norm, y.gradient_norm, 1e-6 * x.gradient_norm);
  EXPECT_NEAR(x.terms[0].sum, y.terms[0].sum, 1e-6);
}

TEST(TrainStepTest, RefusesSizesThatDoNotFit) {
  Trained trained;
  const auto error = [&](const TrainStepOptions& options) {
    return std::string(TrainStep::Create(trained.spec, options,
                                         trained.weights.get(),
                                         &trained.objective, &trained.text,
                                         nullptr, trained.pool.get())
                           .status()
                           .message());
  };
  TrainStepOptions options = Trained::Options();
  options.batch_size = 3;
  EXPECT_THAT(error(options), HasSubstr("expected a multiple of 2"));
  options = Trained::Options();
  options.sequence_length = 100000;
  EXPECT_THAT(error(options), HasSubstr("--sequence_length: expected at most"));
  options = Trained::Options();
  options.clip_norm = std::nan("");
  EXPECT_THAT(error(options), HasSubstr("--clip_norm"));
}

TEST(TrainStepTest, AMaskStaysAndTheRestChanges) {
  ModelWeights initial = InitialWeights(Spec(), 1);
  Matrix<float>& up = initial.blocks[1].up.weight;
  for (int64_t r = 0; r < up.rows(); ++r) {
    for (int64_t c = 0; c < up.cols(); c += 2) up.row(r)[c] = 0.0f;
  }
  // One zero by accident is no mask.
  initial.blocks[0].up.weight.row(0)[0] = 0.0f;
  Trained trained({}, 2, Trained::Options(), std::move(initial));
  for (int64_t i = 0; i < 5; ++i) ASSERT_TRUE(trained.step->Run(i).ok());
  const ModelWeights& after = trained.weights->weights();
  const Matrix<float>& trained_up = after.blocks[1].up.weight;
  for (int64_t r = 0; r < trained_up.rows(); ++r) {
    for (int64_t c = 0; c < trained_up.cols(); ++c) {
      EXPECT_EQ(trained_up.row(r)[c] == 0.0f, c % 2 == 0);
    }
  }
  EXPECT_NE(after.blocks[0].up.weight.row(0)[0], 0.0f);
}

TEST(TrainStepTest, TrainsWhatASchemeRoundsTo) {
  TrainableOptions options;
  options.scheme = *ParseQuantScheme("int4_g32");
  Trained trained(options);
  for (int64_t i = 0; i < 40; ++i) ASSERT_TRUE(trained.step->Run(i).ok());
  EXPECT_LT(trained.Loss(), 4.0);
  Matrix<float> rounded(
      trained.weights->unrounded(*trained.pool).blocks[0].down.weight.rows(),
      172);
  const auto& unrounded =
      trained.weights->unrounded(*trained.pool).blocks[0].down.weight;
  std::copy(unrounded.span().begin(), unrounded.span().end(),
            rounded.span().begin());
  EXPECT_NE(std::memcmp(rounded.data(),
                        trained.weights->weights().blocks[0].down.weight.data(),
                        rounded.span().size() * sizeof(float)),
            0);
  RoundToScheme(*options.scheme, rounded.view(), *trained.pool);
  EXPECT_EQ(std::memcmp(rounded.data(),
                        trained.weights->weights().blocks[0].down.weight.data(),
                        rounded.span().size() * sizeof(float)),
            0);
}

TEST(TrainStepTest, RunsWithWeightsOfBF16) {
  TrainableOptions options;
  options.bf16_weights = true;
  Trained trained(options);
  for (int64_t i = 0; i < 40; ++i) ASSERT_TRUE(trained.step->Run(i).ok());
  EXPECT_LT(trained.Loss(), 2.5);
  int64_t finer = 0;
  for (const float value : AllOf(trained.weights->weights())) {
    EXPECT_EQ(value, BF16ToFloat(FloatToBF16(value)));
  }
  for (const float value : AllOf(trained.weights->unrounded(*trained.pool))) {
    finer += value != BF16ToFloat(FloatToBF16(value));
  }
  EXPECT_GT(finer, 10000);
}

TEST(TrainStepTest, AdaptersLeaveTheWeightsAndLearn) {
  TrainableOptions options;
  options.lora_rank = 4;
  TrainStepOptions step = Trained::Options();
  step.schedule.peak = 2e-2;
  Trained trained(options, 2, step);
  const std::vector<float> before = AllOf(InitialWeights(Spec(), 1));
  const double loss = trained.Loss();
  EXPECT_EQ(AllOf(trained.weights->weights()), before);
  for (int64_t i = 0; i < 30; ++i) ASSERT_TRUE(trained.step->Run(i).ok());
  // Little: what random embeddings hold stays.
  EXPECT_LT(trained.Loss(), loss - 0.1);
  const ModelWeights& after = trained.weights->unrounded(*trained.pool);
  EXPECT_EQ(AllOf(after).size(), before.size());
  EXPECT_EQ(after.tokens.row(3)[5], InitialWeights(Spec(), 1).tokens.row(3)[5]);
  EXPECT_NE(after.blocks[0].q.weight.row(0)[0],
            InitialWeights(Spec(), 1).blocks[0].q.weight.row(0)[0]);
}

TrainRunOptions RunOptions() {
  TrainRunOptions options;
  options.steps = 12;
  options.save_every = 3;
  options.eval_every = 4;
  return options;
}

struct RunOutcome {
  absl::Status status;
  TrainRunResult result;
  std::vector<float> weights;
  int64_t asked = 0;  // how often whether to go on
};

// 0 when there is none.
int64_t CountLines(const std::string& path) {
  std::ifstream file(path);
  return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
}

enum class Stops { kBetweenSteps, kWithinSteps };

// Runs in `folder` until it has asked `until` times whether to go on, or to the
// end.
RunOutcome RunIn(const std::string& folder, int64_t until = 1000,
                 TrainRunOptions options = RunOptions(),
                 const std::string& kind = "a",
                 Stops stops = Stops::kBetweenSteps) {
  RunOutcome outcome;
  options.check = [&]() -> absl::Status {
    return outcome.asked++ < until ? absl::OkStatus()
                                   : absl::CancelledError("enough");
  };
  TrainStepOptions step_options = Trained::Options();
  if (stops == Stops::kWithinSteps) step_options.check = options.check;
  Trained trained({}, 2, step_options);
  TrainWork work;
  work.step = trained.step.get();
  work.weights = trained.weights.get();
  work.held_out.emplace_back();
  EXPECT_TRUE(trained.text.Get(1000000, &work.held_out[0]).ok());
  work.description = Json{{"kind", kind}};
  work.write = [&] {
    outcome.weights = AllOf(trained.weights->weights());
    return absl::OkStatus();
  };
  const auto result = RunTraining(work, folder, options);
  outcome.status = result.status();
  if (result.ok()) outcome.result = *result;
  return outcome;
}

// In the midst of a step, or of measuring the held-out loss: what was done
// before is kept, all of it.
TEST(TrainRunTest, StopsWithinSteps) {
  const auto run = [](const std::string& folder, int64_t until) {
    TrainRunOptions options = RunOptions();
    options.metrics = folder + "/metrics";
    return RunIn(folder, until, options, "a", Stops::kWithinSteps);
  };
  const RunOutcome whole = run(MakeTestFolder(), 1000000);
  ASSERT_TRUE(whole.status.ok()) << whole.status;
  EXPECT_GT(whole.asked, 100);
  int64_t measured_again = 0;
  for (int64_t until = 0; until < whole.asked; until += 5) {
    SCOPED_TRACE(until);
    const std::string folder = MakeTestFolder();
    const RunOutcome part = run(folder, until);
    EXPECT_EQ(part.status.code(), absl::StatusCode::kCancelled);
    const int64_t done = CountLines(folder + "/metrics") - 1;
    const RunOutcome rest = run(folder, 1000000);
    ASSERT_TRUE(rest.status.ok()) << rest.status;
    EXPECT_EQ(rest.result.first_step, std::max<int64_t>(done, 0));
    EXPECT_EQ(rest.weights, whole.weights);
    EXPECT_EQ(rest.result.held_out_before, whole.result.held_out_before);
    EXPECT_EQ(rest.result.held_out_after, whole.result.held_out_after);
    // Of the beginning, and of 12 steps.
    const int64_t lines = CountLines(folder + "/metrics");
    EXPECT_GE(lines, 13);
    EXPECT_LE(lines, 14);
    measured_again += lines - 13;
  }
  EXPECT_GT(measured_again, 0);
}

TEST(TrainRunTest, GoesOnToTheSameBits) {
  const RunOutcome whole = RunIn(MakeTestFolder());
  ASSERT_TRUE(whole.status.ok()) << whole.status;
  EXPECT_GT(whole.result.held_out_before, whole.result.held_out_after);
  for (const int64_t until : {1, 2, 3, 5, 11}) {
    const std::string folder = MakeTestFolder();
    const RunOutcome part = RunIn(folder, until);
    EXPECT_EQ(part.status.code(), absl::StatusCode::kCancelled);
    EXPECT_THAT(std::string(part.status.message()),
                HasSubstr("the same command with --resume"));
    EXPECT_TRUE(HasTrainState(folder));
    const RunOutcome rest = RunIn(folder);
    ASSERT_TRUE(rest.status.ok()) << rest.status;
    EXPECT_EQ(rest.result.first_step, until);
    EXPECT_EQ(rest.weights, whole.weights) << until;
    EXPECT_EQ(rest.result.held_out_before, whole.result.held_out_before);
    EXPECT_EQ(rest.result.held_out_after, whole.result.held_out_after);
  }
}

// Runs in `folder` in another process, which `stop` ends from within.
int ExitOfChild(const std::string& folder,
                const std::function<void(const StepProgress&)>& stop) {
  const pid_t child = fork();
  if (child == 0) {
    TrainRunOptions options = RunOptions();
    options.progress = stop;
    const RunOutcome outcome = RunIn(folder, 1000, options);
    _exit(outcome.status.code() == absl::StatusCode::kUnavailable ? 4 : 1);
  }
  int status = 1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

TEST(TrainRunTest, AKilledRunGoesOnFromItsLastState) {
  const RunOutcome whole = RunIn(MakeTestFolder());
  Random random(5);
  for (int i = 0; i < 10; ++i) {
    // Three times in the same run.
    const std::string folder = MakeTestFolder();
    int64_t step = 0;
    for (int kill = 0; kill < 3 && step < 12; ++kill) {
      step += 1 + static_cast<int64_t>(random.NextBelow(5));
      const int status = ExitOfChild(folder, [&](const StepProgress& progress) {
        if (progress.step >= step) raise(SIGKILL);
      });
      // It may have been at its end already.
      EXPECT_TRUE(WIFSIGNALED(status) || step > 12);
    }
    const RunOutcome rest = RunIn(folder);
    ASSERT_TRUE(rest.status.ok()) << rest.status;
    EXPECT_EQ(rest.result.first_step % 3, 0);
    EXPECT_EQ(rest.weights, whole.weights);
  }
}

TEST(TrainRunTest, AStateThatTheDiskHasNoRoomForLeavesTheLast) {
  const RunOutcome whole = RunIn(MakeTestFolder());
  const std::string folder = MakeTestFolder();
  const int status = ExitOfChild(folder, [](const StepProgress& progress) {
    if (progress.step != 4) return;
    const rlimit limit = {100000, 100000};
    setrlimit(RLIMIT_FSIZE, &limit);
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 4);
  EXPECT_EQ(
      ListTestFolder(folder),
      (std::vector<std::string>{"journal", "state-00000003.safetensors"}));
  const RunOutcome rest = RunIn(folder);
  ASSERT_TRUE(rest.status.ok()) << rest.status;
  EXPECT_EQ(rest.result.first_step, 3);
  EXPECT_EQ(rest.weights, whole.weights);
}

TEST(TrainRunTest, KeepsTheLastStates) {
  const std::string folder = MakeTestFolder();
  ASSERT_TRUE(RunIn(folder).status.ok());
  EXPECT_EQ(ListTestFolder(folder),
            (std::vector<std::string>{"journal", "state-00000009.safetensors",
                                      "state-00000012.safetensors"}));
}

TEST(TrainRunTest, RefusesAnotherRunsAndDamagedStates) {
  const std::string folder = MakeTestFolder();
  RunIn(folder, 5);
  const RunOutcome other = RunIn(folder, 1000, RunOptions(), "b");
  EXPECT_EQ(other.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(other.status.message()),
              HasSubstr("belongs to a run with another kind"));
  std::string state = ReadTestFile(folder + "/state-00000005.safetensors");
  state.back() = static_cast<char>(state.back() ^ 1);
  WriteTestFile(folder + "/state-00000005.safetensors", state);
  const RunOutcome damaged = RunIn(folder);
  EXPECT_EQ(damaged.status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(damaged.status.message()),
              HasSubstr("state-00000005.safetensors: expected the checksum"));
  WriteTestFile(folder + "/state-00000005.safetensors",
                state.substr(0, state.size() / 2));
  EXPECT_FALSE(RunIn(folder).status.ok());
}

TEST(TrainRunTest, TheLastLineOfTheJournalMaySayAnything) {
  const std::string folder = MakeTestFolder(), path = folder + "/journal";
  RunIn(folder, 5);
  const std::string journal = ReadTestFile(path);
  const size_t last = journal.rfind('\n', journal.size() - 2) + 1;
  const std::string state = folder + "/state-00000005.safetensors";
  const std::string kept = ReadTestFile(state);
  const auto run = [&](const std::string& line) {
    WriteTestFile(path, absl::StrCat(journal.substr(0, last), line, "\n"));
    const absl::Status status = RunIn(folder, 0).status;
    WriteTestFile(state, kept);
    return status.code() == absl::StatusCode::kCancelled ? absl::OkStatus()
                                                         : status;
  };
  const Json line = *ParseJson(journal.substr(last), "line");
  EXPECT_GT(ReadVariants(line, folder, run), 20);
  // A mean of losses that are not finite is written as null.
  Json undefined = line;
  undefined["loss"] = nullptr;
  EXPECT_TRUE(run(undefined.dump()).ok());
}

TEST(TrainRunTest, MetricsAreThoseOfAWholeRunAfterAResume) {
  const std::string folder = MakeTestFolder(), file = MakeTestFolder() + "/m";
  TrainRunOptions options = RunOptions();
  options.metrics = file;
  options.clock = [] { return absl::UnixEpoch(); };
  RunIn(folder, 5, options);
  // As a killed run leaves it: lines that no state has.
  WriteTestFile(file, ReadTestFile(file) + "{\"step\": 6}\n{\"st");
  ASSERT_TRUE(RunIn(folder, 1000, options).status.ok());
  const std::string resumed = ReadTestFile(file);
  ASSERT_TRUE(RunIn(MakeTestFolder(), 1000, options).status.ok());
  EXPECT_EQ(resumed, ReadTestFile(file));
  EXPECT_THAT(resumed, HasSubstr("\"gradient_norm\""));
  EXPECT_THAT(resumed, HasSubstr("\"held_out_loss\""));
}

TEST(TrainRunTest, LeavesBadStepsOutAndEndsAfterFiveInARow) {
  for (const bool recovers : {true, false}) {
    Trained trained;
    trained.objective.bad_from = 2 * 4;  // two batches a step
    if (recovers) trained.objective.bad_until = 2 * 8;
    TrainWork work;
    work.step = trained.step.get();
    work.weights = trained.weights.get();
    work.description = Json{{"kind", "a"}};
    work.write = [] { return absl::OkStatus(); };
    std::vector<float> before;
    std::vector<std::string> bad;
    TrainRunOptions options = RunOptions();
    options.progress = [&](const StepProgress& progress) {
      if (progress.step == 4) before = AllOf(trained.weights->weights());
      if (!progress.report.bad.empty()) {
        bad.push_back(progress.report.bad);
        EXPECT_EQ(AllOf(trained.weights->weights()), before);
      }
    };
    const std::string folder = MakeTestFolder();
    const auto result = RunTraining(work, folder, options);
    if (recovers) {
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->skipped, 4);
      EXPECT_EQ(trained.step->applied_steps(), 8);
    } else {
      EXPECT_EQ(result.status().code(), absl::StatusCode::kDataLoss);
      EXPECT_THAT(std::string(result.status().message()),
                  HasSubstr("step 9: the gradient of lm_head is not finite, as "
                            "in the 4 steps before"));
      EXPECT_THAT(std::string(result.status().message()),
                  HasSubstr("the state after step 3 is kept"));
      EXPECT_EQ(bad.size(), 5u);
    }
  }
}

}  // namespace
}  // namespace qeff
