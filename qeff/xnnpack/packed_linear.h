// SPDX-License-Identifier: Apache-2.0
//
// Float32 products with a fixed weight matrix, which is packed once for the
// machine's vector unit. For weights that change between products (training,
// Hessians) packing does not pay: use the SGEMM of qeff/kernels.

#ifndef QEFF_XNNPACK_PACKED_LINEAR_H_
#define QEFF_XNNPACK_PACKED_LINEAR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// y = x W^T + b for a fixed W of [out, in]. Thread-compatible: Run uses state
// of its own, so one object runs one product at a time.
class PackedLinear {
 public:
  // XNNPACK may read this many elements past the last row of an input.
  static constexpr int64_t kReadBeyondElems = 4;

  // Packs `weight` [out, in], contiguous rows, and `bias` (out values, or empty
  // for none) on the threads of `pool`; neither is needed afterwards. Outputs
  // of Run have rows that are `output_stride_elems` apart (0: out). Errors:
  // kResourceExhausted when memory is out, kUnimplemented when XNNPACK does
  // not support the machine. Preconditions (checked): out, in >= 1; contiguous
  // weight; matching bias; stride >= out. Cost: about 5 ns a weight and thread.
  static absl::StatusOr<PackedLinear> Create(MatrixView<const float> weight,
                                             absl::Span<const float> bias,
                                             ThreadPool& pool,
                                             int64_t output_stride_elems = 0);

  PackedLinear(PackedLinear&&) = default;
  PackedLinear& operator=(PackedLinear&&) = default;

  int64_t out_features() const { return out_; }
  int64_t in_features() const { return in_; }

  // Memory of packed weights of [out, in]: what Create will take, about.
  static uint64_t PackedBytes(int64_t out, int64_t in);

  // y = x W^T + b for x of [rows, in] and y of [rows, out]; 0 rows are allowed.
  // Each element sums its products in the order of `in`, beginning with the
  // bias, so its bits depend on its own row and column only: not on the number
  // of rows or threads. They are the same on all machines with fused
  // multiply-add (x86 from Haswell, aarch64), not on older ones. An output
  // that would be NaN may become infinite instead.
  // Preconditions (checked): shapes; contiguous x; the stride of y is that of
  // Create (any for one row); x and y do not overlap. kReadBeyondElems elements
  // behind x must be readable.
  absl::Status Run(MatrixView<const float> x, MatrixView<float> y,
                   ThreadPool& pool);

 private:
  struct Operator;  // an XNNPACK operator for some of the columns of y
  struct OperatorDeleter {
    void operator()(Operator* op) const;
  };

  // The operators cover columns [begin, begin + columns) of y in order; each
  // runs on one thread at a time, which also packs it: XNNPACK itself packs
  // weights on one thread only.
  struct Shard {
    int64_t begin;
    int64_t columns;
    std::unique_ptr<Operator, OperatorDeleter> op;
  };

  PackedLinear() = default;

  int64_t out_ = 0;
  int64_t in_ = 0;
  int64_t output_stride_elems_ = 0;
  std::vector<Shard> shards_;
};

}  // namespace qeff

#endif  // QEFF_XNNPACK_PACKED_LINEAR_H_
