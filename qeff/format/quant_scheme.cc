// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/quant_scheme.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kMinGroupSize = 8;
constexpr int64_t kMaxGroupSize = 65536;

// Rounds to the storage type.
float RoundScale(float scale, DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return F16ToFloat(FloatToF16(scale));
    case DType::kBF16:
      return BF16ToFloat(FloatToBF16(scale));
    default:
      return scale;
  }
}

// Below this a scale counts as zero: its inverse must be finite, and F16 has
// nothing smaller.
float SmallestScale(DType dtype) {
  return dtype == DType::kF16 ? 0x1p-24f : 0x1p-126f;
}

float SymmetricScale(const QuantScheme& scheme, float lo, float hi) {
  const float absmax = std::max(-lo, hi);
  if (scheme.bits == 8) return absmax / 127.0f;
  if (scheme.scale_rule == ScaleRule::kAbsMax) {
    return absmax / (0.5f * static_cast<float>((1 << scheme.bits) - 1));
  }
  const float signed_max = -lo >= hi ? lo : hi;
  return signed_max / -static_cast<float>(1 << (scheme.bits - 1));
}

}  // namespace

absl::StatusOr<QuantScheme> ParseQuantScheme(absl::string_view name) {
  const auto error = [&] {
    return InvalidInputError(
        "unknown scheme \"", name,
        "\": expected intB or intB_gN, such as int8 or int4_g128, with B from ",
        kMinQuantBits, " to ", kMaxQuantBits, " and N a multiple of 8 from ",
        kMinGroupSize, " to ", kMaxGroupSize);
  };
  absl::string_view rest = name;
  if (!absl::ConsumePrefix(&rest, "int") || rest.empty()) return error();
  QuantScheme scheme;
  scheme.bits = rest[0] - '0';
  if (scheme.bits < kMinQuantBits || scheme.bits > kMaxQuantBits) {
    return error();
  }
  rest.remove_prefix(1);
  if (rest.empty()) return scheme;
  // SimpleAtoi would take signs and spaces.
  if (!absl::ConsumePrefix(&rest, "_g") ||
      rest.find_first_not_of("0123456789") != absl::string_view::npos ||
      !absl::SimpleAtoi(rest, &scheme.group_size) ||
      scheme.group_size < kMinGroupSize || scheme.group_size > kMaxGroupSize ||
      scheme.group_size % 8 != 0) {
    return error();
  }
  return scheme;
}

std::string QuantSchemeName(const QuantScheme& scheme) {
  std::string name = absl::StrCat("int", scheme.bits);
  if (scheme.group_size != 0) absl::StrAppend(&name, "_g", scheme.group_size);
  return name;
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

void StoreScale(float scale, DType dtype, uint8_t* to) {
  QEFF_DCHECK(IsScaleDType(dtype));
  if (dtype == DType::kF32) {
    std::memcpy(to, &scale, sizeof(scale));
    return;
  }
  const uint16_t bits =
      dtype == DType::kF16 ? FloatToF16(scale) : FloatToBF16(scale);
  std::memcpy(to, &bits, sizeof(bits));
}

float LoadScale(DType dtype, const uint8_t* from) {
  QEFF_DCHECK(IsScaleDType(dtype));
  if (dtype == DType::kF32) {
    float scale;
    std::memcpy(&scale, from, sizeof(scale));
    return scale;
  }
  uint16_t bits;
  std::memcpy(&bits, from, sizeof(bits));
  return dtype == DType::kF16 ? F16ToFloat(bits) : BF16ToFloat(bits);
}

GroupParams ComputeGroupParams(const QuantScheme& scheme, float min, float max,
                               DType scale_dtype) {
  const float lo = std::min(min, 0.0f);
  const float hi = std::max(max, 0.0f);
  const int max_code = (1 << scheme.bits) - 1;
  GroupParams params;
  params.zero = 1 << (scheme.bits - 1);
  const float steps = static_cast<float>(max_code);
  // Two quotients, because hi - lo may overflow.
  params.scale = RoundScale(scheme.symmetric ? SymmetricScale(scheme, lo, hi)
                                             : hi / steps - lo / steps,
                            scale_dtype);
  if (std::abs(params.scale) < SmallestScale(scale_dtype)) {
    params.scale = 1.0f;
    params.inverse = 1.0f;
    return params;
  }
  params.inverse = 1.0f / params.scale;
  if (!scheme.symmetric) {
    const float zero = std::nearbyint(-lo / params.scale);
    params.zero = static_cast<int>(std::min(std::max(zero, 0.0f), steps));
  }
  return params;
}

}  // namespace qeff
