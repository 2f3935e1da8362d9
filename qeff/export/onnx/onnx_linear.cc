// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/onnx/onnx_linear.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/format/packing.h"
#include "qeff/io/integer_codes.h"
#include "qeff/io/quantized_tensor.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using Value = OnnxGraph::Value;

// The largest block of MatMulNBits that lies within the groups of `matrix`,
// whose rows are whole blocks; 0 when there is none.
int64_t BlockOf(const QuantizedMatrix& matrix) {
  if (matrix.ggml.has_value() || matrix.codebook.has_value()) return 0;
  if (matrix.column_groups != nullptr) return 0;  // no operator gathers columns
  if (matrix.bits != 2 && matrix.bits != 4 && matrix.bits != 8) return 0;
  for (int64_t block = 256; block >= 16; block /= 2) {
    if (matrix.group_elems % block == 0 && matrix.cols % block == 0) {
      return block;
    }
  }
  return 0;
}

std::vector<float> FloatScales(const QuantizedMatrix& matrix) {
  std::vector<float> scales(static_cast<size_t>(matrix.rows * matrix.groups));
  ConvertToFloat(matrix.codes.scale_dtype, matrix.codes.scales,
                 absl::MakeSpan(scales));
  return scales;
}

// One value a block, of those of the groups: [rows, cols / block].
template <class T>
std::vector<T> OfBlocks(const QuantizedMatrix& matrix, int64_t block,
                        absl::Span<const T> of_groups) {
  const int64_t blocks = matrix.cols / block;
  std::vector<T> values;
  values.reserve(static_cast<size_t>(matrix.rows * blocks));
  for (int64_t r = 0; r < matrix.rows; ++r) {
    for (int64_t b = 0; b < blocks; ++b) {
      values.push_back(of_groups[static_cast<size_t>(
          r * matrix.groups + b * block / matrix.group_elems)]);
    }
  }
  return values;
}

// Zero points [rows, blocks], `bits` each, rows padded to bytes.
std::vector<uint8_t> PackZeros(absl::Span<const uint8_t> zeros, int64_t rows,
                               int bits) {
  const size_t count = zeros.size() / static_cast<size_t>(rows);
  const size_t row_bytes = (count * static_cast<size_t>(bits) + 7) / 8;
  std::vector<uint8_t> packed(row_bytes * static_cast<size_t>(rows));
  for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
    for (size_t i = 0; i < count; ++i) {
      const size_t bit = i * static_cast<size_t>(bits);
      packed[r * row_bytes + bit / 8] |=
          static_cast<uint8_t>(zeros[r * count + i] << (bit % 8));
    }
  }
  return packed;
}

}  // namespace

absl::StatusOr<Value> OnnxLinears::Stored(const std::string& name,
                                          DType* dtype) {
  QEFF_ASSIGN_OR_RETURN(const TensorView view, model_->checkpoint().Get(name));
  *dtype = view.dtype;
  Value& value = tensors_[name];
  if (value.empty()) {
    value = graph_->External(name, view.dtype, view.shape.dims(),
                             data_->Add(view.bytes));
  }
  return value;
}

absl::StatusOr<Value> OnnxLinears::Tensor(const std::string& name) {
  DType dtype;
  QEFF_ASSIGN_OR_RETURN(const Value stored, Stored(name, &dtype));
  if (dtype == DType::kF32) return stored;
  Value& value = as_float_[name];
  if (value.empty()) {
    value = Cast(graph_, stored, DType::kF32, absl::StrCat("/", name, "/Cast"));
  }
  return value;
}

absl::StatusOr<Value> OnnxLinears::Rows(const std::string& name,
                                        const Value& ids,
                                        absl::string_view scope) {
  DType dtype;
  QEFF_ASSIGN_OR_RETURN(const Value stored, Stored(name, &dtype));
  const Value rows =
      graph_->Node("Gather", {stored, ids}, absl::StrCat(scope, "/Gather"));
  if (dtype == DType::kF32) return rows;
  return Cast(graph_, rows, DType::kF32, absl::StrCat(scope, "/Cast"));
}

