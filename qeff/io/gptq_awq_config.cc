// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/gptq_awq_config.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "qeff/io/config_checks.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kMaxGroupSize = int64_t{1} << 31;
constexpr char kLmHead[] = "lm_head";
// Before a pattern of GPTQModel's `dynamic`: layers that are left out.
constexpr char kLeftOut[] = "-:";

absl::Status ReadGroupSize(const JsonObjectReader& r, const std::string& key,
                           WeightQuantization* weights) {
  QEFF_ASSIGN_OR_RETURN(const int64_t size, r.Int(key, -1, kMaxGroupSize));
  if (size == 0) return r.Unexpected(key, "-1 or a positive integer");
  weights->strategy =
      size == -1 ? QuantStrategy::kChannel : QuantStrategy::kGroup;
  weights->group_size = std::max<int64_t>(size, 0);
  return absl::OkStatus();
}

absl::Status CheckDynamic(const JsonObjectReader& r) {
  QEFF_ASSIGN_OR_RETURN(const auto dynamic, r.ObjectOr("dynamic"));
  if (!dynamic.has_value()) return absl::OkStatus();
  for (const auto& item : dynamic->object().items()) {
    if (!absl::StartsWith(item.key(), kLeftOut)) {
      return UnsupportedKey(r, "dynamic");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<GptqAwqConfig> ParseGptq(const JsonObjectReader& r) {
  GptqAwqConfig config;
  QEFF_ASSIGN_OR_RETURN(const int64_t bits, r.Int("bits", 1, 64));
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8) {
    return UnsupportedKey(r, "bits");
  }
  config.weights.bits = static_cast<int>(bits);
  QEFF_RETURN_IF_ERROR(ReadGroupSize(r, "group_size", &config.weights));
  QEFF_ASSIGN_OR_RETURN(config.weights.symmetric, r.BoolOr("sym", true));
  QEFF_RETURN_IF_ERROR(
      ExpectOneOf(r, "checkpoint_format", {"gptq", "gptq_v2"}));
  QEFF_ASSIGN_OR_RETURN(const std::string format,
                        r.StringOr("checkpoint_format", "gptq"));
  config.layout =
      format == "gptq" ? QuantizedLayout::kGptq : QuantizedLayout::kGptqV2;
  QEFF_RETURN_IF_ERROR(ExpectOneOf(r, "pack_dtype", {"int32"}));
  QEFF_RETURN_IF_ERROR(ExpectAbsent(r, "is_marlin_format"));
  QEFF_RETURN_IF_ERROR(CheckDynamic(r));
  return config;
}

absl::StatusOr<GptqAwqConfig> ParseAwq(const JsonObjectReader& r) {
  GptqAwqConfig config;
  config.layout = QuantizedLayout::kAwq;
  config.weights.symmetric = false;
  // The names in files of early versions.
  const std::string bits_key = r.Has("w_bit") ? "w_bit" : "bits";
  const std::string group_key =
      r.Has("q_group_size") ? "q_group_size" : "group_size";
  QEFF_ASSIGN_OR_RETURN(const int64_t bits, r.Int(bits_key, 1, 64));
  if (bits != 4) return UnsupportedKey(r, bits_key);
  QEFF_RETURN_IF_ERROR(ReadGroupSize(r, group_key, &config.weights));
  QEFF_ASSIGN_OR_RETURN(const bool zero_point, r.BoolOr("zero_point", true));
  if (!zero_point) return UnsupportedKey(r, "zero_point");
  QEFF_RETURN_IF_ERROR(ExpectOneOf(r, "version", {"gemm", "GEMM"}));
  QEFF_RETURN_IF_ERROR(ExpectOneOf(r, "checkpoint_format", {"gemm", "GEMM"}));
  return config;
}

}  // namespace

absl::StatusOr<absl::optional<GptqAwqConfig>> ParseGptqAwqConfig(
    const JsonObjectReader& reader) {
  QEFF_ASSIGN_OR_RETURN(const std::string method,
                        reader.String("quant_method"));
  if (method == "gptq") return ParseGptq(reader);
  if (method == "awq") return ParseAwq(reader);
  return absl::optional<GptqAwqConfig>();
}

Json GptqAwqConfigToJson(const GptqAwqConfig& config,
                         const std::vector<std::string>& kept) {
  QEFF_CHECK(IsInputMajor(config.layout));
  const WeightQuantization& weights = config.weights;
  Json json;
  const bool awq = config.layout == QuantizedLayout::kAwq;
  json["quant_method"] = awq ? "awq" : "gptq";
  json["bits"] = weights.bits;
  json["group_size"] =
      weights.strategy == QuantStrategy::kGroup ? weights.group_size : -1;
  if (awq) {
    json["zero_point"] = true;
    json["version"] = "gemm";
    json["modules_to_not_convert"] = kept;
    return json;
  }
  json["desc_act"] = config.activation_order;
  json["sym"] = weights.symmetric;
  json["lm_head"] = std::find(kept.begin(), kept.end(), kLmHead) == kept.end();
  json["checkpoint_format"] = std::string(QuantizedLayoutName(config.layout));
  json["pack_dtype"] = "int32";
  Json dynamic = Json::object();
  for (const std::string& module : kept) {
    if (module == kLmHead) continue;
    dynamic[absl::StrCat(kLeftOut, "^",
                         absl::StrReplaceAll(module, {{".", "\\."}}), "$")] =
        Json::object();
  }
  if (!dynamic.empty()) json["dynamic"] = std::move(dynamic);
  return json;
}

}  // namespace qeff
