// SPDX-License-Identifier: Apache-2.0
//
// One matrix of weights into the layout of the kernel that multiplies it.

#ifndef QEFF_COMPILE_PACK_MATRIX_H_
#define QEFF_COMPILE_PACK_MATRIX_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/device/model.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/kernels/quantize/quantize.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Whether the integer product takes such codes: 2, 3, 4 or 8 bits, in groups
// that it knows (PackedIntLayout::Create).
bool CanPack(const QuantizedRowsView& rows, int64_t num_rows);

// Packs all of `num_rows` quantized rows; codes and scales keep their values.
// Precondition: CanPack. Throws std::bad_alloc, as the others here.
DeviceMatrix PackQuantized(const QuantizedRowsView& rows, int64_t num_rows,
                           ThreadPool* pool);

// The same codes as float32 rows.
DeviceMatrix DequantizeToRows(const QuantizedRowsView& rows, int64_t num_rows,
                              ThreadPool* pool);

// Packs [rows, cols] bf16 weights.
DeviceMatrix PackBF16(const TensorView& weights, ThreadPool* pool);

// What the functions above return, without bytes: layout, rows and cols.
// PlanQuantized is PackQuantized where it can be, else DequantizeToRows; it
// looks at no code, scale or zero point.
DeviceMatrix PlanFloats(int64_t rows, int64_t cols);
DeviceMatrix PlanQuantized(const QuantizedRowsView& rows, int64_t num_rows);
DeviceMatrix PlanBF16(int64_t rows, int64_t cols);

// The same of the codes that QuantizedCopy makes of [rows, cols] weights.
DeviceMatrix PlanQuantizedCopy(const QuantScheme& scheme, DType weights,
                               int64_t rows, int64_t cols);

// Codes of float weights [rows, cols] (F32, F16 or BF16), as they are made for
// a checkpoint.
class QuantizedCopy {
 public:
  // Errors: kDataLoss for a weight that is NaN or infinite, with its place.
  static absl::StatusOr<QuantizedCopy> Make(const QuantScheme& scheme,
                                            const TensorView& weights,
                                            ThreadPool* pool);
  // Borrows from this.
  QuantizedRowsView view() const;
  int64_t num_rows() const { return num_rows_; }

 private:
  QuantizedCopy() = default;

  QuantScheme scheme_;
  DType scale_dtype_ = DType::kBF16;
  int64_t num_rows_ = 0;
  int64_t cols_ = 0;
  std::vector<uint8_t> packed_;
  std::vector<uint8_t> scales_;
  std::vector<uint8_t> zeros_;
};

}  // namespace qeff

#endif  // QEFF_COMPILE_PACK_MATRIX_H_
