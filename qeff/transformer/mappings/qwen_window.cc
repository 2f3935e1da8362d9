// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/mappings/qwen_window.h"

#include "absl/strings/str_cat.h"
#include "qeff/transformer/mappings/config_fields.h"
#include "qeff/util/status.h"

namespace qeff::internal_mappings {

absl::StatusOr<int64_t> ReadQwenWindow(const JsonObjectReader& config,
                                       const TransformerSpec& spec) {
  QEFF_ASSIGN_OR_RETURN(const bool used,
                        config.BoolOr("use_sliding_window", false));
  if (!used) return 0;
  const bool has_key = config.object().contains("sliding_window");
  QEFF_ASSIGN_OR_RETURN(
      const int64_t window,
      config.IntOr("sliding_window", has_key ? 0 : 4096, 1, kMaxPositions));
  QEFF_ASSIGN_OR_RETURN(const int64_t first,
                        config.IntOr("max_window_layers", 28, 0, 0x7FFFFFFF));
  if (window == 0 || first >= spec.num_layers) return 0;
  if (first == 0) return window;
  return Unsupported(config, "max_window_layers",
                     absl::StrCat("0, or at least ", spec.num_layers,
                                  ", as all layers must be alike"));
}

}  // namespace qeff::internal_mappings
