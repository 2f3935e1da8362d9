// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/prune_plan.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr PruneMethod kMethods[] = {
    PruneMethod::kMagnitude, PruneMethod::kWanda, PruneMethod::kSparseGpt};

absl::Status CheckDense(const Checkpoint& checkpoint) {
  for (const char* key : {"quantization_config", "compression_config"}) {
    const auto found = checkpoint.config().find(key);
    if (found == checkpoint.config().end() || found->is_null()) continue;
    return InvalidInputError(checkpoint.config_path(), ": ", key,
                             ": the model is quantized; prune the original "
                             "model (that of a GGUF file: qeff import "
                             "--dequantize), with --scheme to quantize it as "
                             "well");
  }
  return absl::OkStatus();
}

// The name without the number of the block.
std::string KindOf(const PrunedLayer& layer) {
  const std::string number = absl::StrCat(".", layer.block, ".");
  const size_t at = layer.module.find(number);
  if (at == std::string::npos) return layer.module;
  return layer.module.substr(at + number.size());
}

}  // namespace

absl::StatusOr<PruneMethod> ParsePruneMethod(absl::string_view name) {
  for (const PruneMethod method : kMethods) {
    if (name == PruneMethodName(method)) return method;
  }
  return InvalidInputError("\"", name,
                           "\": expected magnitude, wanda or sparsegpt");
}

absl::string_view PruneMethodName(PruneMethod method) {
  switch (method) {
    case PruneMethod::kMagnitude:
      return "magnitude";
    case PruneMethod::kWanda:
      return "wanda";
    case PruneMethod::kSparseGpt:
      return "sparsegpt";
  }
  return "";
}

const PrunedLayer* PrunePlan::Find(absl::string_view module) const {
  for (const PrunedLayer& layer : layers) {
    if (layer.module == module) return &layer;
  }
  return nullptr;
}

int64_t PrunePlan::Weights() const {
  int64_t weights = 0;
  for (const PrunedLayer& layer : layers) weights += layer.weights();
  return weights;
}

int64_t PrunePlan::Removed() const {
  int64_t removed = 0;
  for (const PrunedLayer& layer : layers) {
    removed += layer.rows * layer.pattern.Removed(layer.cols);
  }
  return removed;
}

absl::StatusOr<PrunePlan> PlanPruning(const Checkpoint& checkpoint,
                                      const ModelMap& map,
                                      const PruneOptions& options) {
  QEFF_RETURN_IF_ERROR(CheckDense(checkpoint));
  // Any scheme finds the layers and checks their tensors.
  QuantizeOptions quantize;
  QEFF_ASSIGN_OR_RETURN(quantize.scheme, ParseQuantScheme("int8"));
  quantize.ignore = options.ignore;
  QEFF_ASSIGN_OR_RETURN(const QuantizePlan found,
                        PlanQuantization(checkpoint, map, quantize));
  PrunePlan plan;
  plan.method = options.method;
  plan.pattern = options.pattern;
  plan.config = checkpoint.config();
  for (const PlannedTensor& tensor : found.tensors) {
    if (!tensor.quantized()) continue;
    PrunedLayer layer;
    layer.name = tensor.name;
    layer.module = tensor.module;
    layer.dtype = tensor.dtype;
    layer.rows = tensor.rows;
    layer.cols = tensor.cols;
    layer.transposed = tensor.transposed;
    layer.block = tensor.block;
    layer.pattern = options.pattern;
    plan.layers.push_back(std::move(layer));
  }
  std::stable_sort(plan.layers.begin(), plan.layers.end(),
                   [](const PrunedLayer& a, const PrunedLayer& b) {
                     return a.block < b.block;
                   });
  DescribeSparsity("uniform", &plan);
  return plan;
}

void DescribeSparsity(absl::string_view allocation, PrunePlan* plan) {
  plan->config["sparsity"] = {
      {"method", std::string(PruneMethodName(plan->method))},
      {"pattern", SparsityPatternName(plan->pattern)},
      {"allocation", std::string(allocation)}};
}

std::string FormatPrunePlan(const PrunePlan& plan) {
  struct Kind {
    int64_t layers = 0, weights = 0, removed = 0;
    double least = 1, most = 0;
  };
  std::map<std::string, Kind> kinds;
  for (const PrunedLayer& layer : plan.layers) {
    Kind& kind = kinds[KindOf(layer)];
    const int64_t removed = layer.rows * layer.pattern.Removed(layer.cols);
    const double share =
        static_cast<double>(removed) / static_cast<double>(layer.weights());
    ++kind.layers;
    kind.weights += layer.weights();
    kind.removed += removed;
    kind.least = std::min(kind.least, share);
    kind.most = std::max(kind.most, share);
  }
  std::string text = absl::StrFormat("%-28s %8s %14s %14s %s\n", "layers",
                                     "count", "weights", "removed", "share");
  const auto line = [&](const std::string& name, const Kind& kind) {
    absl::StrAppendFormat(
        &text, "%-28s %8d %14d %14d %.4f", name, kind.layers, kind.weights,
        kind.removed,
        static_cast<double>(kind.removed) / static_cast<double>(kind.weights));
    if (kind.most - kind.least > 5e-5) {
      absl::StrAppendFormat(&text, " (%.4f to %.4f)", kind.least, kind.most);
    }
    text += "\n";
  };
  Kind all;
  for (const auto& kind : kinds) {
    line(kind.first, kind.second);
    all.layers += kind.second.layers;
    all.weights += kind.second.weights;
    all.removed += kind.second.removed;
    all.least = std::min(all.least, kind.second.least);
    all.most = std::max(all.most, kind.second.most);
  }
  line("all", all);
  return text;
}

}  // namespace qeff
