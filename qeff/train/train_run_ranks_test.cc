// SPDX-License-Identifier: Apache-2.0
//
// Runs of several ranks that one of them is to end at any point of a step.

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/train/thread_reducer_testutil.h"
#include "qeff/train/train_run.h"
#include "qeff/train/train_run_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

constexpr int kRanks = 2;
constexpr int64_t kSteps = 4;
constexpr int64_t kForEver = 1000000;

struct Outcome {
  std::vector<absl::Status> statuses = std::vector<absl::Status>(kRanks);
  std::vector<int64_t> asked = std::vector<int64_t>(kRanks);
  std::vector<float> weights;
  TrainRunResult result;
};

// Runs in `folder` until rank `stops` has asked `until` times whether to go on.
Outcome RunIn(const std::string& folder, int stops, int64_t until) {
  Outcome outcome;
  RunRanks(kRanks, [&](GradientReducer* reducer) {
    const size_t rank = static_cast<size_t>(reducer->rank());
    TrainRunOptions options;
    options.steps = kSteps;
    options.save_every = 3;
    options.eval_every = 2;
    options.check = [&]() -> absl::Status {
      return outcome.asked[rank]++ < until || reducer->rank() != stops
                 ? absl::OkStatus()
                 : absl::CancelledError("enough");
    };
    TrainStepOptions step = Trained::Options();
    step.batch_size = 8;
    step.check = options.check;
    Trained trained({}, 1, step, InitialWeights(Spec(), 1), reducer);
    TrainWork work;
    work.step = trained.step.get();
    work.weights = trained.weights.get();
    // One rank has more of them than the other.
    work.held_out.resize(3);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(trained.text.Get(1000000, &work.held_out[i]).ok());
    }
    work.description = Json{{"kind", "a"}};
    work.write = [&] {
      outcome.weights = AllOf(trained.weights->weights());
      return absl::OkStatus();
    };
    const auto result = RunTraining(work, folder, options);
    outcome.statuses[rank] = result.status();
    if (result.ok() && rank == 0) outcome.result = *result;
  });
  return outcome;
}

TEST(TrainRunRanksTest, AllStopWithinSteps) {
  const Outcome whole = RunIn(MakeTestFolder(), 0, kForEver);
  ASSERT_TRUE(whole.statuses[0].ok()) << whole.statuses[0];
  for (int stops = 0; stops < kRanks; ++stops) {
    const int64_t all = whole.asked[static_cast<size_t>(stops)];
    EXPECT_GT(all, 50);
    int64_t kept = 0;
    for (int64_t until = 0; until < all; until += 2) {
      SCOPED_TRACE(until);
      const std::string folder = MakeTestFolder();
      const Outcome part = RunIn(folder, stops, until);
      for (const absl::Status& status : part.statuses) {
        EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
        EXPECT_THAT(std::string(status.message()),
                    HasSubstr(stops == 0 ? "enough" : "process 1: enough"));
      }
      const Outcome rest = RunIn(folder, 0, kForEver);
      ASSERT_TRUE(rest.statuses[0].ok()) << rest.statuses[0];
      EXPECT_EQ(rest.weights, whole.weights);
      EXPECT_EQ(rest.result.held_out_before, whole.result.held_out_before);
      EXPECT_EQ(rest.result.held_out_after, whole.result.held_out_after);
      kept += rest.result.first_step;
    }
    EXPECT_GT(kept, 0);
  }
}

}  // namespace
}  // namespace qeff
