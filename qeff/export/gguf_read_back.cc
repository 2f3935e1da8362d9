// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/gguf_read_back.h"

#include "qeff/kernels/ggml/nearness.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// The bound of an element's error: `relative` of its block's largest magnitude
// plus `absolute`, which is what a subnormal F16 loses times the largest code.
struct Bound {
  float relative;
  float absolute;
};

constexpr float kHalfUlpF16 = 0x1p-11f;  // relative
constexpr float kHalfSubnormalF16 = 0x1p-25f;

constexpr Bound OfCodes(float relative, float max_code) {
  // Twice the rounding of d: of Q4_1 and Q5_1 the minimum is rounded as well.
  return {relative * 1.001f + 2 * kHalfUlpF16,
          2 * max_code * kHalfSubnormalF16};
}

Bound BoundOf(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
      return {0, 0};
    case GgmlType::kF16:
      return {kHalfUlpF16, kHalfSubnormalF16};
    case GgmlType::kBF16:
      return {0x1p-8f, 0x1p-133f};
    case GgmlType::kQ8_0:
      return OfCodes(1.0f / 254, 127);
    case GgmlType::kQ4_0:
      return OfCodes(1.0f / 8, 8);
    case GgmlType::kQ4_1:
      return OfCodes(1.0f / 15, 15);
    case GgmlType::kQ5_0:
      return OfCodes(1.0f / 16, 16);
    case GgmlType::kQ5_1:
      return OfCodes(1.0f / 31, 31);
    case GgmlType::kMXFP4:
      return {0.25f, 0x1p-127f};
    case GgmlType::kQ4_K:
    case GgmlType::kQ5_K:
    case GgmlType::kQ6_K:
      return OfCodes(0.5f, 63 * 32);
  }
  QEFF_CHECK(false && "a type that is not decoded");
}

}  // namespace

int64_t FirstWrongReadBack(GgmlType type, absl::Span<const float> written,
                           absl::Span<const float> read) {
  const Bound bound = BoundOf(type);
  return FirstFurther(written, read, FindGgmlType(type)->block_elems,
                      bound.relative, bound.absolute);
}

}  // namespace qeff
