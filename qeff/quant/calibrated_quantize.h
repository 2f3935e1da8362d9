// SPDX-License-Identifier: Apache-2.0
//
// Carries out a quantization plan with calibration data: GPTQ, block by block,
// in little memory, and resumable after the process was killed at any point.
// Without calibration data see quantize_checkpoint.h.
//
//   QEFF_ASSIGN_OR_RETURN(TokenSample sample, SampleTokens(ids, bos, {}));
//   QEFF_ASSIGN_OR_RETURN(
//       CalibratedQuantizeResult result,
//       QuantizeCalibrated(*model, plan, sample, output, {}, *pool));
//   std::fputs(FormatReport(result.layers).c_str(), stdout);

#ifndef QEFF_QUANT_CALIBRATED_QUANTIZE_H_
#define QEFF_QUANT_CALIBRATED_QUANTIZE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "qeff/calibration/block_walk.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/calibration/walk_plan.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/gptq_solver.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/quant/quantize_report.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/partial_folder.h"

namespace qeff {

// What a run will take, known before it begins.
struct CalibratedQuantizeEstimate {
  WalkPlan walk;
  double solver_flops = 0;
  double tune_flops = 0;
  double seconds = 0;      // by a short measurement of the machine
  int64_t steps_done = 0;  // by an earlier run that is resumed
  // Why the sample is too small for the widest layer; empty if it is not.
  std::string warning;
};

struct CalibratedQuantizeOptions {
  GptqSolverOptions solver;  // the algorithms
  // Tunes blocks afterwards (autoround_solver.h), unless 0.
  int autoround_iterations = 0;
  // Layers whose inputs are not finite are rounded (kBadInputs) instead of
  // ending the run. Not with folds or autoround, which look at all inputs of a
  // block. For weights see QuantizeOptions::skip_bad_tensors.
  bool skip_bad_inputs = false;
  uint64_t memory_limit_bytes = 0;  // of resident memory, about; 0: none
  PartialWork unfinished = PartialWork::kRefuse;
  CheckpointWriterOptions writer;
  // Called once everything is checked, before work begins. May be null.
  std::function<void(const CalibratedQuantizeEstimate&)> planned;
  // As WalkOptions.
  std::function<absl::Status()> check;
  std::function<void(int64_t steps_done, int64_t steps)> progress;
};

struct CalibratedQuantizeResult {
  std::vector<LayerReport> layers;  // of earlier runs, too
  std::vector<BlockReport> blocks;  // the same, with autoround
  CalibratedQuantizeEstimate estimate;
  WalkTimes times;  // of this run
  SolverWork solver;
  // An earlier run had finished everything; nothing else is set.
  bool was_complete = false;
};

// The seconds of the estimate of a run from its beginning, which is not begun.
// Measures the machine for about 50 ms. Errors: those of QuantizeCalibrated
// that its arguments alone decide about.
absl::StatusOr<double> EstimateCalibrated(
    const Transformer& model, const QuantizePlan& plan,
    const TokenSample& sample, const CalibratedQuantizeOptions& options,
    ThreadPool& pool);

// Whether the unfinished run of `output` tunes blocks; nullopt where there is
// none that can be read.
absl::optional<bool> UnfinishedRunTunes(const std::string& output);

// Writes the model that `plan` (made from `model`) describes to the new folder
// `output`. The bytes depend on the arguments only: not on the pool, and not on
// where earlier runs were interrupted. Errors: kAlreadyExists when `output`
// exists, or unfinished work with kRefuse; kInvalidArgument for tokens that the
// model does not have and for unfinished work of a run with other arguments
// (naming the first that differs); kDataLoss naming the tensor with a weight,
// or the layer with inputs, that are not finite; kResourceExhausted when the
// memory limit cannot be kept; kInvalidArgument for layers that autoround
// cannot tune, naming one; kUnavailable when `model` changed meanwhile or the
// disk fails; those of options.check. The unfinished work of a run that ends
// with an error is kept in OUTPUT.partial (the message says so), unless no
// block was finished.
absl::StatusOr<CalibratedQuantizeResult> QuantizeCalibrated(
    const Transformer& model, const QuantizePlan& plan,
    const TokenSample& sample, const std::string& output,
    const CalibratedQuantizeOptions& options, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_QUANT_CALIBRATED_QUANTIZE_H_
