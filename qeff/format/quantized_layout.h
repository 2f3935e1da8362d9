// SPDX-License-Identifier: Apache-2.0
//
// Which tensors a quantized linear layer is stored as, and what they cost.
// Byte tables for readers of other tools: README.md of this folder.

#ifndef QEFF_FORMAT_QUANTIZED_LAYOUT_H_
#define QEFF_FORMAT_QUANTIZED_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "qeff/format/codebook.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// The layouts of a model folder with quantized weights; config.json's
// quant_method tells them apart. The first two use the same tensor names.
enum class QuantizedLayout : uint8_t {
  // compressed-tensors' pack-quantized: 2, 4 or 8 bits, groups that divide
  // the row; its float-quantized and mxfp4-pack-quantized; its int-quantized:
  // signed bytes.
  kCompressedTensors,
  // qeff's own: 2 to 8 bits in dense form, and a shorter last group; blocks of
  // ggml; all codebooks.
  kQeff,
  // Those of gptq_awq_packing.h: AutoGPTQ's, whose zero points are stored as
  // one less, GPTQModel's, where they are not, and AutoAWQ's GEMM.
  kGptq,
  kGptqV2,
  kAwq,
};

// Whether it is one of the last three, which store inputs first.
constexpr bool IsInputMajor(QuantizedLayout layout) {
  return layout >= QuantizedLayout::kGptq;
}

// The name in messages and flags, and, but for "gptq_v2", in quant_method:
// "compressed-tensors", "qeff", "gptq", "gptq_v2" or "awq".
absl::string_view QuantizedLayoutName(QuantizedLayout layout);

// Names of the tensors of the quantized linear layer `module`, which replace
// `module + ".weight"`.
std::string PackedTensorName(absl::string_view module);
std::string ScaleTensorName(absl::string_view module);
std::string ZeroPointTensorName(absl::string_view module);
std::string ShapeTensorName(absl::string_view module);
std::string BlocksTensorName(absl::string_view module);
// Codes that need no packing, of fp8_e4m3 and where `inputs` is not kNone, have
// the name of the original weight.
std::string BytesTensorName(absl::string_view module);
// With InputCodes::kStatic.
std::string InputScaleTensorName(absl::string_view module);
// The group of each column, I32 [cols], of compressed-tensors' actorder =
// "group", which only export writes.
std::string ColumnGroupsTensorName(absl::string_view module);

// The tensors of GPTQ and, but for the last, AWQ:
//   qweight  I32  gptq_awq_packing.h
//   qzeros   I32  gptq_awq_packing.h; less one each in kGptq, modulo 2^bits
//   scales   F16  [groups, out]
//   g_idx    I32  [in]: the group of each input
std::string QweightTensorName(absl::string_view module);
std::string QzerosTensorName(absl::string_view module);
std::string ScalesTensorName(absl::string_view module);
std::string GroupIndexTensorName(absl::string_view module);

// Sizes of a quantized matrix of [rows, cols] = [out features, in features].
// Precondition (checked): with ggml's blocks, rows are whole blocks; with
// mxfp4, cols is even.
struct QuantizedShape {
  QuantizedShape(const QuantScheme& scheme, int64_t rows, int64_t cols);

  int64_t group_elems;  // of every group but the last; cols when per row
  int64_t groups;       // a row; 0 when cols is 0
  int64_t row_words;    // 32-bit words of a row of codes
  int64_t zero_words;   // 32-bit words of a column of zero points, or 0
  bool asymmetric;
  int64_t rows;
  int64_t cols;
  // Of a row of ggml's blocks; 0 with integers. With blocks, groups, row_words
  // and zero_words are 0.
  int64_t block_row_bytes;
  // Of a row of codes: 4 * row_words but for fp8_e4m3 and mxfp4, which do not
  // fill the last word.
  int64_t row_bytes;
  absl::optional<Codebook> codebook;
  // Stored as signed bytes: QuantizedRowBytes are packed all the same, and
  // row_words and row_bytes are of those.
  bool signed_bytes;
  bool input_scale;  // a float32
  // Whether there is a weight_shape: not where the codes' own shape says it.
  bool stores_shape;

  // Bytes of all tensors of the layer together, those of QuantizedTensors.
  // Precondition: rows * cols <= 2^56.
  uint64_t StoredBytes(DType scale_dtype) const;
  // Those bytes a weight, in bits, without weight_shape and input_scale; 0
  // without weights.
  double BitsPerWeight(DType scale_dtype) const;
};

// One tensor to be stored.
struct TensorDeclaration {
  std::string name;
  DType dtype;
  Shape shape;
};

// The tensors of `module` in the order packed, scale, zero point (asymmetric
// only), shape:
//   weight_packed      I32   [rows, ceil(cols * bits / 32)]
//   weight_scale       scale [rows, groups]
//   weight_zero_point  I32   [ceil(rows * bits / 32), groups]
//   weight_shape       I64   [2] = (rows, cols)
// or, with ggml's blocks,
//   weight_blocks      U8    [rows, block_row_bytes]
//   weight_shape       I64   [2] = (rows, cols)
// or, with mxfp4 and with fp8_e4m3, as compressed-tensors has them,
//   weight_packed      U8       [rows, cols / 2]
//   weight             F8_E4M3  [rows, cols]
// in place of weight_packed, and no weight_shape.
// or, with signed_bytes (compressed-tensors' int-quantized),
//   weight             I8    [rows, cols]: code - 128
//   weight_scale       scale [rows, groups]
//   input_scale        F32   [1], with input_scale
std::vector<TensorDeclaration> QuantizedTensors(absl::string_view module,
                                                const QuantizedShape& shape,
                                                DType scale_dtype);

// Why no layout can hold a layer with `scheme` and rows of `cols` weights, for
// people to read; empty when qeff's can. Only blocks of ggml and mxfp4 have
// reasons.
std::string WhyNotQuantized(const QuantScheme& scheme, int64_t cols);

// Why compressed-tensors cannot hold a layer with `scheme` and rows of `cols`
// weights, for people to read; empty when it can. `transposed`: the original
// is stored as [in, out] (GPT-2's Conv1D, a class that compressed-tensors
// does not replace).
std::string WhyNotCompressedTensors(const QuantScheme& scheme, int64_t cols,
                                    bool transposed);

}  // namespace qeff

#endif  // QEFF_FORMAT_QUANTIZED_LAYOUT_H_
