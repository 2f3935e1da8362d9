// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/quantize_budget.h"

#include <cstdint>
#include <cstdio>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "qeff/quant/layer_groups.h"
#include "qeff/quant/sensitivity.h"
#include "qeff/util/progress.h"
#include "qeff/util/status.h"
#include "tools/interrupt.h"

namespace qeff {

absl::Status SpendBudget(const std::shared_ptr<const Transformer>& model,
                         const Budget& budget,
                         absl::Span<const QuantScheme> schemes,
                         const TokenSample& sample,
                         const std::string& scratch_path, const CommandEnv& env,
                         QuantizeOptions* options) {
  QEFF_ASSIGN_OR_RETURN(
      const QuantizePlan plan,
      PlanQuantization(model->checkpoint(), model->map(), *options));
  QEFF_ASSIGN_OR_RETURN(const double bits, BudgetBitsPerWeight(budget, plan));
  QEFF_ASSIGN_OR_RETURN(
      std::vector<LayerGroup> groups,
      FindLayerGroups(model->map(), plan, schemes, bits,
                      options->layout == QuantizedLayout::kCompressedTensors));
  // What no measurement can change is refused before one begins.
  QEFF_RETURN_IF_ERROR(AllocateSchemes(budget, plan, schemes, groups).status());
  const InterruptScope interrupt;
  absl::optional<Progress> progress;
  SensitivityOptions measure;
  measure.scratch_path = scratch_path;
  measure.check = [&] { return interrupt.Check(); };
  measure.progress = [&](int64_t done, int64_t total) {
    if (!progress.has_value()) progress.emplace("sensitivity", total);
    progress->Advance(done - progress->done());
  };
  QEFF_RETURN_IF_ERROR(MeasureSensitivities(model, schemes,
                                            SensitivitySample(*model, sample),
                                            measure, &groups, *env.pool));
  progress.reset();
  QEFF_ASSIGN_OR_RETURN(const SchemeAllocation allocation,
                        AllocateSchemes(budget, plan, schemes, groups));
  std::fprintf(env.out, "%s",
               FormatAllocation(allocation, schemes, groups).c_str());
  std::fflush(env.out);
  options->modules = allocation.modules;
  return absl::OkStatus();
}

}  // namespace qeff
