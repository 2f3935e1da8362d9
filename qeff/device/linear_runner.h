// SPDX-License-Identifier: Apache-2.0
//
// Linear layers over several tokens at once, whatever layout their weights
// have. Layers that share an input (query, key and value; gate and up) share
// what has to be made of it: codes for integer weights, bf16 for packed bf16.

#ifndef QEFF_DEVICE_LINEAR_RUNNER_H_
#define QEFF_DEVICE_LINEAR_RUNNER_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/device/engine_options.h"
#include "qeff/device/model.h"
#include "qeff/device/op_times.h"
#include "qeff/kernels/matmul_int/matmul_int.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/aligned.h"

namespace qeff {
namespace internal_device {

// A layer and where its output goes, [tokens, rows].
struct LinearOutput {
  const DeviceLinear* linear;
  MatrixView<float> y;
};

// Not thread-safe. Allocates only in Reserve.
class LinearRunner {
 public:
  // `pool` and `times` must outlive it. Making codes and bf16 is
  // added to `times` as kQuantize.
  LinearRunner(Activations activations, ThreadPool* pool, OpTimes* times)
      : activations_(activations), pool_(pool), times_(times) {}

  // Makes room for inputs of up to `max_tokens` tokens to `weight`. Throws
  // std::bad_alloc.
  void Reserve(const DeviceMatrix& weight, int64_t max_tokens);

  // The input of the following layers, [tokens, cols]; it must not change
  // until the next SetInput. Precondition: room was reserved.
  void SetInput(MatrixView<const float> x);

  // y[t, r] = sum over c of W[r, c] * x[t, c] + b[r]: y is [tokens, rows].
  // A token's result does not depend on the other tokens or the number of
  // threads. Precondition: x has the columns of the weight.
  void Multiply(const DeviceLinear& linear, MatrixView<float> y);
  void Multiply(const DeviceMatrix& weight, MatrixView<float> y);

  // The same for several layers, faster where they can run as one. At most
  // kMaxIntProducts.
  void MultiplyAll(absl::Span<const LinearOutput> outputs);

 private:
  // Codes of the input for `layout`, made unless they are there. `input_scale`
  // is DeviceMatrix's.
  QuantizedActivations Codes(const PackedIntLayout& layout, float input_scale);

  void MultiplyRows(const DeviceMatrix& weight, MatrixView<float> y);
  void MultiplyInt(const PackedIntLayout& layout, const DeviceMatrix& weight,
                   MatrixView<float> y);
  void MultiplyBF16(const PackedBF16Layout& layout, const DeviceMatrix& weight,
                    MatrixView<float> y);

  // As MultiplyBF16 with x in float32, as a sum of three bf16 numbers.
  void MultiplyBF16Exactly(const PackedBF16Layout& layout,
                           const DeviceMatrix& weight, MatrixView<float> y);

  const Activations activations_;
  ThreadPool* const pool_;
  OpTimes* const times_;
  MatrixView<const float> x_;
  int64_t codes_group_elems_ = 0;  // that `codes_` were made for; 0: none yet
  float codes_input_scale_ = 0;
  bool bf16_made_ = false;
  AlignedArray<uint8_t> codes_;
  AlignedArray<uint8_t> bf16_;
  AlignedArray<float> rest_;  // what bf16 leaves of the input, with kFloat32
  AlignedArray<uint8_t> panels_;  // for sparse weights, with kFloat32
};

}  // namespace internal_device
}  // namespace qeff

#endif  // QEFF_DEVICE_LINEAR_RUNNER_H_
