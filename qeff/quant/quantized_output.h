// SPDX-License-Identifier: Apache-2.0
//
// The tensors that a quantization plan writes, and how their bytes are handed
// on, whatever computes them.

#ifndef QEFF_QUANT_QUANTIZED_OUTPUT_H_
#define QEFF_QUANT_QUANTIZED_OUTPUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "qeff/io/checkpoint.h"
#include "qeff/quant/quantize_plan.h"

namespace qeff {

// Takes bytes of a tensor of the output. May be called from several threads.
using TensorSink = absl::FunctionRef<absl::Status(
    const std::string& name, uint64_t offset_bytes,
    absl::Span<const uint8_t> bytes)>;

// All tensors of the output.
std::vector<TensorInfo> OutputTensors(const QuantizePlan& plan);

// Rows of a quantized tensor are written in pieces that begin at a multiple of
// this: then their zero points, packed along the rows, are whole words for any
// number of bits.
inline constexpr int64_t kQuantizedRowMultiple = 32;

// Results for some rows of a tensor, as QuantizeRows gives them.
struct QuantizedRowBytes {
  absl::Span<const uint8_t> packed;  // [rows, row_bytes]
  absl::Span<const uint8_t> scales;  // [rows, groups] of scale_dtype
  absl::Span<const uint8_t> zeros;   // [rows, groups], one a byte; or empty
  // [rows, block_row_bytes] with ggml's blocks, which have none of the above.
  absl::Span<const uint8_t> blocks = {};
};

// Hands on rows [begin, begin + count) of all tensors that `tensor` becomes.
// Preconditions: begin is a multiple of kQuantizedRowMultiple, and so is count
// unless the tensor ends there. Not the input scale, which no row has. Errors:
// those of `sink`.
absl::Status WriteQuantizedRows(const PlannedTensor& tensor, int64_t begin,
                                int64_t count, const QuantizedRowBytes& rows,
                                TensorSink sink);

// Hands on bytes [begin, begin + count) of tensor `name` as they are, and lets
// go of their pages. Errors: those of `sink`.
absl::Status CopyTensorBytes(const Checkpoint& checkpoint,
                             const std::string& name, int64_t begin,
                             int64_t count, TensorSink sink);

}  // namespace qeff

#endif  // QEFF_QUANT_QUANTIZED_OUTPUT_H_
