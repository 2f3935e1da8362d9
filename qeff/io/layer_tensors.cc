// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/layer_tensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "qeff/format/quant_scheme.h"
#include "qeff/util/status.h"

namespace qeff {

absl::StatusOr<TensorView> GetOfType(const Checkpoint& checkpoint,
                                     const std::string& name, DType dtype) {
  QEFF_ASSIGN_OR_RETURN(const TensorView view, checkpoint.Get(name));
  if (view.dtype != dtype) {
    return InvalidInputError(checkpoint.Place(name), ": expected dtype ",
                             DTypeName(dtype), ", found ",
                             DTypeName(view.dtype));
  }
  return view;
}

absl::Status ExpectShape(const Checkpoint& checkpoint, const std::string& name,
                         const TensorView& view, const Shape& expected) {
  if (view.shape == expected) return absl::OkStatus();
  return InvalidInputError(checkpoint.Place(name), ": expected shape ",
                           expected.ToString(), ", found ",
                           view.shape.ToString());
}

absl::StatusOr<TensorView> GetScales(const Checkpoint& checkpoint,
                                     const std::string& name,
                                     const Shape& shape) {
  QEFF_ASSIGN_OR_RETURN(const TensorView view, checkpoint.Get(name));
  if (!IsScaleDType(view.dtype)) {
    return InvalidInputError(checkpoint.Place(name),
                             ": expected dtype F16, BF16 or F32, found ",
                             DTypeName(view.dtype));
  }
  QEFF_RETURN_IF_ERROR(ExpectShape(checkpoint, name, view, shape));
  const size_t size = DTypeBytes(view.dtype);
  for (size_t i = 0; i < view.bytes.size() / size; ++i) {
    const float scale = LoadScale(view.dtype, view.bytes.data() + i * size);
    if (!std::isfinite(scale)) {
      return InvalidInputError(checkpoint.Place(name), ": scale ", i, " is ",
                               scale);
    }
  }
  return view;
}

absl::StatusOr<std::shared_ptr<const std::vector<int32_t>>> GetGroupIndex(
    const Checkpoint& checkpoint, const std::string& name, int64_t cols,
    int64_t group_elems, int64_t groups) {
  std::shared_ptr<const std::vector<int32_t>> none;
  if (!checkpoint.Has(name)) return none;
  QEFF_ASSIGN_OR_RETURN(const TensorView view,
                        GetOfType(checkpoint, name, DType::kI32));
  QEFF_RETURN_IF_ERROR(ExpectShape(checkpoint, name, view, Shape({cols})));
  auto index =
      std::make_shared<std::vector<int32_t>>(static_cast<size_t>(cols));
  std::memcpy(index->data(), view.bytes.data(), view.bytes.size());
  if (std::all_of(index->begin(), index->end(),
                  [](int32_t group) { return group == -1; })) {
    return none;
  }
  bool ordered = false;
  for (int64_t c = 0; c < cols; ++c) {
    const int32_t group = (*index)[static_cast<size_t>(c)];
    if (group < 0 || group >= groups) {
      return InvalidInputError(checkpoint.Place(name), ": column ", c,
                               ": expected a group from 0 to ", groups - 1,
                               ", found ", group);
    }
    ordered = ordered || group != c / group_elems;
  }
  if (!ordered) return none;
  return std::shared_ptr<const std::vector<int32_t>>(std::move(index));
}

}  // namespace qeff
