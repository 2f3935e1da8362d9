// SPDX-License-Identifier: Apache-2.0

#include "qeff/compile/pack_matrix.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/kernels/matmul_bf16/pack_bf16_weights.h"
#include "qeff/kernels/matmul_int/pack_int_weights.h"
#include "qeff/util/aligned.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

absl::StatusOr<PackedIntLayout> LayoutOf(const QuantizedRowsView& rows,
                                         int64_t num_rows) {
  const int64_t group_size =
      rows.group_elems >= rows.cols ? 0 : rows.group_elems;
  return PackedIntLayout::Create(rows.bits, num_rows, rows.cols, group_size,
                                 rows.scale_dtype,
                                 /*asymmetric=*/!rows.zeros.empty());
}

// Packed, or as float32 rows where the integer product has no such layout.
DeviceMatrix Plan(const absl::StatusOr<PackedIntLayout>& layout, int64_t rows,
                  int64_t cols) {
  DeviceMatrix matrix = PlanFloats(rows, cols);
  if (layout.ok()) matrix.layout = *layout;
  return matrix;
}

// A matrix of such a layout whose panels `pack(begin, count, bytes)` writes.
template <class Layout, class Pack>
DeviceMatrix PackPanels(const Layout& layout, ThreadPool* pool,
                        const Pack& pack) {
  const auto bytes = std::make_shared<AlignedArray<uint8_t>>(
      static_cast<size_t>(layout.total_bytes()));
  pool->ParallelFor(
      layout.panels(), BalancedGrain(layout.panels(), pool->num_threads(), 1),
      [&](int64_t begin, int64_t end, int /*thread*/) {
        pack(begin, end - begin,
             bytes->span().subspan(
                 static_cast<size_t>(begin * layout.panel_bytes()),
                 static_cast<size_t>((end - begin) * layout.panel_bytes())));
      });
  DeviceMatrix matrix;
  matrix.layout = layout;
  matrix.rows = layout.rows();
  matrix.cols = layout.cols();
  matrix.bytes = bytes->span();
  matrix.owner = bytes;
  return matrix;
}

}  // namespace

bool CanPack(const QuantizedRowsView& rows, int64_t num_rows) {
  return LayoutOf(rows, num_rows).ok();
}

DeviceMatrix PackQuantized(const QuantizedRowsView& rows, int64_t num_rows,
                           ThreadPool* pool) {
  QEFF_CHECK(CanPack(rows, num_rows));
  const PackedIntLayout layout = *LayoutOf(rows, num_rows);
  return PackPanels(
      layout, pool,
      [&](int64_t begin, int64_t count, absl::Span<uint8_t> packed) {
        PackIntWeights(layout, rows, begin, count, packed);
      });
}

DeviceMatrix DequantizeToRows(const QuantizedRowsView& rows, int64_t num_rows,
                              ThreadPool* pool) {
  Matrix<float> matrix(num_rows, rows.cols);
  pool->ParallelFor(num_rows, BalancedGrain(num_rows, pool->num_threads(), 1),
                    [&](int64_t begin, int64_t end, int /*thread*/) {
                      DequantizeRows(
                          rows, begin, end - begin,
                          matrix.span().subspan(
                              static_cast<size_t>(begin * rows.cols),
                              static_cast<size_t>((end - begin) * rows.cols)));
                    });
  return OwnedMatrix(std::move(matrix));
}

DeviceMatrix PackBF16(const TensorView& weights, ThreadPool* pool) {
  QEFF_CHECK(weights.dtype == DType::kBF16);
  const absl::StatusOr<PackedBF16Layout> layout =
      PackedBF16Layout::Create(weights.shape[0], weights.shape[1]);
  QEFF_CHECK(layout.ok());
  return PackPanels(
      *layout, pool,
      [&](int64_t begin, int64_t count, absl::Span<uint8_t> packed) {
        PackBF16Weights(*layout, weights.bytes, begin, count, packed);
      });
}

