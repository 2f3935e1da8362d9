// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/quant_scheme.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kMinGroupSize = 8;
constexpr int64_t kMaxGroupSize = 65536;

constexpr absl::string_view kPerTokenName = "w8a8";
constexpr absl::string_view kStaticName = "w8a8_static";

struct GgmlScheme {
  absl::string_view name;
  GgmlType type;
  // Integers that are like it.
  int bits;
  int64_t group_size;
  bool symmetric;
};

constexpr GgmlScheme kGgmlSchemes[] = {{"q4_0", GgmlType::kQ4_0, 4, 32, true},
                                       {"q8_0", GgmlType::kQ8_0, 8, 32, true},
                                       {"q4_k", GgmlType::kQ4_K, 4, 32, false},
                                       {"q5_k", GgmlType::kQ5_K, 5, 32, false},
                                       {"q6_k", GgmlType::kQ6_K, 6, 16, true}};

// Parses "_gN". SimpleAtoi would take signs and spaces.
bool ParseGroupSize(absl::string_view text, int64_t* group_size) {
  return absl::ConsumePrefix(&text, "_g") &&
         text.find_first_not_of("0123456789") == absl::string_view::npos &&
         absl::SimpleAtoi(text, group_size) && *group_size >= kMinGroupSize &&
         *group_size <= kMaxGroupSize && *group_size % 8 == 0;
}

// The codebook that `name` begins with; its group may follow where it is free.
absl::optional<QuantScheme> ParseCodebook(absl::string_view name) {
  const size_t end = std::min(name.rfind("_g"), name.size());
  const CodebookFormat* format = FindCodebook(name.substr(0, end));
  if (format == nullptr) return absl::nullopt;
  QuantScheme scheme;
  scheme.codebook = format->codebook;
  scheme.bits = format->bits;
  scheme.group_size = format->group_size;
  const bool free = format->codebook == Codebook::kNf4;
  if (end < name.size() &&
      !(free && ParseGroupSize(name.substr(end), &scheme.group_size))) {
    return absl::nullopt;
  }
  return scheme;
}

}  // namespace

absl::StatusOr<QuantScheme> ParseQuantScheme(absl::string_view name) {
  const auto error = [&] {
    return InvalidInputError(
        "unknown scheme \"", name,
        "\": expected intB or intB_gN, such as int8 or int4_g128, with B from ",
        kMinQuantBits, " to ", kMaxQuantBits, " and N a multiple of 8 from ",
        kMinGroupSize, " to ", kMaxGroupSize,
        ", or w8a8, w8a8_static, q4_0, q8_0, q4_k, q5_k or q6_k, or nf4, "
        "nf4_gN, fp8_e4m3, mxfp4, mxfp6 or mxint8");
  };
  if (const auto scheme = ParseCodebook(name); scheme.has_value()) {
    return *scheme;
  }
  if (name == kPerTokenName || name == kStaticName) {
    QuantScheme scheme;
    scheme.bits = 8;
    scheme.inputs =
        name == kStaticName ? InputCodes::kStatic : InputCodes::kPerToken;
    return scheme;
  }
  for (const GgmlScheme& ggml : kGgmlSchemes) {
    if (name != ggml.name) continue;
    QuantScheme scheme;
    scheme.ggml = ggml.type;
    return scheme;
  }
  absl::string_view rest = name;
  if (!absl::ConsumePrefix(&rest, "int") || rest.empty()) return error();
  QuantScheme scheme;
  scheme.bits = rest[0] - '0';
  if (scheme.bits < kMinQuantBits || scheme.bits > kMaxQuantBits) {
    return error();
  }
  rest.remove_prefix(1);
  if (rest.empty()) return scheme;
  if (!ParseGroupSize(rest, &scheme.group_size)) return error();
  return scheme;
}

std::string QuantSchemeName(const QuantScheme& scheme) {
  for (const GgmlScheme& ggml : kGgmlSchemes) {
    if (scheme.ggml == ggml.type) return std::string(ggml.name);
  }
  if (scheme.inputs != InputCodes::kNone) {
    return std::string(scheme.inputs == InputCodes::kStatic ? kStaticName
                                                            : kPerTokenName);
  }
  std::string name = absl::StrCat("int", scheme.bits);
  int64_t implied_group_size = 0;
  if (scheme.codebook.has_value()) {
    const CodebookFormat& format = FormatOf(*scheme.codebook);
    name = std::string(format.name);
    implied_group_size = format.group_size;
  }
  if (scheme.group_size != implied_group_size) {
    absl::StrAppend(&name, "_g", scheme.group_size);
  }
  return name;
}

QuantScheme IntegersLike(const QuantScheme& scheme) {
  for (const GgmlScheme& ggml : kGgmlSchemes) {
    if (scheme.ggml != ggml.type) continue;
    QuantScheme integers;
    integers.bits = ggml.bits;
    integers.group_size = ggml.group_size;
    integers.symmetric = ggml.symmetric;
    return integers;
  }
  return scheme;
}

absl::StatusOr<ScaleRule> ParseScaleRule(absl::string_view name) {
  if (name == "signed_max") return ScaleRule::kSignedMax;
  if (name == "absmax") return ScaleRule::kAbsMax;
  return InvalidInputError("unknown scale rule \"", name,
                           "\": expected signed_max or absmax");
}

absl::string_view ScaleRuleName(ScaleRule rule) {
  return rule == ScaleRule::kSignedMax ? "signed_max" : "absmax";
}

}  // namespace qeff
