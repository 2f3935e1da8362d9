// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/sparse_24_tensor.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/format/sparse_24.h"
#include "qeff/io/layer_tensors.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {

std::vector<TensorInfo> Sparse24Tensors(absl::string_view module, DType dtype,
                                        int64_t rows, int64_t cols) {
  return {{absl::StrCat(module, ".compressed"), dtype,
           Shape({rows, cols / kSparse24Group * kSparse24Kept})},
          {absl::StrCat(module, ".bitmask"), DType::kU8,
           Shape({rows, Sparse24MaskBytes(cols)})},
          {absl::StrCat(module, ".shape"), DType::kI64, Shape({2})}};
}

bool HasSparse24Weight(const Checkpoint& checkpoint, absl::string_view module) {
  return checkpoint.Has(absl::StrCat(module, ".compressed"));
}

absl::StatusOr<Sparse24Tensor> OpenSparse24Tensor(const Checkpoint& checkpoint,
                                                  absl::string_view module) {
  const std::string shape_name = absl::StrCat(module, ".shape");
  QEFF_ASSIGN_OR_RETURN(const TensorView shape,
                        GetOfType(checkpoint, shape_name, DType::kI64));
  QEFF_RETURN_IF_ERROR(ExpectShape(checkpoint, shape_name, shape, Shape({2})));
  int64_t sides[2];
  std::memcpy(sides, shape.bytes.data(), sizeof(sides));
  for (const int64_t side : sides) {
    if (side >= 1 && side <= kMaxLayerSide) continue;
    return InvalidInputError(checkpoint.Place(shape_name),
                             ": expected sizes from 1 to ", kMaxLayerSide,
                             ", found ", side);
  }
  if (sides[1] % kSparse24Group != 0) {
    return InvalidInputError(checkpoint.Place(shape_name),
                             ": expected rows of a multiple of ",
                             kSparse24Group, " weights, found ", sides[1]);
  }
  Sparse24Tensor tensor;
  tensor.rows = sides[0];
  tensor.cols = sides[1];
  const std::vector<TensorInfo> infos =
      Sparse24Tensors(module, DType::kF32, tensor.rows, tensor.cols);
  QEFF_ASSIGN_OR_RETURN(tensor.compressed, checkpoint.Get(infos[0].name));
  if (!IsScaleDType(tensor.compressed.dtype)) {
    return InvalidInputError(checkpoint.Place(infos[0].name),
                             ": expected dtype F16, BF16 or F32, found ",
                             DTypeName(tensor.compressed.dtype));
  }
  QEFF_RETURN_IF_ERROR(ExpectShape(checkpoint, infos[0].name, tensor.compressed,
                                   infos[0].shape));
  QEFF_ASSIGN_OR_RETURN(tensor.mask,
                        GetOfType(checkpoint, infos[1].name, DType::kU8));
  QEFF_RETURN_IF_ERROR(
      ExpectShape(checkpoint, infos[1].name, tensor.mask, infos[1].shape));
  tensor.place = checkpoint.Place(infos[1].name);
  return tensor;
}

absl::Status ReadSparse24Rows(const Sparse24Tensor& tensor, int64_t begin,
                              int64_t count, float* out) {
  QEFF_CHECK(begin >= 0 && count >= 0 && begin <= tensor.rows - count);
  const int64_t elem_bytes =
      static_cast<int64_t>(DTypeBytes(tensor.compressed.dtype));
  const size_t cols = static_cast<size_t>(tensor.cols);
  std::vector<uint8_t> row(cols * static_cast<size_t>(elem_bytes));
  const size_t kept_bytes = row.size() / 2;
  const size_t mask_bytes = static_cast<size_t>(Sparse24MaskBytes(tensor.cols));
  for (int64_t r = 0; r < count; ++r) {
    const size_t from = static_cast<size_t>(begin + r);
    const absl::optional<int64_t> bad = ExpandSparse24(
        elem_bytes,
        tensor.compressed.bytes.subspan(from * kept_bytes, kept_bytes),
        tensor.mask.bytes.subspan(from * mask_bytes, mask_bytes),
        absl::MakeSpan(row));
    if (bad.has_value()) {
      return InvalidInputError(tensor.place, ": row ", begin + r, ", column ",
                               *bad,
                               ": expected two bits of each four, and none "
                               "beyond the row");
    }
    ConvertToFloat(tensor.compressed.dtype, row,
                   absl::MakeSpan(out + static_cast<size_t>(r) * cols, cols));
  }
  return absl::OkStatus();
}

}  // namespace qeff
