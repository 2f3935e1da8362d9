// SPDX-License-Identifier: Apache-2.0
//
// Reads parts of a checkpoint's tensors as float32, whatever they are stored
// as. The one place that knows how a linear layer's matrix may be stored.

#ifndef QEFF_TRANSFORMER_WEIGHT_READER_H_
#define QEFF_TRANSFORMER_WEIGHT_READER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/quantization_config.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/model_map.h"

namespace qeff {

// A tensor that must exist.
struct ExpectedTensor {
  std::string name;
  Shape shape;
};

// Borrows both arguments. Thread-safe.
class WeightReader {
 public:
  // `quantization` says which linear layers hold codes; null for none.
  WeightReader(const Checkpoint& checkpoint,
               const QuantizationConfig* quantization)
      : checkpoint_(&checkpoint), quantization_(quantization) {}

  // kNotFound when the tensor is missing, kInvalidArgument (naming what was
  // found) unless it has this shape and a floating dtype.
  absl::Status CheckTensor(const ExpectedTensor& expected) const;

  // Checks the tensors that hold `module`'s weight, and its bias, and returns
  // their names. Of a quantized layer the scales are read, too. Errors: as
  // CheckTensor and ReadQuantizedMatrix.
  absl::StatusOr<std::vector<std::string>> CheckLinear(
      const LinearModule& module) const;

  // All elements of a checked tensor.
  absl::StatusOr<std::vector<float>> ReadVector(const std::string& name) const;

  // Row `row` of a checked matrix tensor. Precondition: it has such a row.
  absl::Status ReadRow(const std::string& name, int64_t row,
                       absl::Span<float> out) const;

  // Rows [begin, begin + out.rows()) of the [out_features, in_features] matrix
  // of a checked module, dequantized or turned if need be. Precondition: the
  // range lies inside; `out` is contiguous.
  absl::Status ReadLinearRows(const LinearModule& module, int64_t begin,
                              MatrixView<float> out) const;

  // Lets go of the pages of whatever tensors begin with `module` + ".".
  void ReleaseLinear(const LinearModule& module) const;
  void ReleaseTensor(const std::string& name) const;

 private:
  bool IsQuantized(const LinearModule& module) const;

  absl::StatusOr<std::vector<std::string>> CheckWeight(
      const LinearModule& module) const;

  absl::StatusOr<std::vector<std::string>> CheckSparseWeight(
      const LinearModule& module) const;

  // AutoGPTQ gave every layer a bias, of zeros where the model has none.
  absl::Status CheckUnusedBias(const std::string& name) const;

  const Checkpoint* checkpoint_;
  const QuantizationConfig* quantization_;
};

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_WEIGHT_READER_H_
