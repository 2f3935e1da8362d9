// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/quantize_transform.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "qeff/quant/quantize_checkpoint.h"
#include "qeff/util/status.h"

namespace qeff {

std::string QuantizeTransform::name() const {
  return absl::StrCat(
      "quantize(", QuantSchemeName(options_.scheme),
      options_.rounding == Rounding::kLeastSquares ? ",mse" : "", ")");
}

absl::StatusOr<TransformReport> QuantizeTransform::Apply(
    const Transformer& model, const std::string& output, ThreadPool& pool) {
  QEFF_ASSIGN_OR_RETURN(
      const QuantizePlan plan,
      PlanQuantization(model.checkpoint(), model.map(), options_));
  QEFF_RETURN_IF_ERROR(
      QuantizeCheckpoint(model.checkpoint(), plan, output, pool));
  TransformReport report;
  report.name = name();
  report.applied = true;
  for (const PlannedTensor& tensor : plan.tensors) {
    report.tensors += tensor.quantized();
  }
  report.detail = absl::StrFormat(
      "%d linear layers at %.3f bits a weight, layout %s", report.tensors,
      plan.QuantizedBitsPerWeight(), QuantizedLayoutName(plan.layout));
  return report;
}

}  // namespace qeff