absl::StatusOr<Value> OnnxLinears::ApplyTied(const Value& x,
                                             absl::string_view scope) {
  QEFF_ASSIGN_OR_RETURN(const Value weight,
                        Tensor(model_->map().token_embedding));
  const Value turned =
      Transpose(graph_, weight, {1, 0}, absl::StrCat(scope, "/Transpose"));
  return graph_->Node("MatMul", {x, turned}, absl::StrCat(scope, "/MatMul"));
}

absl::StatusOr<Value> OnnxLinears::Apply(const LinearModule& module,
                                         const Value& x,
                                         absl::string_view scope_view) {
  const std::string scope(scope_view);
  Value y;
  if (model_->quantization().has_value() &&
      HasQuantizedWeight(model_->checkpoint(), module.module)) {
    QEFF_ASSIGN_OR_RETURN(y, Quantized(module, x, scope));
  } else {
    QEFF_ASSIGN_OR_RETURN(Value weight, Tensor(module.module + ".weight"));
    if (!module.transposed) {
      weight = Transpose(graph_, weight, {1, 0}, scope + "/Transpose");
    }
    y = graph_->Node("MatMul", {x, weight}, scope + "/MatMul");
  }
  if (!module.has_bias) return y;
  QEFF_ASSIGN_OR_RETURN(const Value bias, Tensor(module.module + ".bias"));
  return graph_->Node("Add", {y, bias}, scope + "/Add");
}

Value OnnxLinears::WithInputScale(float scale, const Value& x,
                                  const std::string& scope) {
  // QuantizeLinear goes down to -128, qeff's codes do not.
  const Value clipped = graph_->Node(
      "Clip", {x, graph_->Float(-127 * scale), graph_->Float(127 * scale)},
      scope + "/input/Clip");
  const int8_t zero = 0;
  const Value zero_point =
      graph_->Internal(scope + "/input/zero_point", DType::kI8, {},
                       {reinterpret_cast<const uint8_t*>(&zero), 1});
  const Value codes = graph_->Node("QuantizeLinear",
                                   {clipped, graph_->Float(scale), zero_point},
                                   scope + "/input/QuantizeLinear");
  return graph_->Node("DequantizeLinear",
                      {codes, graph_->Float(scale), zero_point},
                      scope + "/input/DequantizeLinear");
}

Value OnnxLinears::MatMulNBits(
    const std::shared_ptr<const QuantizedMatrix>& owner, int64_t block_elems,
    const Value& x, const std::string& scope) {
  const QuantizedMatrix& matrix = *owner;
  const int64_t blocks = matrix.cols / block_elems;
  const Value codes =
      graph_->External(matrix.module + ".codes", DType::kU8,
                       {matrix.rows, blocks, block_elems * matrix.bits / 8},
                       data_->Add(matrix.codes.packed, owner));
  const Value scales = graph_->External(
      matrix.module + ".scales", DType::kF32, {matrix.rows * blocks},
      data_->AddCopy(AsBytes(absl::MakeConstSpan(
          OfBlocks<float>(matrix, block_elems, FloatScales(matrix))))));
  Value zeros;
  if (!matrix.symmetric()) {
    const std::vector<uint8_t> packed =
        PackZeros(OfBlocks<uint8_t>(matrix, block_elems, matrix.codes.zeros),
                  matrix.rows, matrix.bits);
    zeros = graph_->External(matrix.module + ".zero_points", DType::kU8,
                             {static_cast<int64_t>(packed.size())},
                             data_->AddCopy(packed));
  }
  onnx::NodeProto* node;
  const Value y = zeros.empty() ? graph_->Node(kMicrosoftDomain, "MatMulNBits",
                                               {x, codes, scales},
                                               scope + "/MatMulNBits", &node)
                                : graph_->Node(kMicrosoftDomain, "MatMulNBits",
                                               {x, codes, scales, zeros},
                                               scope + "/MatMulNBits", &node);
  SetAttribute("K", matrix.cols, node);
  SetAttribute("N", matrix.rows, node);
  SetAttribute("bits", int64_t{matrix.bits}, node);
  SetAttribute("block_size", block_elems, node);
  return y;
}

