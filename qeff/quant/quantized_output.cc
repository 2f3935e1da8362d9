// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/quantized_output.h"

#include <utility>

#include "qeff/format/packing.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// With the first rows.
absl::Status WriteShape(const PlannedTensor& tensor,
                        const QuantizedShape& shape, int64_t begin,
                        TensorSink sink) {
  if (begin != 0 || !shape.stores_shape) return absl::OkStatus();
  const int64_t sides[2] = {tensor.rows, tensor.cols};
  return sink(
      ShapeTensorName(tensor.module), 0,
      absl::MakeSpan(reinterpret_cast<const uint8_t*>(sides), sizeof(sides)));
}

// Packed codes of 8 bits without what pads their rows, 128 less each.
std::vector<uint8_t> SignedBytes(const QuantizedShape& shape,
                                 absl::Span<const uint8_t> packed) {
  std::vector<uint8_t> bytes;
  bytes.reserve(static_cast<size_t>(shape.rows * shape.cols));
  for (int64_t r = 0; r < shape.rows; ++r) {
    const uint8_t* row = packed.data() + r * 4 * shape.row_words;
    for (int64_t c = 0; c < shape.cols; ++c) {
      bytes.push_back(static_cast<uint8_t>(row[c] ^ 0x80));
    }
  }
  return bytes;
}

}  // namespace

std::vector<TensorInfo> OutputTensors(const QuantizePlan& plan) {
  std::vector<TensorInfo> tensors;
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.action == PlannedTensor::Action::kKeep ||
        tensor.action == PlannedTensor::Action::kAdd) {
      tensors.push_back({tensor.name, tensor.dtype, tensor.shape});
    }
    if (!tensor.quantized()) continue;
    const QuantizedShape shape(tensor.scheme, tensor.rows, tensor.cols);
    for (TensorDeclaration& declaration :
         QuantizedTensors(tensor.module, shape, tensor.scale_dtype())) {
      tensors.push_back({std::move(declaration.name), declaration.dtype,
                         std::move(declaration.shape)});
    }
  }
  return tensors;
}

absl::Status WriteQuantizedRows(const PlannedTensor& tensor, int64_t begin,
                                int64_t count, const QuantizedRowBytes& rows,
                                TensorSink sink) {
  const QuantizedShape shape(tensor.scheme, count, tensor.cols);
  if (tensor.scheme.ggml.has_value()) {
    QEFF_RETURN_IF_ERROR(sink(
        BlocksTensorName(tensor.module),
        static_cast<uint64_t>(begin * shape.block_row_bytes), rows.blocks));
    return WriteShape(tensor, shape, begin, sink);
  }
  const int64_t scale_row_bytes =
      shape.groups * static_cast<int64_t>(DTypeBytes(tensor.scale_dtype()));
  QEFF_RETURN_IF_ERROR(sink(ScaleTensorName(tensor.module),
                            static_cast<uint64_t>(begin * scale_row_bytes),
                            rows.scales));
  if (shape.signed_bytes) {
    return sink(BytesTensorName(tensor.module),
                static_cast<uint64_t>(begin * tensor.cols),
                SignedBytes(shape, rows.packed));
  }
  QEFF_RETURN_IF_ERROR(sink(tensor.scheme.codebook == Codebook::kF8E4M3
                                ? BytesTensorName(tensor.module)
                                : PackedTensorName(tensor.module),
                            static_cast<uint64_t>(begin * shape.row_bytes),
                            rows.packed));
  if (shape.asymmetric) {
    std::vector<uint8_t> words(
        static_cast<size_t>(4 * shape.zero_words * shape.groups));
    PackColumns(tensor.scheme.bits, shape.rows, shape.groups, rows.zeros,
                absl::MakeSpan(words));
    const int64_t word = begin * tensor.scheme.bits / 32;
    QEFF_RETURN_IF_ERROR(sink(ZeroPointTensorName(tensor.module),
                              static_cast<uint64_t>(4 * word * shape.groups),
                              words));
  }
  return WriteShape(tensor, shape, begin, sink);
}

absl::Status CopyTensorBytes(const Checkpoint& checkpoint,
                             const std::string& name, int64_t begin,
                             int64_t count, TensorSink sink) {
  QEFF_ASSIGN_OR_RETURN(TensorView view, checkpoint.Get(name));
  view.bytes = view.bytes.subspan(static_cast<size_t>(begin),
                                  static_cast<size_t>(count));
  QEFF_RETURN_IF_ERROR(sink(name, static_cast<uint64_t>(begin), view.bytes));
  checkpoint.Release(view);
  return absl::OkStatus();
}

}  // namespace qeff
