// SPDX-License-Identifier: Apache-2.0

#include "qeff/compile/sparse_matrix.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "absl/types/optional.h"
#include "qeff/device/package/model_tensors.h"
#include "qeff/device/package/package_header.h"
#include "qeff/format/packing.h"
#include "qeff/kernels/matmul_bf16/packed_bf16_layout.h"
#include "qeff/kernels/matmul_bf16/sparse_bf16_weights.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/kernels/matmul_int/sparse_int_weights.h"
#include "qeff/util/aligned.h"
#include "qeff/util/checked.h"

namespace qeff {
namespace {

constexpr int64_t kSampleRows = 64;

template <typename Layout>
bool IsBetter(const Layout& sparse, const Layout& dense, double max_if_faster,
              SparseRule rule) {
  const double part = static_cast<double>(sparse.total_bytes()) /
                      static_cast<double>(dense.total_bytes());
  return rule == SparseRule::kSmaller ? part < 1 : part <= max_if_faster;
}

template <typename Layout, typename Compress>
DeviceMatrix Compressed(DeviceMatrix packed, const Layout& sparse,
                        const Compress& compress, ThreadPool* pool) {
  const auto bytes = std::make_shared<AlignedArray<uint8_t>>(
      static_cast<size_t>(sparse.total_bytes()));
  compress(sparse, packed.bytes, bytes->span(), pool);
  DeviceMatrix matrix = std::move(packed);
  matrix.layout = sparse;
  matrix.bytes = bytes->span();
  matrix.owner = bytes;
  return matrix;
}

bool IsQuarter(int64_t zeros, int64_t of) { return 4 * zeros >= of; }

}  // namespace

bool LooksPruned(const QuantizedRowsView& rows, int64_t num_rows) {
  const int64_t row_bytes = 4 * PackedWords(rows.bits, rows.cols);
  const int64_t groups = (rows.cols + rows.group_elems - 1) / rows.group_elems;
  std::vector<uint8_t> codes(static_cast<size_t>(rows.cols));
  const int64_t sample = std::min(kSampleRows, num_rows);
  int64_t zeros = 0;
  for (int64_t i = 0; i < sample; ++i) {
    const int64_t row = i * num_rows / sample;
    UnpackCodes(rows.bits,
                rows.packed.subspan(static_cast<size_t>(row * row_bytes),
                                    static_cast<size_t>(row_bytes)),
                absl::MakeSpan(codes));
    for (int64_t c = 0; c < rows.cols; ++c) {
      const int64_t group = row * groups + c / rows.group_elems;
      const int zero = rows.zeros.empty()
                           ? 1 << (rows.bits - 1)
                           : rows.zeros[static_cast<size_t>(group)];
      zeros += codes[static_cast<size_t>(c)] == zero ? 1 : 0;
    }
  }
  return IsQuarter(zeros, sample * rows.cols);
}

bool LooksPruned(absl::Span<const uint8_t> weights, size_t elem_bytes) {
  constexpr size_t kSampleElems = 4096;
  const size_t elems = weights.size() / elem_bytes;
  const size_t sample = std::min<size_t>(kSampleRows, elems);
  int64_t zeros = 0, count = 0;
  for (size_t i = 0; i < sample; ++i) {
    const size_t begin = i * (elems / sample);
    for (size_t at = begin; at < std::min(begin + kSampleElems, elems); ++at) {
      const auto elem = weights.subspan(at * elem_bytes, elem_bytes);
      zeros += std::count(elem.begin(), elem.end(), 0) ==
                       static_cast<std::ptrdiff_t>(elem_bytes)
                   ? 1
                   : 0;
      ++count;
    }
  }
  return IsQuarter(zeros, count);
}

DeviceMatrix SparseWhereBetter(DeviceMatrix packed, SparseRule rule,
                               ThreadPool* pool) {
  if (rule == SparseRule::kNever) return packed;
  if (const auto* dense = std::get_if<PackedBF16Layout>(&packed.layout)) {
    const PackedBF16Layout sparse = SparseLayoutOf(*dense, packed.bytes, pool);
    if (!IsBetter(sparse, *dense, kMaxSparseBytes, rule)) return packed;
    return Compressed(std::move(packed), sparse, CompressBF16Weights, pool);
  }
  const auto& dense = std::get<PackedIntLayout>(packed.layout);
  if (rule == SparseRule::kFaster && dense.bits() == 4 &&
      dense.cols() < kMin4BitCols) {
    return packed;
  }
  const absl::optional<PackedIntLayout> sparse =
      SparseLayoutOf(dense, packed.bytes, pool);
  if (!sparse.has_value()) return packed;
  const bool masked_4_bits =
      dense.bits() == 4 && !sparse->sparse_codes().two_of_four;
  if (!IsBetter(*sparse, dense,
                masked_4_bits ? kMaxMasked4BitBytes : kMaxSparseBytes, rule)) {
    return packed;
  }
  return Compressed(std::move(packed), *sparse, CompressIntWeights, pool);
}

bool IsSparse(const WeightLayout& layout) {
  if (const auto* ints = std::get_if<PackedIntLayout>(&layout)) {
    return ints->sparse();
  }
  const auto* bf16 = std::get_if<PackedBF16Layout>(&layout);
  return bf16 != nullptr && bf16->sparse();
}

WeightLayout DenseLayoutOf(const WeightLayout& layout) {
  if (const auto* ints = std::get_if<PackedIntLayout>(&layout)) {
    return ints->Dense();
  }
  if (const auto* bf16 = std::get_if<PackedBF16Layout>(&layout)) {
    return bf16->Dense();
  }
  return layout;
}

int64_t KeepDenseInCaches(DeviceModel* plan) {
  const bool tied = plan->lm_head.weight.rows == 0;
  CheckedU64 bytes;
  VisitMatrices(plan, [&](const TensorId& id, const DeviceMatrix* matrix) {
    const bool read = IsInBlock(id.role) ||
                      id.role == TensorRole::kLmHeadWeight ||
                      (tied && id.role == TensorRole::kTokenEmbedding);
    if (!read || matrix->rows == 0) return;
    bytes = bytes + LayoutBytes(DenseLayoutOf(matrix->layout), matrix->rows,
                                matrix->cols);
  });
  if (!bytes.AtMost(kMaxCachedBytes)) return 0;
  int64_t count = 0;
  VisitMatrices(plan, [&](const TensorId&, DeviceMatrix* matrix) {
    if (!IsSparse(matrix->layout)) return;
    matrix->layout = DenseLayoutOf(matrix->layout);
    ++count;
  });
  return count;
}

}  // namespace qeff