Value OnnxLinears::DequantizedRows(
    const std::shared_ptr<const QuantizedMatrix>& owner,
    const std::string& scope) {
  const QuantizedMatrix& matrix = *owner;
  const bool is_signed = !matrix.signed_bytes.empty();
  const Value codes = graph_->External(
      matrix.module + ".codes", is_signed ? DType::kI8 : DType::kU8,
      {matrix.rows, matrix.cols}, data_->Add(matrix.stored_rows(), owner));
  const Value scales = graph_->External(
      matrix.module + ".scales", DType::kF32, {matrix.rows},
      data_->AddCopy(AsBytes(absl::MakeConstSpan(FloatScales(matrix)))));
  std::vector<uint8_t> zeros(matrix.codes.zeros.begin(),
                             matrix.codes.zeros.end());
  if (zeros.empty()) {
    zeros.assign(static_cast<size_t>(matrix.rows), is_signed ? 0 : 128);
  } else if (is_signed) {
    for (uint8_t& zero : zeros) zero = static_cast<uint8_t>(zero - 128);
  }
  const Value zero_points = graph_->External(
      matrix.module + ".zero_points", is_signed ? DType::kI8 : DType::kU8,
      {matrix.rows}, data_->AddCopy(zeros));
  onnx::NodeProto* node;
  const Value weight =
      graph_->Node("DequantizeLinear", {codes, scales, zero_points},
                   scope + "/DequantizeLinear", &node);
  SetAttribute("axis", int64_t{0}, node);
  return weight;
}

absl::StatusOr<Value> OnnxLinears::Quantized(const LinearModule& module,
                                             const Value& x,
                                             const std::string& scope) {
  QEFF_ASSIGN_OR_RETURN(QuantizedMatrix matrix,
                        ReadQuantizedMatrix(model_->checkpoint(), module.module,
                                            *model_->quantization()));
  const Value input = matrix.inputs == InputCodes::kStatic
                          ? WithInputScale(matrix.input_scale, x, scope)
                          : x;
  // Runtimes take the pair of DequantizeLinear and MatMul for a product of
  // codes, whose inputs they round by themselves when the model does not say
  // how.
  const bool product_of_codes = matrix.inputs == InputCodes::kStatic &&
                                matrix.groups == 1 && matrix.bits == 8;
  if (HasIntegerCodes(matrix) &&
      !(product_of_codes && !matrix.signed_bytes.empty())) {
    QEFF_ASSIGN_OR_RETURN(matrix, IntegerCodes(matrix));
  }
  const int64_t block = BlockOf(matrix);
  const auto owner = std::make_shared<const QuantizedMatrix>(std::move(matrix));
  Value weight;
  if (product_of_codes) {
    weight = DequantizedRows(owner, scope);
  } else if (block != 0) {
    return MatMulNBits(owner, block, input, scope);
  } else {
    dequantized_.push_back(module.module);
    weight = graph_->External(
        module.module + ".weight", DType::kF32, {owner->rows, owner->cols},
        data_->AddProduced(
            static_cast<uint64_t>(owner->rows * owner->cols) * sizeof(float),
            [owner](const OnnxData::Sink& sink) -> absl::Status {
              std::vector<float> row(static_cast<size_t>(owner->cols));
              for (int64_t r = 0; r < owner->rows; ++r) {
                QEFF_RETURN_IF_ERROR(DequantizeRows(*owner, r, 1, row.data()));
                QEFF_RETURN_IF_ERROR(
                    sink(static_cast<uint64_t>(r) * row.size() * sizeof(float),
                         AsBytes(absl::MakeConstSpan(row))));
              }
              return absl::OkStatus();
            }));
  }
  const Value turned = Transpose(graph_, weight, {1, 0}, scope + "/Transpose");
  return graph_->Node("MatMul", {input, turned}, scope + "/MatMul");
}

}  // namespace qeff
