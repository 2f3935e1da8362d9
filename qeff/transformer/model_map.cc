// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/model_map.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "qeff/transformer/mappings/config_fields.h"
#include "qeff/transformer/mappings/families.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using internal_mappings::HasTensor;

struct Family {
  absl::string_view model_type;
  // Names in `architectures` of models that are this family with or without
  // its lm_head, and nothing else.
  absl::string_view architectures[4];
  absl::StatusOr<ModelMap> (*map)(const JsonObjectReader&, HasTensor);
};

// Ordered by model_type.
constexpr Family kFamilies[] = {
    {"gpt2", {"GPT2LMHeadModel", "GPT2Model"}, &internal_mappings::MapGpt2},
    {"llama",
     {"LlamaForCausalLM", "LlamaModel", "LLaMAForCausalLM"},
     &internal_mappings::MapLlama},
    {"mistral",
     {"MistralForCausalLM", "MistralModel"},
     &internal_mappings::MapMistral},
    {"mpt",
     {"MPTForCausalLM", "MptForCausalLM", "MPTModel", "MptModel"},
     &internal_mappings::MapMpt},
    {"qwen2", {"Qwen2ForCausalLM", "Qwen2Model"}, &internal_mappings::MapQwen2},
    {"qwen3", {"Qwen3ForCausalLM", "Qwen3Model"}, &internal_mappings::MapQwen3},
};

absl::StatusOr<const Family*> FindFamily(const JsonObjectReader& config) {
  const std::string key = "model_type";
  const Json* type = config.Find(key);
  for (const Family& family : kFamilies) {
    if (type != nullptr && *type == std::string(family.model_type)) {
      return &family;
    }
  }
  return internal_mappings::Unsupported(
      config, key, absl::StrJoin(SupportedModelTypes(), ", "));
}

absl::Status CheckArchitectures(const JsonObjectReader& config,
                                const Family& family) {
  const std::string key = "architectures";
  const Json* names = config.Find(key);
  if (names == nullptr) return absl::OkStatus();
  if (!names->is_array() || names->empty()) {
    return config.Unexpected(key, "a list with a name");
  }
  for (const Json& name : *names) {
    const auto matches = [&](absl::string_view known) {
      return !known.empty() && name == std::string(known);
    };
    if (!std::any_of(std::begin(family.architectures),
                     std::end(family.architectures), matches)) {
      return internal_mappings::Unsupported(config, key,
                                            family.architectures[0]);
    }
  }
  return absl::OkStatus();
}

// Keys of any transformers config that change what is computed.
absl::Status RefuseUnsupported(const JsonObjectReader& config) {
  QEFF_RETURN_IF_ERROR(
      internal_mappings::ExpectBool(config, "is_encoder_decoder", false));
  const Json* pruned = config.Find("pruned_heads");
  if (pruned != nullptr && !pruned->empty()) {
    return internal_mappings::Unsupported(config, "pruned_heads", "none");
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<LinearModule> ModelMap::Linears() const {
  std::vector<LinearModule> all;
  for (const BlockNames& block : blocks) {
    all.insert(all.end(), block.linears.begin(), block.linears.end());
  }
  if (!spec.tied_lm_head) all.push_back(lm_head);
  return all;
}

std::vector<std::string> SupportedModelTypes() {
  std::vector<std::string> types;
  for (const Family& family : kFamilies) {
    types.emplace_back(family.model_type);
  }
  return types;
}

absl::StatusOr<ModelMap> MapConfig(const Json& config,
                                   const std::string& context,
                                   HasTensor has_tensor) {
  QEFF_ASSIGN_OR_RETURN(const JsonObjectReader reader,
                        JsonObjectReader::Create(config, context));
  QEFF_ASSIGN_OR_RETURN(const Family* family, FindFamily(reader));
  QEFF_RETURN_IF_ERROR(CheckArchitectures(reader, *family));
  QEFF_RETURN_IF_ERROR(RefuseUnsupported(reader));
  QEFF_ASSIGN_OR_RETURN(ModelMap map, family->map(reader, has_tensor));
  map.spec.family = std::string(family->model_type);
  QEFF_RETURN_IF_ERROR(internal_mappings::ReadSpecialTokens(reader, &map.spec));
  QEFF_RETURN_IF_ERROR(ValidateSpec(map.spec), context);
  return map;
}

absl::StatusOr<ModelMap> MapModel(const Checkpoint& checkpoint) {
  return MapConfig(
      checkpoint.config(), checkpoint.config_path(),
      [&](absl::string_view name) { return checkpoint.Has(name); });
}

}  // namespace qeff
