// SPDX-License-Identifier: Apache-2.0
//
// What a calibrated quantization did to each layer.

#ifndef QEFF_QUANT_QUANTIZE_REPORT_H_
#define QEFF_QUANT_QUANTIZE_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/util/json.h"

namespace qeff {

// LayerReport::fallback of a layer whose inputs are not finite.
inline constexpr char kBadInputs[] = "its inputs are not finite: rounded";

// What follows it where awq or smoothquant would have scaled these inputs.
inline constexpr char kNotScaled[] = ", not scaled";

struct LayerReport {
  std::string module;
  std::string scheme;
  double bits_per_weight = 0;
  int64_t tokens = 0;  // that the layer has seen
  // Proxy losses: mean over the tokens of the squared error of the outputs,
  // damping included; of rounding to nearest, and of the layer as written, or
  // as it was before its block was tuned.
  double rounding_loss = 0;
  double loss = 0;
  double damping = 0;       // that was added to the Hessian's diagonal
  double saturation = 0;    // share of weights beyond the outermost code
  int64_t dead_inputs = 0;  // inputs that were always 0
  double input_scale = 0;   // of static inputs; 0: there is none
  std::string fallback;     // why the layer was rounded; empty if it was not

  Json ToJson() const;
  // Errors: kInvalidArgument for anything that ToJson does not give.
  static absl::StatusOr<LayerReport> FromJson(const Json& json);
};

// What tuning did to a block (block_tuner.h).
struct BlockReport {
  int64_t block = 0;
  double loss_before = 0;
  double loss_after = 0;

  Json ToJson() const;
  // Errors: kInvalidArgument for anything that ToJson does not give.
  static absl::StatusOr<BlockReport> FromJson(const Json& json);
};

// Tables, one line a layer, and one line a block; empty without any.
std::string FormatReport(const std::vector<LayerReport>& layers);
std::string FormatBlocks(const std::vector<BlockReport>& blocks);

}  // namespace qeff

#endif  // QEFF_QUANT_QUANTIZE_REPORT_H_
