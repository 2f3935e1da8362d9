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
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "qeff/calibration/calibrated_run.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/gptq_solver.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/quant/quantize_report.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// With allow_bad_inputs, layers whose inputs are not finite are rounded and get
// no folds (kBadInputs, kNotScaled) instead of ending the run. Not with
// autoround, which looks at all inputs of a block. For weights see
// QuantizeOptions::skip_bad_tensors.
struct CalibratedQuantizeOptions : CalibratedRunOptions {
  GptqSolverOptions solver;  // the algorithms
  // Tunes blocks afterwards (autoround_solver.h), unless 0.
  int autoround_iterations = 0;
};

struct CalibratedQuantizeResult : CalibratedRunResult {
  std::vector<LayerReport> layers;  // of earlier runs, too
  std::vector<BlockReport> blocks;  // the same, with autoround
  SolverWork solver;
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
// `output`, as RunCalibrated does. Its errors, and: kDataLoss naming the tensor
// with a weight, or the layer with inputs, that are not finite;
// kInvalidArgument for layers that autoround cannot tune, naming one;
// kResourceExhausted when memory is out.
absl::StatusOr<CalibratedQuantizeResult> QuantizeCalibrated(
    const Transformer& model, const QuantizePlan& plan,
    const TokenSample& sample, const std::string& output,
    const CalibratedQuantizeOptions& options, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_QUANT_CALIBRATED_QUANTIZE_H_
