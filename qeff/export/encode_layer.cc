// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/encode_layer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/format/gptq_awq_packing.h"
#include "qeff/format/packing.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Layers that are no integers keep the tensors they have.
std::vector<TensorInfo> StoredTensors(const Checkpoint& checkpoint,
                                      const std::string& module) {
  std::vector<TensorInfo> tensors;
  for (const TensorInfo& info : checkpoint.tensors()) {
    if (absl::StartsWith(info.name, absl::StrCat(module, ".")) &&
        info.name != absl::StrCat(module, ".bias")) {
      tensors.push_back(info);
    }
  }
  return tensors;
}

std::vector<TensorInfo> CompressedTensors(const StoredLayer& layer) {
  const QuantizedMatrix& matrix = layer.matrix;
  const QuantizedShape shape(layer.weights.ToScheme(), matrix.rows,
                             matrix.cols);
  std::vector<TensorInfo> tensors;
  for (TensorDeclaration& declared :
       QuantizedTensors(matrix.module, shape, matrix.codes.scale_dtype)) {
    tensors.push_back(
        {std::move(declared.name), declared.dtype, std::move(declared.shape)});
  }
  if (matrix.column_groups != nullptr) {
    tensors.push_back({ColumnGroupsTensorName(matrix.module), DType::kI32,
                       Shape({matrix.cols})});
  }
  return tensors;
}

std::vector<TensorInfo> InputMajorTensors(const StoredLayer& layer,
                                          QuantizedLayout layout) {
  const QuantizedMatrix& matrix = layer.matrix;
  const int64_t zero_words = PackedWords(matrix.bits, matrix.rows);
  std::vector<TensorInfo> tensors = {
      {QweightTensorName(matrix.module), DType::kI32,
       layout == QuantizedLayout::kAwq
           ? Shape({matrix.cols, matrix.rows / kAwqWordCodes})
           : Shape({matrix.row_bytes / 4, matrix.rows})},
      {QzerosTensorName(matrix.module), DType::kI32,
       Shape({matrix.groups, zero_words})},
      {ScalesTensorName(matrix.module), DType::kF16,
       Shape({matrix.groups, matrix.rows})}};
  if (layout != QuantizedLayout::kAwq) {
    tensors.push_back({GroupIndexTensorName(matrix.module), DType::kI32,
                       Shape({matrix.cols})});
  }
  return tensors;
}

std::vector<uint8_t> PackedZeros(const QuantizedMatrix& matrix) {
  std::vector<uint8_t> words(static_cast<size_t>(
      4 * PackedWords(matrix.bits, matrix.rows) * matrix.groups));
  PackColumns(matrix.bits, matrix.rows, matrix.groups, matrix.codes.zeros,
              absl::MakeSpan(words));
  return words;
}

std::vector<uint8_t> ToBytes(absl::Span<const uint8_t> bytes) {
  return std::vector<uint8_t>(bytes.begin(), bytes.end());
}

std::vector<uint8_t> GroupIndex(const QuantizedMatrix& matrix) {
  std::vector<int32_t> groups;
  if (matrix.column_groups != nullptr) {
    groups = *matrix.column_groups;
  } else {
    for (int64_t c = 0; c < matrix.cols; ++c) {
      groups.push_back(static_cast<int32_t>(c / matrix.group_elems));
    }
  }
  std::vector<uint8_t> bytes(groups.size() * sizeof(int32_t));
  std::memcpy(bytes.data(), groups.data(), bytes.size());
  return bytes;
}

std::vector<std::vector<uint8_t>> CompressedBytes(
    const QuantizedMatrix& matrix) {
  std::vector<std::vector<uint8_t>> bytes;
  bytes.push_back(ToBytes(matrix.codes.packed));
  bytes.push_back(ToBytes(matrix.codes.scales));
  if (!matrix.symmetric()) bytes.push_back(PackedZeros(matrix));
  const int64_t sides[2] = {matrix.rows, matrix.cols};
  bytes.emplace_back(sizeof(sides));
  std::memcpy(bytes.back().data(), sides, sizeof(sides));
  if (matrix.column_groups != nullptr) bytes.push_back(GroupIndex(matrix));
  return bytes;
}

