// SPDX-License-Identifier: Apache-2.0
//
// The sliding window of Qwen2 and Qwen3.

#ifndef QEFF_TRANSFORMER_MAPPINGS_QWEN_WINDOW_H_
#define QEFF_TRANSFORMER_MAPPINGS_QWEN_WINDOW_H_

#include "absl/status/statusor.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/util/json.h"

namespace qeff::internal_mappings {

// The window of all layers, 0 for none: with use_sliding_window the layers from
// max_window_layers on have one. kUnimplemented when only some layers do.
absl::StatusOr<int64_t> ReadQwenWindow(const JsonObjectReader& config,
                                       const TransformerSpec& spec);

}  // namespace qeff::internal_mappings

#endif  // QEFF_TRANSFORMER_MAPPINGS_QWEN_WINDOW_H_
