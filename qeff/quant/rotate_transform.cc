// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/rotate_transform.h"

#include "absl/strings/ascii.h"
#include "qeff/quant/rotate.h"
#include "qeff/quant/rotation_plan.h"
#include "qeff/util/status.h"

namespace qeff {

absl::StatusOr<TransformReport> RotateTransform::Apply(
    const Transformer& model, const std::string& output, ThreadPool& pool) {
  RotateOptions options;
  options.seed = seed_;
  for (const BlockNames& block : model.map().blocks) {
    for (const LinearModule& module : block.linears) {
      options.exact_modules.insert(module.module);
    }
  }
  QEFF_ASSIGN_OR_RETURN(const RotationPlan plan, PlanRotation(model, options));
  QEFF_RETURN_IF_ERROR(RotateModel(model, plan, output, pool));
  TransformReport report;
  report.name = name();
  report.applied = true;
  for (const RotatedTensor& tensor : plan.tensors) {
    report.tensors += tensor.changes();
  }
  report.detail =
      std::string(absl::StripTrailingAsciiWhitespace(FormatRotation(plan)));
  return report;
}

}  // namespace qeff