std::vector<uint8_t> Qweight(const QuantizedMatrix& matrix,
                             QuantizedLayout layout, size_t size) {
  std::vector<uint8_t> bytes(size);
  if (layout == QuantizedLayout::kAwq) {
    DenseToAwq(matrix.cols, matrix.rows, matrix.codes.packed,
               absl::MakeSpan(bytes));
  } else {
    DenseToGptq(matrix.row_bytes / 4, matrix.rows, matrix.codes.packed,
                absl::MakeSpan(bytes));
  }
  return bytes;
}

std::vector<uint8_t> Qzeros(const QuantizedMatrix& matrix,
                            QuantizedLayout layout, size_t size) {
  std::vector<uint8_t> bytes(size);
  const size_t rows = static_cast<size_t>(matrix.rows);
  const size_t groups = static_cast<size_t>(matrix.groups);
  const size_t row_bytes = size / groups;
  const int mask = (1 << matrix.bits) - 1;
  std::vector<uint8_t> zeros(rows);
  for (size_t g = 0; g < groups; ++g) {
    for (size_t r = 0; r < rows; ++r) {
      const int zero = matrix.symmetric() ? 1 << (matrix.bits - 1)
                                          : matrix.codes.zeros[r * groups + g];
      zeros[r] = static_cast<uint8_t>(
          layout == QuantizedLayout::kGptq ? (zero - 1) & mask : zero);
    }
    const auto to = absl::MakeSpan(bytes).subspan(g * row_bytes, row_bytes);
    if (layout == QuantizedLayout::kAwq) {
      PackAwqCodes(zeros, to);
    } else {
      PackCodes(matrix.bits, zeros, to);
    }
  }
  return bytes;
}

std::vector<uint8_t> F16Scales(const QuantizedMatrix& matrix) {
  const size_t rows = static_cast<size_t>(matrix.rows);
  const size_t groups = static_cast<size_t>(matrix.groups);
  const size_t size = DTypeBytes(matrix.codes.scale_dtype);
  std::vector<uint8_t> bytes(rows * groups * DTypeBytes(DType::kF16));
  for (size_t r = 0; r < rows; ++r) {
    for (size_t g = 0; g < groups; ++g) {
      const float scale =
          LoadScale(matrix.codes.scale_dtype,
                    matrix.codes.scales.data() + (r * groups + g) * size);
      StoreScale(scale, DType::kF16, bytes.data() + 2 * (g * rows + r));
    }
  }
  return bytes;
}

}  // namespace

std::vector<TensorInfo> DeclareLayer(const Checkpoint& checkpoint,
                                     const StoredLayer& layer,
                                     QuantizedLayout layout) {
  if (IsInputMajor(layout)) return InputMajorTensors(layer, layout);
  return layer.integers() ? CompressedTensors(layer)
                          : StoredTensors(checkpoint, layer.module.module);
}

absl::StatusOr<std::vector<EncodedTensor>> EncodeLayer(
    const Checkpoint& checkpoint, const StoredLayer& layer,
    QuantizedLayout layout) {
  const std::vector<TensorInfo> infos = DeclareLayer(checkpoint, layer, layout);
  const QuantizedMatrix& matrix = layer.matrix;
  std::vector<std::vector<uint8_t>> bytes;
  if (IsInputMajor(layout)) {
    QEFF_CHECK(layer.integers());
    bytes.push_back(Qweight(matrix, layout, infos[0].size_bytes()));
    bytes.push_back(Qzeros(matrix, layout, infos[1].size_bytes()));
    bytes.push_back(F16Scales(matrix));
    if (layout != QuantizedLayout::kAwq) bytes.push_back(GroupIndex(matrix));
  } else if (layer.integers()) {
    bytes = CompressedBytes(matrix);
  } else {
    for (const TensorInfo& info : infos) {
      QEFF_ASSIGN_OR_RETURN(const TensorView view, checkpoint.Get(info.name));
      bytes.push_back(ToBytes(view.bytes));
    }
  }
  QEFF_CHECK(bytes.size() == infos.size());
  std::vector<EncodedTensor> tensors;
  for (size_t i = 0; i < infos.size(); ++i) {
    QEFF_CHECK(bytes[i].size() == infos[i].size_bytes());
    tensors.push_back({infos[i], std::move(bytes[i])});
  }
  return tensors;
}

}  // namespace qeff
