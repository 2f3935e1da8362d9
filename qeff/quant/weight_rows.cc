// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/weight_rows.h"

#include <algorithm>

#include "qeff/kernels/convert/convert.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Stored rows that are turned at a time: 16 floats are a cache line of the
// destination.
constexpr int64_t kTileRows = 16;

bool IsKernelDType(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

absl::Span<const uint8_t> Elements(const TensorView& tensor, int64_t first,
                                   int64_t count) {
  const size_t size = DTypeBytes(tensor.dtype);
  return tensor.bytes.subspan(static_cast<size_t>(first) * size,
                              static_cast<size_t>(count) * size);
}

// Columns [begin, begin + count) of `stored`, as rows of `to`.
void Transpose(const TensorView& stored, int64_t begin, int64_t count,
               float* to) {
  const int64_t in = stored.shape[0], out = stored.shape[1];
  std::vector<float> tile(static_cast<size_t>(kTileRows * count));
  for (int64_t k = 0; k < in; k += kTileRows) {
    const int64_t height = std::min(kTileRows, in - k);
    for (int64_t i = 0; i < height; ++i) {
      ConvertToFloat(
          stored.dtype, Elements(stored, (k + i) * out + begin, count),
          absl::MakeSpan(tile.data() + i * count, static_cast<size_t>(count)));
    }
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t i = 0; i < height; ++i) {
        to[r * in + k + i] = tile[static_cast<size_t>(i * count + r)];
      }
    }
  }
}

}  // namespace

WeightRows ReadWeightRows(const TensorView& weight, bool transposed,
                          int64_t begin, int64_t count,
                          std::vector<float>* buffer) {
  QEFF_CHECK(IsFloating(weight.dtype) && weight.shape.rank() == 2);
  const int64_t rows = weight.shape[transposed ? 1 : 0];
  const int64_t cols = weight.shape[transposed ? 0 : 1];
  QEFF_CHECK(begin >= 0 && count >= 0 && begin <= rows - count);
  if (!transposed && IsKernelDType(weight.dtype)) {
    return {weight.dtype, Elements(weight, begin * cols, count * cols)};
  }
  buffer->resize(static_cast<size_t>(count * cols));
  if (transposed) {
    Transpose(weight, begin, count, buffer->data());
  } else {
    ConvertToFloat(weight.dtype, Elements(weight, begin * cols, count * cols),
                   absl::MakeSpan(*buffer));
  }
  return {DType::kF32,
          absl::MakeSpan(reinterpret_cast<const uint8_t*>(buffer->data()),
                         buffer->size() * sizeof(float))};
}

}  // namespace qeff
