// SPDX-License-Identifier: Apache-2.0
//
// A whole training run: steps, saved states, held-out losses, metrics, and the
// trained model in a new folder. It can be ended at any moment and resumed, to
// the same bytes.

#ifndef QEFF_TRAIN_TRAIN_RUN_H_
#define QEFF_TRAIN_TRAIN_RUN_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/train/objective.h"
#include "qeff/train/token_batch.h"
#include "qeff/train/train_step.h"
#include "qeff/train/trainable_weights.h"
#include "qeff/util/json.h"

namespace qeff {

// What a step has to tell, beside its report.
struct StepProgress {
  int64_t step = 0;   // done, this one included
  int64_t steps = 0;  // of the run
  StepReport report;
  double seconds = 0;            // of the step
  double tokens_per_second = 0;  // inputs
  double held_out_loss = -1;     // where it was measured
  // 6 * parameters * tokens / seconds, of the machine's peak; 0: not known.
  double peak_fraction = 0;
};

struct TrainRunOptions {
  int64_t steps = 1000;
  int64_t save_every = 200;  // steps; the last one is saved always
  int64_t kept_states = 2;
  int64_t eval_every = 200;  // steps; also before the first and after the last
  std::string metrics;       // a file for a JSON object a step; may be empty
  // The step's loss, norm or gradient was not finite this often in a row: the
  // run ends.
  int64_t most_bad_steps = 5;
  // Called between steps; an error ends the run after its state was saved, and
  // is what it returns from then on. The step's own (TrainStepOptions) may be
  // the same, so that a long step is given up. May be null.
  std::function<absl::Status()> check;
  // Called after each step, and with step 0 when the held-out loss of the
  // beginning was measured. May be null.
  std::function<void(const StepProgress&)> progress;
  std::function<absl::Time()> clock = absl::Now;
};

struct TrainRunResult {
  int64_t first_step = 0;  // where the run went on
  int64_t skipped = 0;     // steps with values that were not finite, in all
  double loss = 0;         // of the last step
  double held_out_before = -1;  // of the beginning, if it was measured
  double held_out_after = -1;
};

// What a run works on. Borrowed.
struct TrainWork {
  TrainStep* step = nullptr;
  TrainableWeights* weights = nullptr;
  int64_t parameters = 0;            // of the model, all
  double peak_flops = 0;             // of the machine in float32; 0: not known
  std::vector<TokenBatch> held_out;  // may be empty
  // Everything that the result depends on: see CalibratedWork::description.
  Json description;
  // Writes the trained model to the folder and commits it.
  std::function<absl::Status()> write;
};

// Trains in `folder`, an OUTPUT.partial that is open (PartialFolder::path),
// going on with what it holds of this run. Errors: those of TrainFiles,
// TrainStep::Run and the callbacks; kInvalidArgument when the processes of the
// step's reducer do not have the same description or got apart; kDataLoss when
// too many steps in a row were bad, naming where. The state of a run that ends
// with an error is that of the last save (for an error of `check` the step
// before it); the message says so where there is one. HasTrainState then tells
// whether to keep the folder.
//
// With a reducer all its processes call this and get the same, but for peaks
// and times. Files, `folder` included, are those of the first; a run goes on
// with any number of processes. An error that one of them alone gets leaves
// the others waiting, but for those of `check`, of files and of `write`.
absl::StatusOr<TrainRunResult> RunTraining(const TrainWork& work,
                                           const std::string& folder,
                                           const TrainRunOptions& options);

}  // namespace qeff

#endif  // QEFF_TRAIN_TRAIN_RUN_H_
