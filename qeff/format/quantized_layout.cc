// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/quantized_layout.h"

#include "absl/strings/str_cat.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/format/packing.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"

namespace qeff {

absl::string_view QuantizedLayoutName(QuantizedLayout layout) {
  switch (layout) {
    case QuantizedLayout::kCompressedTensors:
      return "compressed-tensors";
    case QuantizedLayout::kQeff:
      return "qeff";
    case QuantizedLayout::kGptq:
      return "gptq";
    case QuantizedLayout::kGptqV2:
      return "gptq_v2";
    case QuantizedLayout::kAwq:
      return "awq";
  }
  QEFF_CHECK(false && "no such layout");
}

std::string PackedTensorName(absl::string_view module) {
  return absl::StrCat(module, ".weight_packed");
}
std::string ScaleTensorName(absl::string_view module) {
  return absl::StrCat(module, ".weight_scale");
}
std::string ZeroPointTensorName(absl::string_view module) {
  return absl::StrCat(module, ".weight_zero_point");
}
std::string ShapeTensorName(absl::string_view module) {
  return absl::StrCat(module, ".weight_shape");
}
std::string BlocksTensorName(absl::string_view module) {
  return absl::StrCat(module, ".weight_blocks");
}
std::string BytesTensorName(absl::string_view module) {
  return absl::StrCat(module, ".weight");
}
std::string InputScaleTensorName(absl::string_view module) {
  return absl::StrCat(module, ".input_scale");
}
std::string ColumnGroupsTensorName(absl::string_view module) {
  return absl::StrCat(module, ".weight_g_idx");
}
std::string QweightTensorName(absl::string_view module) {
  return absl::StrCat(module, ".qweight");
}
std::string QzerosTensorName(absl::string_view module) {
  return absl::StrCat(module, ".qzeros");
}
std::string ScalesTensorName(absl::string_view module) {
  return absl::StrCat(module, ".scales");
}
std::string GroupIndexTensorName(absl::string_view module) {
  return absl::StrCat(module, ".g_idx");
}

QuantizedShape::QuantizedShape(const QuantScheme& scheme, int64_t rows,
                               int64_t cols)
    : group_elems(scheme.group_size == 0 ? cols : scheme.group_size),
      groups(cols == 0 ? 0 : CeilDiv(cols, group_elems)),
      row_words(PackedWords(scheme.bits, cols)),
      zero_words(scheme.symmetric ? 0 : PackedWords(scheme.bits, rows)),
      asymmetric(!scheme.symmetric),
      rows(rows),
      cols(cols),
      block_row_bytes(0),
      row_bytes(4 * row_words),
      codebook(scheme.codebook),
      signed_bytes(scheme.inputs != InputCodes::kNone),
      input_scale(scheme.inputs == InputCodes::kStatic),
      stores_shape(!signed_bytes) {
  if (codebook == Codebook::kF8E4M3 || codebook == Codebook::kMxfp4) {
    QEFF_CHECK(cols * scheme.bits % 8 == 0);
    row_bytes = cols * scheme.bits / 8;
    stores_shape = false;
  }
  if (!scheme.ggml.has_value()) return;
  const GgmlTypeTraits& traits = *FindGgmlType(*scheme.ggml);
  QEFF_CHECK(cols % traits.block_elems == 0);
  group_elems = traits.block_elems;
  groups = row_words = zero_words = row_bytes = 0;
  asymmetric = false;
  block_row_bytes = cols / traits.block_elems * traits.block_bytes;
}

namespace {

uint64_t BytesWithoutShape(const QuantizedShape& shape, DType scale_dtype) {
  const uint64_t scale_bytes = DTypeBytes(scale_dtype);
  const int64_t code_bytes = shape.signed_bytes ? shape.cols : shape.row_bytes;
  return (CheckedU64(shape.rows) * shape.block_row_bytes +
          CheckedU64(shape.rows) * code_bytes +
          CheckedU64(shape.rows) * shape.groups * scale_bytes +
          CheckedU64(shape.zero_words) * shape.groups * 4)
      .value();
}

}  // namespace

uint64_t QuantizedShape::StoredBytes(DType scale_dtype) const {
  return BytesWithoutShape(*this, scale_dtype) +
         (stores_shape ? 2 * sizeof(int64_t) : 0) +
         (input_scale ? sizeof(float) : 0);
}

double QuantizedShape::BitsPerWeight(DType scale_dtype) const {
  if (rows == 0 || cols == 0) return 0;
  return 8 * static_cast<double>(BytesWithoutShape(*this, scale_dtype)) /
         (static_cast<double>(rows) * static_cast<double>(cols));
}

std::vector<TensorDeclaration> QuantizedTensors(absl::string_view module,
                                                const QuantizedShape& shape,
                                                DType scale_dtype) {
  std::vector<TensorDeclaration> tensors;
  if (shape.block_row_bytes > 0) {
    tensors.push_back({BlocksTensorName(module), DType::kU8,
                       Shape({shape.rows, shape.block_row_bytes})});
    tensors.push_back({ShapeTensorName(module), DType::kI64, Shape({2})});
    return tensors;
  }
  if (shape.signed_bytes) {
    tensors.push_back(
        {BytesTensorName(module), DType::kI8, Shape({shape.rows, shape.cols})});
    tensors.push_back({ScaleTensorName(module), scale_dtype,
                       Shape({shape.rows, shape.groups})});
    if (shape.input_scale) {
      tensors.push_back(
          {InputScaleTensorName(module), DType::kF32, Shape({1})});
    }
    return tensors;
  }
  if (shape.codebook == Codebook::kF8E4M3) {
    tensors.push_back({BytesTensorName(module), DType::kF8E4M3,
                       Shape({shape.rows, shape.row_bytes})});
  } else if (shape.codebook == Codebook::kMxfp4) {
    tensors.push_back({PackedTensorName(module), DType::kU8,
                       Shape({shape.rows, shape.row_bytes})});
  } else {
    tensors.push_back({PackedTensorName(module), DType::kI32,
                       Shape({shape.rows, shape.row_words})});
  }
  tensors.push_back({ScaleTensorName(module), scale_dtype,
                     Shape({shape.rows, shape.groups})});
  if (shape.asymmetric) {
    tensors.push_back({ZeroPointTensorName(module), DType::kI32,
                       Shape({shape.zero_words, shape.groups})});
  }
  if (shape.stores_shape) {
    tensors.push_back({ShapeTensorName(module), DType::kI64, Shape({2})});
  }
  return tensors;
}

std::string WhyNotQuantized(const QuantScheme& scheme, int64_t cols) {
  if (scheme.codebook == Codebook::kMxfp4 && cols % 2 != 0) {
    return absl::StrCat("rows of ", cols, " are not whole bytes of mxfp4");
  }
  if (!scheme.ggml.has_value()) return "";
  const int64_t block = FindGgmlType(*scheme.ggml)->block_elems;
  if (cols % block == 0) return "";
  return absl::StrCat("rows of ", cols, " are not whole blocks of ", block);
}

std::string WhyNotCompressedTensors(const QuantScheme& scheme, int64_t cols,
                                    bool transposed) {
  if (scheme.ggml.has_value()) return "it has no blocks of ggml";
  if (scheme.codebook.has_value() && scheme.codebook != Codebook::kF8E4M3 &&
      scheme.codebook != Codebook::kMxfp4) {
    return absl::StrCat("it has no ", FormatOf(*scheme.codebook).name);
  }
  if (scheme.bits != 2 && scheme.bits != 4 && scheme.bits != 8) {
    return absl::StrCat("its readers disagree on ", scheme.bits,
                        "-bit packing");
  }
  if (scheme.group_size != 0 && cols % scheme.group_size != 0) {
    return absl::StrCat("groups of ", scheme.group_size,
                        " do not divide rows of ", cols);
  }
  if (transposed) return "the weight is a transposed Conv1D";
  return "";
}

}  // namespace qeff
