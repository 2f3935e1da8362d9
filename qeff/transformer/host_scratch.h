// SPDX-License-Identifier: Apache-2.0
//
// Memory for intermediate values that is used again from step to step.

#ifndef QEFF_TRANSFORMER_HOST_SCRATCH_H_
#define QEFF_TRANSFORMER_HOST_SCRATCH_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "qeff/tensor/tensor.h"
#include "qeff/util/aligned.h"
#include "qeff/util/checked.h"
#include "qeff/xnnpack/packed_linear.h"

namespace qeff {

// One growing buffer for each use. A view is valid until the next Get of the
// same slot; its contents are whatever was there. PackedLinear may read behind
// it. Not thread-safe.
class HostScratch {
 public:
  enum Slot {
    kNormed,
    kQ,  // or the fused q, k, v
    kK,
    kV,
    kAttention,
    kGate,
    kUp,
    kResidual,  // what is added to the hidden states
    kFinal,
    kLogitsInput,
    kNumSlots,
  };

  MatrixView<float> Get(Slot slot, int64_t rows, int64_t cols) {
    const CheckedU64 elems =
        CheckedU64(rows) * cols + PackedLinear::kReadBeyondElems;
    AlignedArray<float>& buffer = buffers_[slot];
    if (!elems.valid()) throw std::bad_alloc();
    if (buffer.size() < elems.value()) {
      buffer = AlignedArray<float>();  // free first
      buffer = AlignedArray<float>(elems.value());
    }
    return MatrixView<float>(buffer.data(), rows, cols);
  }

 private:
  std::array<AlignedArray<float>, kNumSlots> buffers_;
};

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_HOST_SCRATCH_H_