DeviceMatrix PlanFloats(int64_t rows, int64_t cols) {
  DeviceMatrix matrix;
  matrix.layout = FloatRows{DType::kF32};
  matrix.rows = rows;
  matrix.cols = cols;
  return matrix;
}

DeviceMatrix PlanQuantized(const QuantizedRowsView& rows, int64_t num_rows) {
  return Plan(LayoutOf(rows, num_rows), num_rows, rows.cols);
}

DeviceMatrix PlanBF16(int64_t rows, int64_t cols) {
  const absl::StatusOr<PackedBF16Layout> layout =
      PackedBF16Layout::Create(rows, cols);
  QEFF_CHECK(layout.ok());
  DeviceMatrix matrix = PlanFloats(rows, cols);
  matrix.layout = *layout;
  return matrix;
}

DeviceMatrix PlanQuantizedCopy(const QuantScheme& scheme, DType weights,
                               int64_t rows, int64_t cols) {
  const int64_t group_size = scheme.group_size >= cols ? 0 : scheme.group_size;
  return Plan(PackedIntLayout::Create(scheme.bits, rows, cols, group_size,
                                      ScaleDType(weights), !scheme.symmetric),
              rows, cols);
}

absl::StatusOr<QuantizedCopy> QuantizedCopy::Make(const QuantScheme& scheme,
                                                  const TensorView& weights,
                                                  ThreadPool* pool) {
  QuantizedCopy copy;
  copy.scheme_ = scheme;
  copy.scale_dtype_ = ScaleDType(weights.dtype);
  copy.num_rows_ = weights.shape[0];
  copy.cols_ = weights.shape[1];
  const QuantizedShape shape(scheme, copy.num_rows_, copy.cols_);
  const size_t row_bytes = static_cast<size_t>(shape.row_words) * 4;
  const size_t groups = static_cast<size_t>(shape.groups);
  const size_t scale_row = groups * DTypeBytes(copy.scale_dtype_);
  const size_t rows = static_cast<size_t>(copy.num_rows_);
  copy.packed_.resize(rows * row_bytes);
  copy.scales_.resize(rows * scale_row);
  copy.zeros_.resize(scheme.symmetric ? 0 : rows * groups);
  const size_t from_row =
      static_cast<size_t>(copy.cols_) * DTypeBytes(weights.dtype);
  std::mutex mutex;
  int64_t bad_elem = INT64_MAX;  // the first, guarded by mutex
  pool->ParallelFor(
      copy.num_rows_, BalancedGrain(copy.num_rows_, pool->num_threads(), 1),
      [&](int64_t begin, int64_t end, int /*thread*/) {
        const size_t first = static_cast<size_t>(begin);
        const size_t count = static_cast<size_t>(end - begin);
        const auto part = [&](std::vector<uint8_t>* all, size_t row_size) {
          return absl::MakeSpan(*all).subspan(first * row_size,
                                              count * row_size);
        };
        const auto bad = QuantizeRows(
            scheme, copy.scale_dtype_, weights.dtype,
            weights.bytes.subspan(first * from_row, count * from_row),
            end - begin, copy.cols_,
            {part(&copy.packed_, row_bytes), part(&copy.scales_, scale_row),
             scheme.symmetric ? absl::Span<uint8_t>()
                              : part(&copy.zeros_, groups)});
        if (!bad.has_value()) return;
        const std::lock_guard<std::mutex> lock(mutex);
        bad_elem = std::min(bad_elem, begin * copy.cols_ + *bad);
      });
  if (bad_elem != INT64_MAX) {
    return NumericalError("row ", bad_elem / copy.cols_, ", column ",
                          bad_elem % copy.cols_, " is not finite");
  }
  return copy;
}

QuantizedRowsView QuantizedCopy::view() const {
  QuantizedRowsView view;
  view.bits = scheme_.bits;
  view.cols = cols_;
  view.group_elems = scheme_.group_size == 0
                         ? cols_
                         : std::min<int64_t>(scheme_.group_size, cols_);
  view.scale_dtype = scale_dtype_;
  view.packed = packed_;
  view.scales = scales_;
  view.zeros = zeros_;
  return view;
}

}  // namespace qeff
