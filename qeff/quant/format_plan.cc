// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/format_plan.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/format/quantized_layout.h"

namespace qeff {
namespace {

std::string SchemeText(const PlannedTensor& tensor) {
  switch (tensor.action) {
    case PlannedTensor::Action::kKeep:
      return "kept";
    case PlannedTensor::Action::kDrop:
      return "dropped";
    default:
      return absl::StrCat(
          tensor.action == PlannedTensor::Action::kAdd ? "+ " : "",
          QuantSchemeName(tensor.scheme),
          tensor.scheme.symmetric ? "" : " asymmetric");
  }
}

std::string Megabytes(uint64_t bytes) {
  return absl::StrFormat("%.3f", static_cast<double>(bytes) / 1e6);
}

}  // namespace

std::string FormatPlan(const QuantizePlan& plan) {
  size_t name_width = 6, shape_width = 5, scheme_width = 6;
  for (const PlannedTensor& tensor : plan.tensors) {
    name_width =
        std::max(name_width, absl::Utf8SafeCHexEscape(tensor.name).size());
    shape_width = std::max(shape_width, tensor.shape.ToString().size());
    scheme_width = std::max(scheme_width, SchemeText(tensor).size());
  }
  const auto line = [&](absl::string_view name, absl::string_view shape,
                        absl::string_view dtype, absl::string_view scheme,
                        absl::string_view bits, absl::string_view before,
                        absl::string_view after, absl::string_view reason) {
    std::string text =
        absl::StrFormat("%-*s  %-*s  %-7s  %-*s  %8s  %12s  %12s  %s",
                        name_width, name, shape_width, shape, dtype,
                        scheme_width, scheme, bits, before, after, reason);
    text.erase(text.find_last_not_of(' ') + 1);
    return text + "\n";
  };
  std::string text = line("tensor", "shape", "dtype", "scheme", "bits/w",
                          "MB before", "MB after", "");
  int64_t quantized = 0;
  for (const PlannedTensor& tensor : plan.tensors) {
    quantized += tensor.quantized();
    absl::StrAppend(&text, line(absl::Utf8SafeCHexEscape(tensor.name),
                                tensor.shape.ToString(),
                                DTypeName(tensor.dtype), SchemeText(tensor),
                                absl::StrFormat("%.3f", tensor.BitsPerWeight()),
                                Megabytes(tensor.bytes_before),
                                Megabytes(tensor.bytes_after), tensor.reason));
  }
  absl::StrAppend(&text, "total: ", quantized, " of ", plan.tensors.size(),
                  " tensors quantized to ",
                  absl::StrFormat("%.3f", plan.QuantizedBitsPerWeight()),
                  " bits a weight; ", Megabytes(plan.BytesBefore()),
                  " MB before, ", Megabytes(plan.BytesAfter()), " MB after\n");
  if (plan.NumSkipped() > 0) {
    absl::StrAppend(&text, plan.NumSkipped(),
                    " linear layers kept: they are not finite\n");
  }
  if (plan.rounding == Rounding::kLeastSquares) {
    absl::StrAppend(&text,
                    "scales: those of the least squared error of a group\n");
  }
  absl::StrAppend(&text, "layout: ", QuantizedLayoutName(plan.layout), ", ",
                  plan.layout_reason, "\n");
  if (plan.unties_lm_head) {
    for (const PlannedTensor& tensor : plan.tensors) {
      if (tensor.action != PlannedTensor::Action::kAdd) continue;
      absl::StrAppend(
          &text, "lm_head no longer shares the embedding's weight: ",
          Megabytes(tensor.bytes_after - tensor.bytes_before), " MB more\n");
    }
  }
  return text;
}

}  // namespace qeff
