// SPDX-License-Identifier: Apache-2.0

#include "qeff/compile/sparse_matrix.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "absl/types/optional.h"
#include "qeff/format/packing.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/kernels/matmul_int/sparse_int_weights.h"
#include "qeff/util/aligned.h"

namespace qeff {
namespace {

constexpr int64_t kSampleRows = 64;

bool IsBetter(const PackedIntLayout& sparse, const PackedIntLayout& dense,
              SparseRule rule) {
  const double part = static_cast<double>(sparse.total_bytes()) /
                      static_cast<double>(dense.total_bytes());
  if (rule == SparseRule::kSmaller) return part < 1;
  return part <= kMaxSparseBytes &&
         (dense.bits() == 8 || sparse.sparse_codes().two_of_four);
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

bool LooksPruned(absl::Span<const uint8_t> signed_bytes) {
  constexpr size_t kSampleBytes = 4096;
  const size_t sample = std::min<size_t>(kSampleRows, signed_bytes.size());
  int64_t zeros = 0, count = 0;
  for (size_t i = 0; i < sample; ++i) {
    const size_t begin = i * (signed_bytes.size() / sample);
    const auto part = signed_bytes.subspan(begin, kSampleBytes);
    zeros += std::count(part.begin(), part.end(), 0);
    count += static_cast<int64_t>(part.size());
  }
  return IsQuarter(zeros, count);
}

DeviceMatrix SparseWhereBetter(DeviceMatrix packed, SparseRule rule,
                               ThreadPool* pool) {
  if (rule == SparseRule::kNever) return packed;
  const auto& dense = std::get<PackedIntLayout>(packed.layout);
  const absl::optional<PackedIntLayout> sparse =
      SparseLayoutOf(dense, packed.bytes, pool);
  if (!sparse.has_value() || !IsBetter(*sparse, dense, rule)) {
    return packed;
  }
  const auto bytes = std::make_shared<AlignedArray<uint8_t>>(
      static_cast<size_t>(sparse->total_bytes()));
  CompressIntWeights(*sparse, packed.bytes, bytes->span(), pool);
  DeviceMatrix matrix = std::move(packed);
  matrix.layout = *sparse;
  matrix.bytes = bytes->span();
  matrix.owner = bytes;
  return matrix;
}

}  // namespace qeff
