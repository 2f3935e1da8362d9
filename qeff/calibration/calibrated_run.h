// SPDX-License-Identifier: Apache-2.0
//
// A run that changes a model with calibration data and writes the result to a
// new folder: planned before it begins, within a memory limit, and resumable
// after the process was killed at any point. What it does to the layers is a
// solver's matter; quantization and pruning are such runs.

#ifndef QEFF_CALIBRATION_CALIBRATED_RUN_H_
#define QEFF_CALIBRATION_CALIBRATED_RUN_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/calibration/block_walk.h"
#include "qeff/calibration/layer_solver.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/calibration/walk_plan.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/json.h"
#include "qeff/util/partial_folder.h"

namespace qeff {

// What is done, and what becomes of it.
struct CalibratedWork {
  LayerSolver* solver = nullptr;
  // Gives the solver where to write, before its first Solve or Restore.
  std::function<void(CheckpointWriter*)> set_writer;
  bool lm_head = false;       // whether the solver changes it
  uint64_t solver_bytes = 0;  // its memory, besides inputs and layers
  double solver_flops = 0;
  double tune_flops = 0;  // of LayerSolver::TuneBlock
  // All arguments that the result depends on, besides model and sample, and a
  // "version" that changes with the code's results: work of a run with
  // another description is not resumed. An object.
  Json description;
  std::vector<TensorInfo> tensors;  // of the output
  // Of these, those that are copied from the model as they are. The solver
  // writes the others.
  std::vector<std::string> copied;
  Json config;  // the config.json to write
};

// What a run will take, known before it begins.
struct RunEstimate {
  WalkPlan walk;
  double solver_flops = 0;
  double tune_flops = 0;
  double seconds = 0;      // by a short measurement of the machine
  int64_t steps_done = 0;  // by an earlier run that is resumed
  // Why the sample is too small for the widest layer; empty if it is not.
  std::string warning;
};

struct CalibratedRunOptions {
  // As WalkOptions.
  bool allow_bad_inputs = false;
  uint64_t memory_limit_bytes = 0;  // of resident memory, about; 0: none
  PartialWork unfinished = PartialWork::kRefuse;
  CheckpointWriterOptions writer;
  // Called once everything is checked, before work begins. May be null.
  std::function<void(const RunEstimate&)> planned;
  // As WalkOptions.
  std::function<absl::Status()> check;
  std::function<void(int64_t steps_done, int64_t steps)> progress;
};

struct CalibratedRunResult {
  RunEstimate estimate;
  WalkTimes times;  // of this run
  // An earlier run had finished everything; nothing else is set, and the
  // solver was not asked for anything.
  bool was_complete = false;
};

// The estimate of a run from its beginning, which is not begun. Measures the
// machine for about 50 ms. Errors: those of PlanWalk.
absl::StatusOr<RunEstimate> EstimateRun(const Transformer& model,
                                        const TokenSample& sample,
                                        const CalibratedWork& work,
                                        uint64_t memory_limit_bytes,
                                        ThreadPool& pool);

// Writes the model that `work` describes to the new folder `output`. The bytes
// depend neither on the pool nor on where earlier runs were interrupted.
// Errors: kAlreadyExists when `output` exists, or unfinished work with kRefuse;
// kInvalidArgument for unfinished work of a run with another description
// (naming the first member that differs); those of PlanWalk, WalkBlocks and
// CheckpointWriter; kUnavailable when `model` changed meanwhile. The unfinished
// work of a run that ends with an error is kept in OUTPUT.partial (the message
// says so), unless no step was finished. Throws std::bad_alloc.
absl::StatusOr<CalibratedRunResult> RunCalibrated(
    const Transformer& model, const TokenSample& sample,
    const CalibratedWork& work, const std::string& output,
    const CalibratedRunOptions& options, ThreadPool& pool);

// The description of the unfinished run of `output`; null where there is none
// that can be read.
Json UnfinishedDescription(const std::string& output);

}  // namespace qeff

#endif  // QEFF_CALIBRATION_CALIBRATED_RUN_H_
