// SPDX-License-Identifier: Apache-2.0
//
// --time_limit of `qeff quantize`: what best leaves out.

#ifndef QEFF_TOOLS_COMMANDS_QUANTIZE_LIMIT_H_
#define QEFF_TOOLS_COMMANDS_QUANTIZE_LIMIT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/quant/calibrated_quantize.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/transformer/transformer.h"
#include "tools/command.h"
#include "tools/commands/quantize_algorithm.h"

namespace qeff {

// Reads "90s", "10m", ...; infinite if empty. Errors: usage, unless it is above
// 0 and of an algorithm that is `best`.
absl::StatusOr<absl::Duration> ParseTimeLimit(const std::string& text,
                                              bool best);

// The options of a run with `algorithm`'s steps, `iterations` of autoround.
void SetSteps(const QuantizeAlgorithm& algorithm, int iterations,
              CalibratedQuantizeOptions* options);

// The first of these whose estimate is within `limit`: `best` (WithBestSteps),
// `best` without autoround, mse. Without a limit (InfiniteDuration) it is the
// first, or the second for models of more than kMostWeightsForTuning. What is
// left out, and how long it would have taken, is printed. Where `options`
// resume, and there is unfinished work at `output`, what that run began with
// instead. Errors: usage, with the time of the last of them, if none is within
// the limit; those of EstimateCalibrated.
absl::StatusOr<QuantizeAlgorithm> FitTimeLimit(
    const QuantizeAlgorithm& best, absl::Duration limit, int iterations,
    const Transformer& model, const QuantizePlan& plan,
    const TokenSample& sample, const std::string& output,
    CalibratedQuantizeOptions options, const CommandEnv& env);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_QUANTIZE_LIMIT_H_
