// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/quantize_algorithm.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/quant/autoround_solver.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

struct NamedSteps {
  const char* name;
  absl::optional<FoldSearch> folds;
  bool gptq = false;
  bool autoround = false;
  bool best = false;
  Rounding rounding = Rounding::kRange;
};

constexpr absl::optional<FoldSearch> kNoFolds;

constexpr NamedSteps kAlgorithms[] = {
    {"rtn", kNoFolds},
    {"mse", kNoFolds, false, false, false, Rounding::kLeastSquares},
    {"awq", FoldSearch::kAwq},
    {"smoothquant", FoldSearch::kSmoothQuant},
    {"gptq", kNoFolds, true},
    {"awq,gptq", FoldSearch::kAwq, true},
    {"smoothquant,gptq", FoldSearch::kSmoothQuant, true},
    {"autoround", kNoFolds, false, true},
    {"gptq,autoround", kNoFolds, true, true},
    {"awq,gptq,autoround", FoldSearch::kAwq, true, true},
    {"best", kNoFolds, false, false, true}};

bool QuantizesInputs(const QuantizePlan& plan) {
  return std::any_of(plan.tensors.begin(), plan.tensors.end(),
                     [](const PlannedTensor& tensor) {
                       return tensor.quantized() &&
                              tensor.scheme.inputs != InputCodes::kNone;
                     });
}

std::string Names() {
  return absl::StrJoin(kAlgorithms, "; ",
                       [](std::string* out, const NamedSteps& steps) {
                         out->append(steps.name);
                       });
}

}  // namespace

std::string QuantizeAlgorithmHelp() {
  return absl::StrCat(
      "How codes are chosen: ", Names(),
      ". rtn rounds to the nearest; mse does so with scales of the least "
      "squared error; awq first scales up what carries much; "
      "smoothquant first scales down large inputs, which are rounded, too; "
      "gptq makes up for the error of each weight in those that follow; "
      "autoround then learns codes, scales and norms of a block by gradients, "
      "which takes long; best is what measured best at these bits. All but rtn "
      "and mse need --calibration. \"rotate,\" may stand before each of them, "
      "as in "
      "rotate,rtn: hidden states and values are rotated first, so that no "
      "channel is much larger than others; for models with RMSNorm, whose "
      "lm_head gets a weight of its own.");
}

absl::StatusOr<QuantizeAlgorithm> ParseQuantizeAlgorithm(
    absl::string_view text) {
  QuantizeAlgorithm algorithm;
  absl::string_view rest = text;
  algorithm.rotate = absl::ConsumePrefix(&rest, "rotate,");
  for (const NamedSteps& steps : kAlgorithms) {
    if (rest != steps.name) continue;
    algorithm.folds = steps.folds;
    algorithm.gptq = steps.gptq;
    algorithm.autoround = steps.autoround;
    algorithm.best = steps.best;
    algorithm.rounding = steps.rounding;
    return algorithm;
  }
  return InvalidInputError("expected one of ", Names(),
                           ", each after \"rotate,\" if wanted; found \"",
                           absl::Utf8SafeCHexEscape(text), "\"");
}

QuantizeAlgorithm WithBestSteps(QuantizeAlgorithm algorithm,
                                const Transformer& model,
                                const QuantizePlan& plan) {
  if (!algorithm.best) return algorithm;
  algorithm.best = false;
  algorithm.autoround = plan.QuantizedBitsPerWeight() <= kMostBitsForTuning &&
                        WhyNotTuned(model.map(), plan).empty();
  if (QuantizesInputs(plan)) {
    algorithm.folds = FoldSearch::kSmoothQuant;
  } else {
    algorithm.gptq = true;
  }
  return algorithm;
}

}  // namespace qeff
