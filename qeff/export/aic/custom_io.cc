// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/custom_io.h"

#include "absl/strings/str_cat.h"

namespace qeff {

absl::string_view KvPrecisionName(KvPrecision precision) {
  switch (precision) {
    case KvPrecision::kFloat16:
      return "float16";
    case KvPrecision::kBfloat16:
      return "bfloat16";
    case KvPrecision::kMxint8:
      return "mxint8";
  }
  return "";
}

std::string CustomIoYaml(const std::vector<std::string>& kv_inputs,
                         KvPrecision precision) {
  std::string yaml;
  for (const std::string& input : kv_inputs) {
    for (const absl::string_view suffix :
         {absl::string_view(), kRetainedStateSuffix}) {
      absl::StrAppend(&yaml, " - IOName: ", input, suffix,
                      "\n   Precision: ", KvPrecisionName(precision), "\n\n");
    }
  }
  return yaml;
}

}  // namespace qeff
