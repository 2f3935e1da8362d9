// SPDX-License-Identifier: Apache-2.0
//
// Linear layers as GPTQ and AWQ store them (qeff/format/gptq_awq_packing.h),
// made the rows that all else here works with. quantized_tensor.h is the way
// to them; this is a part of it.

#ifndef QEFF_IO_GPTQ_AWQ_TENSOR_H_
#define QEFF_IO_GPTQ_AWQ_TENSOR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/quantized_matrix.h"
#include "qeff/io/weight_quantization.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Borrows the checkpoint. Thread-safe once opened.
class GptqAwqTensor {
 public:
  // Checks all tensors of `module`, and reads those of scales, zero points and
  // groups. Zero points of a symmetric model must all be 2^(bits-1), or, as
  // GPTQ stores them, one less, whatever the version that the folder declares:
  // some declare "gptq" and hold those of "gptq_v2". Precondition:
  // IsInputMajor(layout). Errors: kNotFound for a missing tensor;
  // kInvalidArgument for a wrong dtype or shape, a scale that is not finite,
  // a zero point that a symmetric model cannot have and a group that does not
  // exist.
  static absl::StatusOr<GptqAwqTensor> Open(const Checkpoint& checkpoint,
                                            absl::string_view module,
                                            QuantizedLayout layout,
                                            const WeightQuantization& weights);

  // The sizes, without codes, scales and zero points.
  const QuantizedMatrix& description() const { return description_; }

  // Rows [begin, begin + count) as a matrix of their own, all memory owned.
  // Precondition (checked): they exist. Throws std::bad_alloc.
  QuantizedMatrix Rows(int64_t begin, int64_t count) const;

 private:
  GptqAwqTensor() = default;

  absl::Status OpenCodes();
  absl::Status OpenZeros(bool symmetric);

  const Checkpoint* checkpoint_ = nullptr;
  QuantizedLayout layout_ = QuantizedLayout::kGptq;
  QuantizedMatrix description_;
  TensorView qweight_;
  TensorView scales_;
  // [groups, rows]; empty when all are 2^(bits-1).
  std::vector<uint8_t> zeros_;
};

}  // namespace qeff

#endif  // QEFF_IO_GPTQ_AWQ_TENSOR_H_
