// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/mappings/config_fields.h"
#include "qeff/transformer/mappings/families.h"
#include "qeff/transformer/mappings/llama_like.h"
#include "qeff/util/status.h"

namespace qeff::internal_mappings {

absl::StatusOr<ModelMap> MapMistral(const JsonObjectReader& config,
                                    HasTensor has_tensor) {
  ModelMap map;
  TransformerSpec& spec = map.spec;
  QEFF_RETURN_IF_ERROR(
      ReadLlamaLike(config, {/*max_positions=*/131072}, &spec));
  QEFF_RETURN_IF_ERROR(ExpectBool(config, "attention_bias", false));
  QEFF_RETURN_IF_ERROR(ExpectBool(config, "mlp_bias", false));
  // null means no window; without the key transformers assumes one.
  const bool has_key = config.object().contains("sliding_window");
  QEFF_ASSIGN_OR_RETURN(
      spec.sliding_window,
      config.IntOr("sliding_window", has_key ? 0 : 4096, 1, kMaxPositions));
  QEFF_RETURN_IF_ERROR(CheckLayerTypes(config, spec));
  NameLlamaLike(has_tensor, &map);
  return map;
}

}  // namespace qeff::internal_mappings
