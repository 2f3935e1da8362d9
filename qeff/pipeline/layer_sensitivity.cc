// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/layer_sensitivity.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "qeff/quant/layer_groups.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/quant/sensitivity.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// What two cores do in 10 s at half of their peak in float32.
constexpr double kFlops = 2e12;
constexpr double kLeastTokens = 64, kMostTokens = 512;

// The first `tokens` of `sample`.
TokenSample Beginning(const TokenSample& sample, int64_t tokens) {
  TokenSample beginning;
  for (const std::vector<int32_t>& sequence : sample.sequences) {
    const int64_t taken = std::min(static_cast<int64_t>(sequence.size()),
                                   tokens - beginning.tokens);
    if (taken == 0) break;
    beginning.sequences.emplace_back(sequence.begin(),
                                     sequence.begin() + taken);
    beginning.tokens += taken;
  }
  return beginning;
}

}  // namespace

int64_t LayerSensitivityTokens(const Transformer& model) {
  double weights = 0, sets = 0;
  for (const BlockNames& block : model.map().blocks) {
    for (const LinearModule& linear : block.linears) {
      weights += static_cast<double>(linear.out_features) *
                 static_cast<double>(linear.in_features);
    }
    sets += 4;
  }
  // Each set of layers has a model of its own, which differs from the original
  // from their block on: half of the blocks, in the mean.
  const double flops_a_token = std::max(1.0, sets * weights);
  return static_cast<int64_t>(
      std::clamp(kFlops / flops_a_token, kLeastTokens, kMostTokens));
}

absl::StatusOr<Json> LayerSensitivities(
    const std::shared_ptr<const Transformer>& model, const QuantScheme& scheme,
    const TokenSample& sample, const std::function<absl::Status()>& check,
    ThreadPool* pool) {
  QuantizeOptions quantize;
  quantize.scheme = scheme;
  QEFF_ASSIGN_OR_RETURN(
      const QuantizePlan plan,
      PlanQuantization(model->checkpoint(), model->map(), quantize));
  const QuantScheme schemes[] = {scheme};
  QEFF_ASSIGN_OR_RETURN(std::vector<LayerGroup> groups,
                        FindLayerGroups(model->map(), plan, schemes,
                                        plan.QuantizedBitsPerWeight()));
  SensitivityOptions options;
  options.check = check;
  QEFF_RETURN_IF_ERROR(MeasureSensitivities(
      model, schemes,
      SensitivitySample(*model,
                        Beginning(sample, LayerSensitivityTokens(*model))),
      options, &groups, *pool));
  Json list = Json::array();
  for (const LayerGroup& group : groups) {
    const std::string role = InputsName(group.inputs);
    list.push_back({{"name", absl::StrCat("block ", group.block, " ", role)},
                    {"role", role},
                    {"block", group.block},
                    {"scheme", QuantSchemeName(scheme)},
                    {"sensitivity", group.divergence}});
  }
  return list;
}

}  // namespace qeff
