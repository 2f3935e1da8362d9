// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/finite_weights.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"
#include "qeff/util/vector_clones.h"

namespace qeff {
namespace {

constexpr size_t kElemsOfPiece = 1 << 16;

// The largest magnitude by its bits, those of NaN being the largest.
QEFF_VECTOR_CLONES uint32_t LargestBits(const float* values, size_t count) {
  uint32_t largest = 0;
  for (size_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, values + i, sizeof(bits));
    bits &= 0x7FFFFFFFu;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

constexpr uint32_t kInfinityBits = 0x7F800000u;

}  // namespace

absl::StatusOr<absl::optional<int64_t>> FirstNotFinite(
    const Checkpoint& checkpoint, const std::string& name) {
  QEFF_ASSIGN_OR_RETURN(const TensorView view, checkpoint.Get(name));
  QEFF_CHECK(IsFloating(view.dtype));
  const size_t elem_bytes = DTypeBytes(view.dtype);
  const size_t elems = view.bytes.size() / elem_bytes;
  std::vector<float> values(std::min(elems, kElemsOfPiece));
  for (size_t begin = 0; begin < elems; begin += values.size()) {
    const size_t count = std::min(values.size(), elems - begin);
    TensorView piece = view;
    piece.bytes = view.bytes.subspan(begin * elem_bytes, count * elem_bytes);
    ConvertToFloat(view.dtype, piece.bytes,
                   absl::MakeSpan(values).subspan(0, count));
    checkpoint.Release(piece);
    if (LargestBits(values.data(), count) < kInfinityBits) continue;
    const auto bad =
        std::find_if(values.begin(), values.end(),
                     [](float value) { return !std::isfinite(value); });
    return absl::make_optional(static_cast<int64_t>(begin) +
                               (bad - values.begin()));
  }
  return absl::optional<int64_t>();
}

std::string NotFiniteText(const Shape& shape, int64_t flat) {
  std::vector<int64_t> index(shape.rank());
  for (size_t i = index.size(); i-- > 0;) {
    index[i] = flat % shape[i];
    flat /= shape[i];
  }
  return absl::StrCat("element ", Shape(absl::MakeConstSpan(index)).ToString(),
                      " is NaN or infinite");
}

}  // namespace qeff
