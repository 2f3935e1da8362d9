// SPDX-License-Identifier: Apache-2.0
//
// Which packed matrices become sparse: those of pruned models, where that takes
// fewer bytes and no more time. SparseWhereBetter looks at one matrix,
// KeepDenseInCaches at what all of them have in common.

#ifndef QEFF_COMPILE_SPARSE_MATRIX_H_
#define QEFF_COMPILE_SPARSE_MATRIX_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "qeff/device/model.h"
#include "qeff/kernels/quantize/quantize.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {

enum class SparseRule : uint8_t {
  // Where decoding is faster: at most kMaxSparseBytes of the dense bytes, of 4
  // bits with masks kMaxMasked4BitBytes, because expanding those takes about as
  // long as reading the dense codes from the fastest memory that was measured;
  // of 4 bits with rows of at least kMin4BitCols; and unless the model is small
  // (KeepDenseInCaches).
  kFaster,
  kSmaller,  // wherever there are fewer bytes
  kNever,
};
inline constexpr double kMaxSparseBytes = 0.8;
inline constexpr double kMaxMasked4BitBytes = 0.72;
// What the beginning of each row costs is more than what shorter ones gain.
inline constexpr int64_t kMin4BitCols = 1024;

// Weights that a token reads, up to which they are taken to be in caches when
// the next token reads them again: that is faster than expanding. Measured on a
// machine with 32 MiB for all processors: README.md.
inline constexpr uint64_t kMaxCachedBytes = 16 << 20;

// Whether a quarter of the weights of a sample of 64 rows are 0: others are
// not worth the work of finding out. Rounding alone makes fewer zeros.
// The rows must have packed codes; the second form takes elements that are 0
// where all of their `elem_bytes` bytes are: signed codes, bf16.
bool LooksPruned(const QuantizedRowsView& rows, int64_t num_rows);
bool LooksPruned(absl::Span<const uint8_t> weights, size_t elem_bytes);

// `packed`, integers or bf16, or the same matrix in a sparse layout if there is
// one that `rule` wants. Values do not change. Throws std::bad_alloc.
DeviceMatrix SparseWhereBetter(DeviceMatrix packed, SparseRule rule,
                               ThreadPool* pool);

bool IsSparse(const WeightLayout& layout);
// Of the same matrix with its zeros.
WeightLayout DenseLayoutOf(const WeightLayout& layout);

// For kFaster: makes the sparse matrices of `plan`, which has no bytes, dense
// where the matrices of the blocks and lm_head would have at most
// kMaxCachedBytes if all were dense. Returns how many.
int64_t KeepDenseInCaches(DeviceModel* plan);

}  // namespace qeff

#endif  // QEFF_COMPILE_SPARSE_MATRIX_H_
