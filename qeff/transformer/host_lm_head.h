// SPDX-License-Identifier: Apache-2.0
//
// The last product of a model, in slices of the vocabulary: as large as half a
// billion weights, and used for many small products.

#ifndef QEFF_TRANSFORMER_HOST_LM_HEAD_H_
#define QEFF_TRANSFORMER_HOST_LM_HEAD_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/transformer.h"
#include "qeff/xnnpack/packed_linear.h"

namespace qeff {

// Not thread-safe. Reads nothing until it is used.
class HostLmHead {
 public:
  // 64 MiB as float32.
  static constexpr int64_t kSliceElems = int64_t{1} << 24;

  // `keep`: packed slices stay; otherwise each call packs them again. A slice
  // has about `slice_elems` weights.
  HostLmHead(std::shared_ptr<const Transformer> model, bool keep,
             int64_t slice_elems = kSliceElems)
      : model_(std::move(model)), keep_(keep), slice_elems_(slice_elems) {}

  static uint64_t PackedBytes(const TransformerSpec& spec);

  // logits = hidden W^T for hidden [rows, hidden_size] and contiguous logits
  // [rows, vocab_size]. PackedLinear::kReadBeyondElems elements behind hidden
  // must be readable. Errors: as Transformer::LoadLinear.
  absl::Status Run(MatrixView<const float> hidden, MatrixView<float> logits,
                   ThreadPool& pool);

 private:
  absl::StatusOr<PackedLinear> Pack(int64_t begin, int64_t count,
                                    ThreadPool& pool) const;

  std::shared_ptr<const Transformer> model_;
  bool keep_;
  int64_t slice_elems_;
  std::vector<PackedLinear> slices_;
};

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_HOST_LM_HEAD_H_
