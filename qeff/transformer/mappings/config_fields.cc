// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/mappings/config_fields.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "qeff/util/status.h"

namespace qeff::internal_mappings {
namespace {

constexpr int64_t kMaxSize = 0x7FFFFFFF;

bool IsOneOf(absl::string_view value,
             absl::Span<const absl::string_view> allowed) {
  return std::find(allowed.begin(), allowed.end(), value) != allowed.end();
}

// Any other key in a rope object may change the result.
absl::Status CheckRopeKeys(const JsonObjectReader& rope) {
  constexpr absl::string_view kKnown[] = {"type",
                                          "rope_type",
                                          "rope_theta",
                                          "factor",
                                          "low_freq_factor",
                                          "high_freq_factor",
                                          "original_max_position_embeddings",
                                          "partial_rotary_factor"};
  for (const auto& [key, value] : rope.object().items()) {
    if (!value.is_null() && !IsOneOf(key, kKnown)) {
      return Unsupported(rope, key, "no such key");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckFullRotation(const JsonObjectReader& config) {
  const std::string key = "partial_rotary_factor";
  QEFF_ASSIGN_OR_RETURN(const double factor, config.NumberOr(key, 1.0));
  return factor == 1.0 ? absl::OkStatus() : Unsupported(config, key, "1");
}

// `rope` is rope_scaling or rope_parameters.
absl::Status ReadRopeScaling(const JsonObjectReader& rope, RopeSpec* spec) {
  QEFF_RETURN_IF_ERROR(CheckRopeKeys(rope));
  QEFF_RETURN_IF_ERROR(CheckFullRotation(rope));
  QEFF_ASSIGN_OR_RETURN(const std::string old_name, rope.StringOr("type", ""));
  QEFF_ASSIGN_OR_RETURN(const std::string type,
                        rope.StringOr("rope_type", old_name));
  if (!old_name.empty() && type != old_name) {
    return rope.Unexpected("type", absl::StrCat("rope_type ", type));
  }
  if (type == "default") return absl::OkStatus();
  const std::string key = rope.Has("rope_type") ? "rope_type" : "type";
  if (type != "linear" && type != "llama3") {
    return Unsupported(rope, key, "default, linear or llama3");
  }
  if (!rope.Has("factor")) return rope.Unexpected("factor", "a number above 0");
  QEFF_ASSIGN_OR_RETURN(spec->factor, PositiveOr(rope, "factor", 1.0));
  spec->scaling = RopeScaling::kLinear;
  if (type == "linear") return absl::OkStatus();

  spec->scaling = RopeScaling::kLlama3;
  for (const char* required : {"low_freq_factor", "high_freq_factor"}) {
    if (!rope.Has(required)) {
      return rope.Unexpected(required, "a number above 0");
    }
  }
  QEFF_ASSIGN_OR_RETURN(spec->low_freq_factor,
                        PositiveOr(rope, "low_freq_factor", 1.0));
  QEFF_ASSIGN_OR_RETURN(spec->high_freq_factor,
                        PositiveOr(rope, "high_freq_factor", 4.0));
  if (spec->high_freq_factor <= spec->low_freq_factor) {
    return rope.Unexpected("high_freq_factor", "more than low_freq_factor");
  }
  QEFF_ASSIGN_OR_RETURN(
      spec->original_max_positions,
      rope.Int("original_max_position_embeddings", 1, kMaxPositions));
  return absl::OkStatus();
}

absl::Status ReadEosTokens(const JsonObjectReader& config,
                           TransformerSpec* spec) {
  const std::string key = "eos_token_id";
  const Json* eos = config.Find(key);
  if (eos == nullptr) return absl::OkStatus();
  if (!eos->is_array()) {
    QEFF_ASSIGN_OR_RETURN(const int64_t id,
                          config.Int(key, 0, spec->vocab_size - 1));
    spec->eos_token_ids = {id};
    return absl::OkStatus();
  }
  for (const Json& id : *eos) {
    if (!id.is_number_integer() ||
        (id.is_number_unsigned() && id.get<uint64_t>() > kMaxSize) ||
        id.get<int64_t>() < 0 || id.get<int64_t>() >= spec->vocab_size) {
      return config.Unexpected(
          key, absl::StrCat("token ids from 0 to ", spec->vocab_size - 1));
    }
    if (std::count(spec->eos_token_ids.begin(), spec->eos_token_ids.end(),
                   id.get<int64_t>()) != 0) {
      return config.Unexpected(key, "every token id once");
    }
    if (spec->eos_token_ids.size() == 1024) {
      return config.Unexpected(key, "at most 1024 token ids");
    }
    spec->eos_token_ids.push_back(id.get<int64_t>());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Unsupported(const JsonObjectReader& config, const std::string& key,
                         absl::string_view supported) {
  const Json* value = config.Find(key);
  return absl::UnimplementedError(
      absl::StrCat(config.context(), ": ", key, ": ",
                   value == nullptr ? "nothing" : JsonForMessage(*value),
                   " is not supported, only ", supported));
}

absl::StatusOr<int64_t> Size(const JsonObjectReader& config,
                             const std::string& key) {
  return config.Int(key, 1, kMaxSize);
}

absl::StatusOr<int64_t> SizeOrAlias(const JsonObjectReader& config,
                                    const std::string& key,
                                    const std::string& alias) {
  if (!config.Has(key) && config.Has(alias)) return Size(config, alias);
  QEFF_ASSIGN_OR_RETURN(const int64_t size, Size(config, key));
  QEFF_ASSIGN_OR_RETURN(const int64_t other,
                        config.IntOr(alias, size, 1, kMaxSize));
  if (other != size) {
    return config.Unexpected(alias, absl::StrCat(key, " = ", size));
  }
  return size;
}

absl::StatusOr<int64_t> NumLayers(const JsonObjectReader& config,
                                  const std::string& key,
                                  const std::string& alias) {
  QEFF_ASSIGN_OR_RETURN(const int64_t layers, SizeOrAlias(config, key, alias));
  if (layers <= kMaxLayers) return layers;
  return config.Unexpected(config.Has(key) ? key : alias,
                           absl::StrCat("at most ", kMaxLayers, " layers"));
}

absl::StatusOr<int64_t> MaxPositions(const JsonObjectReader& config,
                                     const std::string& key, int64_t fallback) {
  return config.IntOr(key, fallback, 1, kMaxPositions);
}

absl::StatusOr<double> PositiveOr(const JsonObjectReader& config,
                                  const std::string& key, double fallback) {
  QEFF_ASSIGN_OR_RETURN(const double value, config.NumberOr(key, fallback));
  if (value > 0) return value;
  return config.Unexpected(key, "a number above 0");
}

absl::Status ExpectBool(const JsonObjectReader& config, const std::string& key,
                        bool only) {
  QEFF_ASSIGN_OR_RETURN(const bool value, config.BoolOr(key, only));
  return value == only ? absl::OkStatus()
                       : Unsupported(config, key, only ? "true" : "false");
}

absl::Status ExpectNothing(const JsonObjectReader& config,
                           const std::string& key) {
  return config.Has(key) ? Unsupported(config, key, "null") : absl::OkStatus();
}

absl::Status ExpectOneOf(const JsonObjectReader& config, const std::string& key,
                         absl::Span<const absl::string_view> allowed) {
  if (!config.Has(key)) return absl::OkStatus();
  QEFF_ASSIGN_OR_RETURN(const std::string value, config.String(key));
  if (IsOneOf(value, allowed)) return absl::OkStatus();
  return Unsupported(config, key, absl::StrJoin(allowed, ", "));
}

absl::StatusOr<Activation> ReadActivation(const JsonObjectReader& config,
                                          const std::string& key,
                                          const std::string& fallback) {
  const struct {
    absl::string_view name;
    Activation activation;
  } known[] = {
      {"silu", Activation::kSilu},
      {"swish", Activation::kSilu},
      {"gelu", Activation::kGelu},
      {"gelu_new", Activation::kGeluTanh},
      {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"relu", Activation::kRelu},
  };
  QEFF_ASSIGN_OR_RETURN(const std::string name, config.StringOr(key, fallback));
  for (const auto& entry : known) {
    if (name == entry.name) return entry.activation;
  }
  return Unsupported(config, key,
                     "silu, swish, gelu, gelu_new, gelu_pytorch_tanh, relu");
}

absl::StatusOr<int64_t> DividedHeadDim(const JsonObjectReader& config,
                                       const std::string& heads_key,
                                       int64_t hidden_size, int64_t heads) {
  if (hidden_size % heads == 0) return hidden_size / heads;
  return config.Unexpected(
      heads_key, absl::StrCat("a divisor of the hidden size ", hidden_size));
}

absl::StatusOr<RopeSpec> ReadRope(const JsonObjectReader& config) {
  RopeSpec spec;
  QEFF_RETURN_IF_ERROR(CheckFullRotation(config));
  QEFF_ASSIGN_OR_RETURN(spec.theta,
                        PositiveOr(config, "rope_theta", spec.theta));
  QEFF_ASSIGN_OR_RETURN(const auto scaling, config.ObjectOr("rope_scaling"));
  QEFF_ASSIGN_OR_RETURN(const auto parameters,
                        config.ObjectOr("rope_parameters"));
  if (scaling.has_value() && parameters.has_value()) {
    return config.Unexpected("rope_scaling", "null beside rope_parameters");
  }
  if (scaling.has_value()) {
    QEFF_RETURN_IF_ERROR(ReadRopeScaling(*scaling, &spec));
  }
  if (parameters.has_value()) {
    QEFF_RETURN_IF_ERROR(ReadRopeScaling(*parameters, &spec));
    QEFF_ASSIGN_OR_RETURN(const double theta,
                          PositiveOr(*parameters, "rope_theta", spec.theta));
    if (config.Has("rope_theta") && theta != spec.theta) {
      return parameters->Unexpected(
          "rope_theta", absl::StrCat("the outer rope_theta ", spec.theta));
    }
    spec.theta = theta;
  }
  return spec;
}

absl::Status ReadSpecialTokens(const JsonObjectReader& config,
                               TransformerSpec* spec) {
  const int64_t last = spec->vocab_size - 1;
  if (config.Has("bos_token_id")) {
    QEFF_ASSIGN_OR_RETURN(spec->bos_token_id,
                          config.Int("bos_token_id", 0, last));
  }
  QEFF_RETURN_IF_ERROR(config.IntOr("pad_token_id", 0, 0, last).status());
  return ReadEosTokens(config, spec);
}

absl::Status CheckLayerTypes(const JsonObjectReader& config,
                             const TransformerSpec& spec) {
  const std::string key = "layer_types";
  const Json* types = config.Find(key);
  if (types == nullptr) return absl::OkStatus();
  if (!types->is_array() ||
      static_cast<int64_t>(types->size()) != spec.num_layers) {
    return config.Unexpected(
        key, absl::StrCat("a list of ", spec.num_layers, " strings"));
  }
  const char* only =
      spec.sliding_window > 0 ? "sliding_attention" : "full_attention";
  for (const Json& type : *types) {
    if (type != only) {
      return Unsupported(config, key, absl::StrCat("all ", only));
    }
  }
  return absl::OkStatus();
}

}  // namespace qeff::internal_mappings
