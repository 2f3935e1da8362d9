// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/quantize_limit.h"

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/quant/autoround_solver.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Of mse, on one thread: 30 to 40 were measured (qeff/quant/README.md).
constexpr double kMseNanosecondsOfWeight = 50;

double MseSeconds(const QuantizePlan& plan, int threads) {
  double weights = 0;
  for (const PlannedTensor& tensor : plan.tensors) {
    if (!tensor.quantized()) continue;
    weights +=
        static_cast<double>(tensor.rows) * static_cast<double>(tensor.cols);
  }
  return weights * kMseNanosecondsOfWeight * 1e-9 / threads;
}

bool NeedsText(const QuantizePlan& plan) {
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.quantized() && tensor.scheme.inputs == InputCodes::kStatic) {
      return true;
    }
  }
  return false;
}

int64_t WeightsOfBlocks(const Transformer& model) {
  const TransformerSpec& spec = model.spec();
  return spec.num_layers * spec.block_linear_elems();
}

struct Candidate {
  std::string name;
  QuantizeAlgorithm algorithm;
};

std::vector<Candidate> Candidates(const QuantizeAlgorithm& best,
                                  const QuantizePlan& plan) {
  std::vector<Candidate> candidates;
  QuantizeAlgorithm algorithm = best;
  const std::string solver = best.gptq ? "gptq" : "smoothquant";
  if (best.autoround) {
    candidates.push_back({absl::StrCat(solver, ",autoround"), algorithm});
    algorithm.autoround = false;
  }
  candidates.push_back({solver, algorithm});
  if (!NeedsText(plan)) {
    QuantizeAlgorithm mse;
    mse.rotate = best.rotate;
    mse.rounding = Rounding::kLeastSquares;
    candidates.push_back({"mse", mse});
  }
  return candidates;
}

std::string About(double seconds) {
  return absl::FormatDuration(
      absl::Ceil(absl::Seconds(seconds), absl::Milliseconds(1)));
}

}  // namespace

absl::StatusOr<absl::Duration> ParseTimeLimit(const std::string& text,
                                              bool best) {
  if (text.empty()) return absl::InfiniteDuration();
  if (!best) return UsageError("--time_limit is for --algorithm=best");
  absl::Duration limit;
  if (absl::ParseDuration(text, &limit) && limit > absl::ZeroDuration()) {
    return limit;
  }
  return UsageError(absl::StrCat(
      "--time_limit: expected a duration above 0, as 90s or 10m, found \"",
      absl::Utf8SafeCHexEscape(text), "\""));
}

void SetSteps(const QuantizeAlgorithm& algorithm, int iterations,
              CalibratedQuantizeOptions* options) {
  options->solver.folds = algorithm.folds;
  options->solver.propagate = algorithm.gptq;
  options->autoround_iterations = algorithm.autoround ? iterations : 0;
}

absl::StatusOr<QuantizeAlgorithm> FitTimeLimit(
    const QuantizeAlgorithm& best, absl::Duration limit, int iterations,
    const Transformer& model, const QuantizePlan& plan,
    const TokenSample& sample, const std::string& output,
    CalibratedQuantizeOptions options, const CommandEnv& env) {
  if (options.unfinished == PartialWork::kResume) {
    const absl::optional<bool> tuned = UnfinishedRunTunes(output);
    if (tuned.has_value()) {
      QuantizeAlgorithm algorithm = best;
      algorithm.autoround = *tuned;
      return algorithm;
    }
  }
  const bool limited = limit != absl::InfiniteDuration();
  const bool may_tune =
      limited || WeightsOfBlocks(model) <= kMostWeightsForTuning;
  if (!limited && (may_tune || !best.autoround)) return best;
  std::vector<Candidate> candidates = Candidates(best, plan);
  for (Candidate& candidate : candidates) {
    double seconds = 0;
    if (candidate.algorithm.calibrates()) {
      SetSteps(candidate.algorithm, iterations, &options);
      QEFF_ASSIGN_OR_RETURN(
          seconds, EstimateCalibrated(model, plan, sample, options, *env.pool));
    } else {
      seconds = MseSeconds(plan, env.pool->num_threads());
    }
    if (absl::Seconds(seconds) <= limit &&
        (may_tune || !candidate.algorithm.autoround)) {
      return candidate.algorithm;
    }
    if (&candidate == &candidates.back()) {
      return UsageError(absl::StrCat(
          "--time_limit=", absl::FormatDuration(limit), ": the least is ",
          candidate.name, ", which takes about ", About(seconds)));
    }
    std::fprintf(env.out, "%s: %s left out, about %s\n",
                 limited ? "time limit" : "no --time_limit",
                 candidate.name.c_str(), About(seconds).c_str());
  }
  return best;  // not reached: there is a candidate
}

}  // namespace qeff
