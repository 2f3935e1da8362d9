// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/prune_report.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_format.h"
#include "qeff/util/status.h"

namespace qeff {

Json PruneReport::ToJson() const {
  return {{"module", module},    {"pattern", pattern},
          {"zeros", zeros},      {"tokens", tokens},
          {"loss", loss},        {"magnitude_loss", magnitude_loss},
          {"damping", damping},  {"dead_inputs", dead_inputs},
          {"fallback", fallback}};
}

absl::StatusOr<PruneReport> PruneReport::FromJson(const Json& json) {
  QEFF_ASSIGN_OR_RETURN(const JsonObjectReader reader,
                        JsonObjectReader::Create(json, "layer report"));
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  PruneReport report;
  QEFF_ASSIGN_OR_RETURN(report.module, reader.String("module"));
  QEFF_ASSIGN_OR_RETURN(report.pattern, reader.String("pattern"));
  QEFF_ASSIGN_OR_RETURN(report.zeros, reader.Number("zeros"));
  QEFF_ASSIGN_OR_RETURN(report.tokens, reader.Int("tokens", 0, kMax));
  QEFF_ASSIGN_OR_RETURN(report.loss, reader.Number("loss"));
  QEFF_ASSIGN_OR_RETURN(report.magnitude_loss, reader.Number("magnitude_loss"));
  QEFF_ASSIGN_OR_RETURN(report.damping, reader.Number("damping"));
  QEFF_ASSIGN_OR_RETURN(report.dead_inputs, reader.Int("dead_inputs", 0, kMax));
  QEFF_ASSIGN_OR_RETURN(report.fallback, reader.String("fallback"));
  return report;
}

std::string FormatPruneReport(const std::vector<PruneReport>& layers) {
  if (layers.empty()) return "";
  size_t width = 5;
  for (const PruneReport& layer : layers) {
    width = std::max(width, layer.module.size());
  }
  std::string text =
      absl::StrFormat("%-*s  %-8s  %7s  %8s  %9s  %12s  %9s  %4s  %s\n", width,
                      "layer", "pattern", "zeros", "tokens", "loss",
                      "of magnitude", "damping", "dead", "fallback");
  for (const PruneReport& layer : layers) {
    text += absl::StrFormat(
        "%-*s  %-8s  %6.2f%%  %8d  %8.3f%%  %11.3f%%  %9.3g  %4d  %s", width,
        layer.module, layer.pattern, 100 * layer.zeros, layer.tokens,
        100 * layer.loss, 100 * layer.magnitude_loss, layer.damping,
        layer.dead_inputs, layer.fallback);
    text.erase(text.find_last_not_of(' ') + 1);
    text += "\n";
  }
  return text;
}

}  // namespace qeff
