// SPDX-License-Identifier: Apache-2.0
//
// Linear layers as compressed-tensors' sparse-24-bitmask stores them: floats,
// two of each four (qeff/format/sparse_24.h). The layer `M` of [out, in]
// weights has, instead of M.weight,
//   M.compressed  F16, BF16, F32  [out, in / 2]
//   M.bitmask     U8              [out, ceil(in / 8)]
//   M.shape       I64             [2] = (out, in)

#ifndef QEFF_IO_SPARSE_24_TENSOR_H_
#define QEFF_IO_SPARSE_24_TENSOR_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/io/checkpoint.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// The value of sparsity_config's format.
inline constexpr char kSparse24Format[] = "sparse-24-bitmask";

// The tensors of the layer `module` of [rows, cols] weights in `dtype`, in the
// order above.
std::vector<TensorInfo> Sparse24Tensors(absl::string_view module, DType dtype,
                                        int64_t rows, int64_t cols);

// Whether `checkpoint` stores the layer `module` so.
bool HasSparse24Weight(const Checkpoint& checkpoint, absl::string_view module);

// A layer that is stored so. Borrows the checkpoint. Thread-safe.
struct Sparse24Tensor {
  std::string place;  // of the mask, for messages
  int64_t rows = 0;
  int64_t cols = 0;
  TensorView compressed;
  TensorView mask;
};

// Errors: kNotFound for a missing tensor; kInvalidArgument for a wrong dtype or
// shape, naming both.
absl::StatusOr<Sparse24Tensor> OpenSparse24Tensor(const Checkpoint& checkpoint,
                                                  absl::string_view module);

// Rows [begin, begin + count) as float32. Errors: kInvalidArgument for a mask
// that is not two of each four, naming tensor, row and column. Precondition
// (checked): the rows exist.
absl::Status ReadSparse24Rows(const Sparse24Tensor& tensor, int64_t begin,
                              int64_t count, float* out);

}  // namespace qeff

#endif  // QEFF_IO_SPARSE_24_TENSOR_H_
