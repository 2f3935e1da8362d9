// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/mappings/config_fields.h"
#include "qeff/transformer/mappings/families.h"
#include "qeff/transformer/mappings/llama_like.h"
#include "qeff/util/status.h"

namespace qeff::internal_mappings {

absl::StatusOr<ModelMap> MapLlama(const JsonObjectReader& config,
                                  HasTensor has_tensor) {
  ModelMap map;
  TransformerSpec& spec = map.spec;
  QEFF_RETURN_IF_ERROR(ReadLlamaLike(config, {/*max_positions=*/2048}, &spec));
  QEFF_ASSIGN_OR_RETURN(spec.qkv_bias, config.BoolOr("attention_bias", false));
  spec.attention_output_bias = spec.qkv_bias;
  QEFF_ASSIGN_OR_RETURN(spec.ffn_bias, config.BoolOr("mlp_bias", false));
  QEFF_RETURN_IF_ERROR(CheckLayerTypes(config, spec));
  NameLlamaLike(has_tensor, &map);
  return map;
}

}  // namespace qeff::internal_mappings
