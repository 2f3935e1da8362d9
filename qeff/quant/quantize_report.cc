// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/quantize_report.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "qeff/util/status.h"

namespace qeff {

Json LayerReport::ToJson() const {
  return {{"module", module},
          {"scheme", scheme},
          {"bits_per_weight", bits_per_weight},
          {"tokens", tokens},
          {"rounding_loss", rounding_loss},
          {"loss", loss},
          {"damping", damping},
          {"saturation", saturation},
          {"dead_inputs", dead_inputs},
          {"input_scale", input_scale},
          {"fallback", fallback}};
}

absl::StatusOr<LayerReport> LayerReport::FromJson(const Json& json) {
  QEFF_ASSIGN_OR_RETURN(const JsonObjectReader reader,
                        JsonObjectReader::Create(json, "layer report"));
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  LayerReport report;
  QEFF_ASSIGN_OR_RETURN(report.module, reader.String("module"));
  QEFF_ASSIGN_OR_RETURN(report.scheme, reader.String("scheme"));
  QEFF_ASSIGN_OR_RETURN(report.bits_per_weight,
                        reader.Number("bits_per_weight"));
  QEFF_ASSIGN_OR_RETURN(report.tokens, reader.Int("tokens", 0, kMax));
  QEFF_ASSIGN_OR_RETURN(report.rounding_loss, reader.Number("rounding_loss"));
  QEFF_ASSIGN_OR_RETURN(report.loss, reader.Number("loss"));
  QEFF_ASSIGN_OR_RETURN(report.damping, reader.Number("damping"));
  QEFF_ASSIGN_OR_RETURN(report.saturation, reader.Number("saturation"));
  QEFF_ASSIGN_OR_RETURN(report.dead_inputs, reader.Int("dead_inputs", 0, kMax));
  QEFF_ASSIGN_OR_RETURN(report.input_scale, reader.Number("input_scale"));
  QEFF_ASSIGN_OR_RETURN(report.fallback, reader.String("fallback"));
  return report;
}

std::string FormatReport(const std::vector<LayerReport>& layers) {
  size_t width = 5;
  for (const LayerReport& layer : layers) {
    width = std::max(width, layer.module.size());
  }
  std::string text = absl::StrFormat(
      "%-*s  %-10s  %6s  %8s  %11s  %11s  %5s  %9s  %9s  %4s  %s\n", width,
      "layer", "scheme", "bits/w", "tokens", "loss", "of rounding", "ratio",
      "damping", "saturated", "dead", "fallback");
  for (const LayerReport& layer : layers) {
    const double ratio =
        layer.rounding_loss > 0 ? layer.loss / layer.rounding_loss : 1.0;
    text += absl::StrFormat(
        "%-*s  %-10s  %6.3f  %8d  %11.4g  %11.4g  %5.3f  %9.3g  %8.2f%%  %4d  "
        "%s",
        width, layer.module, layer.scheme, layer.bits_per_weight, layer.tokens,
        layer.loss, layer.rounding_loss, ratio, layer.damping,
        100 * layer.saturation, layer.dead_inputs, layer.fallback);
    text.erase(text.find_last_not_of(' ') + 1);
    text += "\n";
  }
  return text;
}

Json BlockReport::ToJson() const {
  return {{"block", block},
          {"loss_before", loss_before},
          {"loss_after", loss_after}};
}

absl::StatusOr<BlockReport> BlockReport::FromJson(const Json& json) {
  QEFF_ASSIGN_OR_RETURN(const JsonObjectReader reader,
                        JsonObjectReader::Create(json, "block report"));
  BlockReport report;
  QEFF_ASSIGN_OR_RETURN(
      report.block,
      reader.Int("block", 0, std::numeric_limits<int64_t>::max()));
  QEFF_ASSIGN_OR_RETURN(report.loss_before, reader.Number("loss_before"));
  QEFF_ASSIGN_OR_RETURN(report.loss_after, reader.Number("loss_after"));
  return report;
}

std::string FormatBlocks(const std::vector<BlockReport>& blocks) {
  if (blocks.empty()) return "";
  std::string text = absl::StrFormat("%5s  %11s  %11s  %5s\n", "block",
                                     "loss before", "after", "ratio");
  for (const BlockReport& block : blocks) {
    const double ratio =
        block.loss_before > 0 ? block.loss_after / block.loss_before : 1.0;
    text += absl::StrFormat("%5d  %11.4g  %11.4g  %5.3f\n", block.block,
                            block.loss_before, block.loss_after, ratio);
  }
  return text;
}

}  // namespace qeff
