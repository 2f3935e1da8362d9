// SPDX-License-Identifier: Apache-2.0

#include "qeff/tensor/tensor.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace qeff {
namespace {

template <typename T>
T Load(const uint8_t* from, int64_t index) {
  T value;
  std::memcpy(&value, from + index * static_cast<int64_t>(sizeof(T)),
              sizeof(T));
  return value;
}

float ReadFloat(DType dtype, const uint8_t* from, int64_t index) {
  switch (dtype) {
    case DType::kF32:
      return Load<float>(from, index);
    case DType::kF16:
      return F16ToFloat(Load<uint16_t>(from, index));
    case DType::kBF16:
      return BF16ToFloat(Load<uint16_t>(from, index));
    case DType::kF64:
      return static_cast<float>(Load<double>(from, index));
    case DType::kF8E4M3:
      return F8E4M3ToFloat(Load<uint8_t>(from, index));
    case DType::kF8E5M2:
      return F8E5M2ToFloat(Load<uint8_t>(from, index));
    default:
      QEFF_CHECK(false && "not a floating dtype");
  }
}

}  // namespace

std::string Shape::ToString() const {
  return absl::StrCat("[", absl::StrJoin(dims_, ", "), "]");
}

void ReadFloats(const TensorView& tensor, int64_t first,
                absl::Span<float> out) {
  QEFF_CHECK(IsFloating(tensor.dtype));
  QEFF_CHECK(first >= 0 &&
             first + static_cast<int64_t>(out.size()) <= tensor.num_elements());
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = ReadFloat(tensor.dtype, tensor.bytes.data(),
                       first + static_cast<int64_t>(i));
  }
}

}  // namespace qeff
