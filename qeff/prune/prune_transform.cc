// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/prune_transform.h"

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "qeff/prune/prune_model.h"
#include "qeff/util/partial_folder.h"
#include "qeff/util/status.h"

namespace qeff {

std::string PruneTransform::name() const {
  return absl::StrCat("prune(", PruneMethodName(options_.method), ",",
                      SparsityPatternName(options_.pattern), ")");
}

absl::StatusOr<TransformReport> PruneTransform::Apply(const Transformer& model,
                                                      const std::string& output,
                                                      ThreadPool& pool) {
  QEFF_ASSIGN_OR_RETURN(const PrunePlan plan,
                        PlanPruning(model.checkpoint(), model.map(), options_));
  if (options_.method == PruneMethod::kMagnitude) {
    QEFF_RETURN_IF_ERROR(
        PruneByMagnitude(model, plan, output, nullptr, pool).status());
  } else if (sample_.sequences.empty()) {
    return InvalidInputError(name(), ": needs text to calibrate on");
  } else {
    const auto pruned =
        PruneCalibrated(model, plan, sample_, output, PruneRunOptions(), pool);
    if (!pruned.ok()) {
      // Nobody would resume it; but it may be work that was there before.
      if (!absl::IsAlreadyExists(pruned.status())) {
        const auto left = PartialFolder::Open(output, PartialWork::kRestart);
        if (left.ok()) (*left)->Discard();
      }
      return pruned.status();
    }
  }
  TransformReport report;
  report.name = name();
  report.applied = true;
  report.tensors = static_cast<int64_t>(plan.layers.size());
  report.detail =
      std::string(absl::StripTrailingAsciiWhitespace(FormatPrunePlan(plan)));
  return report;
}

}  // namespace qeff
