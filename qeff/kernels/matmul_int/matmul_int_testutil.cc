// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_int/matmul_int_testutil.h"

#include <cstdint>

#include "qeff/format/packing.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/kernels/matmul_int/pack_int_weights.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/random.h"

namespace qeff {

RandomIntMatrix::RandomIntMatrix(const PackedIntLayout& layout, uint64_t seed)
    : layout_(layout) {
  const Random random(seed);
  const int bits = layout.bits();
  const size_t cols = static_cast<size_t>(layout.cols());
  codes_.resize(static_cast<size_t>(layout.rows()) * cols);
  for (size_t i = 0; i < codes_.size(); ++i) {
    codes_[i] = static_cast<uint8_t>(random.At(i) >> (64 - bits));
  }
  if (layout.asymmetric()) {
    const Random zero_random(seed, 2);
    zeros_.resize(static_cast<size_t>(layout.rows() * layout.groups()));
    for (size_t i = 0; i < zeros_.size(); ++i) {
      zeros_[i] = static_cast<uint8_t>(zero_random.At(i) >> (64 - bits));
    }
  }
  PackDense();
  const DType dtype = layout.scale_dtype();
  const size_t count = static_cast<size_t>(layout.rows() * layout.groups());
  scales_.resize(count * DTypeBytes(dtype));
  const Random scale_random(seed, 1);
  for (size_t i = 0; i < count; ++i) {
    float scale = scale_random.NormalAt(i) / 64;
    if (dtype == DType::kF16) scale = F16ToFloat(FloatToF16(scale));
    if (dtype == DType::kBF16) scale = BF16ToFloat(FloatToBF16(scale));
    StoreScale(scale, dtype, scales_.data() + i * DTypeBytes(dtype));
  }
}

void RandomIntMatrix::PackDense() {
  const size_t rows = static_cast<size_t>(layout_.rows());
  const size_t cols = static_cast<size_t>(layout_.cols());
  const size_t row_bytes =
      static_cast<size_t>(4 * PackedWords(layout_.bits(), layout_.cols()));
  dense_.resize(rows * row_bytes);
  for (size_t r = 0; r < rows; ++r) {
    PackCodes(layout_.bits(),
              absl::MakeConstSpan(codes_).subspan(r * cols, cols),
              absl::MakeSpan(dense_).subspan(r * row_bytes, row_bytes));
  }
}

int RandomIntMatrix::ZeroOf(int64_t row, int64_t col) const {
  if (zeros_.empty()) return 1 << (layout_.bits() - 1);
  return zeros_[static_cast<size_t>(row * layout_.groups() +
                                    col / layout_.group_elems())];
}

void RandomIntMatrix::Remove(
    const std::function<bool(int64_t, int64_t)>& removed) {
  for (int64_t r = 0; r < layout_.rows(); ++r) {
    for (int64_t c = 0; c < layout_.cols(); ++c) {
      if (!removed(r, c)) continue;
      codes_[static_cast<size_t>(r * layout_.cols() + c)] =
          static_cast<uint8_t>(ZeroOf(r, c));
    }
  }
  PackDense();
}

QuantizedRowsView RandomIntMatrix::view() const {
  QuantizedRowsView view;
  view.bits = layout_.bits();
  view.cols = layout_.cols();
  view.group_elems = layout_.group_elems();
  view.scale_dtype = layout_.scale_dtype();
  view.packed = dense_;
  view.scales = scales_;
  view.zeros = zeros_;
  return view;
}

ReferenceRow RandomIntMatrix::Row(int64_t row) const {
  ReferenceRow result;
  result.group_elems = layout_.group_elems();
  for (int64_t c = 0; c < layout_.cols(); ++c) {
    result.codes.push_back(
        codes_[static_cast<size_t>(row * layout_.cols() + c)] - ZeroOf(row, c));
  }
  const size_t scale_bytes = DTypeBytes(layout_.scale_dtype());
  for (int64_t g = 0; g < layout_.groups(); ++g) {
    const size_t i = static_cast<size_t>(row * layout_.groups() + g);
    result.scales.push_back(
        LoadScale(layout_.scale_dtype(), scales_.data() + i * scale_bytes));
  }
  return result;
}

AlignedArray<uint8_t> RandomIntMatrix::Pack() const {
  AlignedArray<uint8_t> packed(static_cast<size_t>(layout_.total_bytes()));
  PackIntWeights(layout_, view(), 0, layout_.panels(), packed.span());
  return packed;
}

}  // namespace qeff
