// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/quantize_text.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "qeff/format/quant_scheme.h"

namespace qeff {
namespace {

// The scheme, or what happens instead.
std::string FateName(const PlannedTensor& tensor) {
  if (tensor.quantized()) return QuantSchemeName(tensor.scheme);
  return tensor.action == PlannedTensor::Action::kDrop ? "dropped" : "kept";
}

std::string Gigabytes(uint64_t bytes) {
  return absl::StrFormat("%.2f GB", static_cast<double>(bytes) / 1e9);
}

}  // namespace

std::string SchemeHelp() {
  return "intB with one scale a row, or intB_gN with one scale a group of N "
         "weights of a row: int8, int4_g128, int2_g32, ... B is 2 to 8, N a "
         "multiple of 8 up to 65536. w8a8 is int8 whose inputs are rounded "
         "to 8 bits, too, with a scale of each token; w8a8_static with one "
         "scale, which needs --calibration. nf4, nf4_gN, fp8_e4m3, mxfp4, "
         "mxfp6 and mxint8 are floats of few bits and OCP's microscaling "
         "formats. q8_0, q4_0, q4_k, q5_k and q6_k are blocks of ggml, "
         "which export writes into a GGUF file as they are.";
}

Json PlanJson(const QuantizePlan& plan) {
  Json tensors = Json::array(), skipped = Json::array();
  for (const PlannedTensor& tensor : plan.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"scheme", FateName(tensor)},
                       {"reason", tensor.reason},
                       {"bits_per_weight", tensor.BitsPerWeight()},
                       {"bytes_before", tensor.bytes_before},
                       {"bytes_after", tensor.bytes_after}});
    if (!tensor.skipped) continue;
    skipped.push_back({{"name", tensor.name}, {"reason", tensor.reason}});
  }
  return Json{{"layout", std::string(QuantizedLayoutName(plan.layout))},
              {"layout_reason", plan.layout_reason},
              {"unties_lm_head", plan.unties_lm_head},
              {"bytes_before", plan.BytesBefore()},
              {"bytes_after", plan.BytesAfter()},
              {"quantized_bits_per_weight", plan.QuantizedBitsPerWeight()},
              {"skipped", skipped},
              {"tensors", tensors}};
}

std::string SkippedWarning(const QuantizePlan& plan) {
  std::string text;
  for (const PlannedTensor& tensor : plan.tensors) {
    if (!tensor.skipped) continue;
    absl::StrAppend(&text, "warning: kept ",
                    absl::Utf8SafeCHexEscape(tensor.name), ": ", tensor.reason,
                    "\n");
  }
  return text;
}

std::string BadInputsWarning(const std::vector<LayerReport>& layers) {
  int64_t count = 0;
  std::string first;
  for (const LayerReport& layer : layers) {
    if (!absl::StartsWith(layer.fallback, kBadInputs)) continue;
    if (count++ == 0) first = layer.module;
  }
  if (count == 0) return "";
  return absl::StrCat("warning: ", count, " layers, ",
                      absl::Utf8SafeCHexEscape(first),
                      " first, got inputs that are not finite and were "
                      "rounded without them\n");
}

std::string FormatEstimate(const RunEstimate& estimate, int64_t tokens) {
  const WalkPlan& walk = estimate.walk;
  std::string text = absl::StrCat(
      "calibration: ", tokens, " tokens; memory about ",
      Gigabytes(walk.peak_bytes), walk.spill ? ", activations in files" : "",
      "; ", Gigabytes(walk.scratch_bytes), " of disk meanwhile; about ",
      absl::FormatDuration(
          absl::Ceil(absl::Seconds(estimate.seconds), absl::Seconds(1))),
      "\n");
  if (!estimate.warning.empty()) {
    absl::StrAppend(&text, "warning: ", estimate.warning, "\n");
  }
  if (estimate.steps_done > 0) {
    absl::StrAppend(&text, "resuming after ", estimate.steps_done, " steps\n");
  }
  return text;
}

std::string FormatTimes(const CalibratedQuantizeResult& result) {
  const WalkTimes& times = result.times;
  const auto part = [](const char* name, double seconds, double flops) {
    std::string text = absl::StrFormat("%s %.1f s", name, seconds);
    if (flops > 0 && seconds > 0) {
      absl::StrAppendFormat(&text, " (%.0f GFLOP/s)", flops / seconds / 1e9);
    }
    return text;
  };
  const RunEstimate& estimate = result.estimate;
  // Rates are of whole runs.
  const bool whole = estimate.steps_done == 0;
  return absl::StrCat(
      "time: ", part("weights", times.load, 0), ", ",
      part("forward", times.forward, whole ? estimate.walk.forward_flops : 0),
      ", ",
      part("Hessians", times.hessian, whole ? estimate.walk.hessian_flops : 0),
      ", ", part("solver", times.solve, 0), " (",
      part("Cholesky", result.solver.factor_seconds, 0), ", of it ",
      part("products", result.solver.factor_products.seconds,
           result.solver.factor_products.flops),
      ", ",
      part("gaps", result.solver.correction.seconds,
           result.solver.correction.flops),
      ", ", part("codes", result.solver.codes_seconds, 0), ", of it ",
      part("products", result.solver.codes_products.seconds,
           result.solver.codes_products.flops),
      "), ", part("tuning", times.tune, whole ? estimate.tune_flops : 0), ", ",
      part("saving", times.save, 0), "\n");
}

Json TimesJson(const WalkTimes& times) {
  return {{"weights", times.load},     {"forward", times.forward},
          {"hessians", times.hessian}, {"solver", times.solve},
          {"tuning", times.tune},      {"saving", times.save}};
}

void AddResult(const CalibratedQuantizeResult& result, Json* json) {
  Json layers = Json::array();
  for (const LayerReport& layer : result.layers) {
    layers.push_back(layer.ToJson());
  }
  (*json)["layers"] = std::move(layers);
  Json blocks = Json::array();
  for (const BlockReport& block : result.blocks) {
    blocks.push_back(block.ToJson());
  }
  (*json)["blocks"] = std::move(blocks);
  Json seconds = TimesJson(result.times);
  seconds["cholesky"] = result.solver.factor_seconds;
  seconds["cholesky_products"] = result.solver.factor_products.seconds;
  seconds["gaps"] = result.solver.correction.seconds;
  seconds["codes"] = result.solver.codes_seconds;
  seconds["codes_products"] = result.solver.codes_products.seconds;
  (*json)["seconds"] = std::move(seconds);
  (*json)["warning"] = result.estimate.warning;
}

}  // namespace qeff
