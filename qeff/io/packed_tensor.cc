// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/packed_tensor.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/format/codebook.h"
#include "qeff/format/codebook_rows.h"
#include "qeff/format/packing.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/io/layer_tensors.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/checked.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Reads one module; the parts fill `matrix_` in order.
class MatrixReader {
 public:
  MatrixReader(const Checkpoint& checkpoint, absl::string_view module,
               QuantizedLayout layout, const WeightQuantization& weights)
      : checkpoint_(checkpoint), layout_(layout), weights_(weights) {
    matrix_.module = std::string(module);
  }

  absl::StatusOr<QuantizedMatrix> Read() {
    if (weights_.codebook.has_value()) {
      QEFF_RETURN_IF_ERROR(ReadCodebook());
      return std::move(matrix_);
    }
    QEFF_RETURN_IF_ERROR(weights_.signed_bytes ? ReadSignedBytes()
                                               : ReadShape());
    if (weights_.ggml.has_value()) {
      QEFF_RETURN_IF_ERROR(ReadBlocks());
      return std::move(matrix_);
    }
    SetGroups();
    QEFF_RETURN_IF_ERROR(ReadColumnGroups());
    if (!weights_.signed_bytes) QEFF_RETURN_IF_ERROR(ReadPacked());
    QEFF_RETURN_IF_ERROR(
        ReadScales(&matrix_.codes.scale_dtype, &matrix_.codes.scales));
    if (!weights_.symmetric) QEFF_RETURN_IF_ERROR(ReadZeroPoints());
    matrix_.inputs = weights_.inputs;
    if (weights_.inputs == InputCodes::kStatic) {
      QEFF_RETURN_IF_ERROR(ReadInputScale());
    }
    return std::move(matrix_);
  }

 private:
  std::string Place(absl::string_view tensor) const {
    return absl::StrCat(checkpoint_.Place(tensor), ": ");
  }

  absl::StatusOr<TensorView> Get(const std::string& name, DType dtype) const {
    return GetOfType(checkpoint_, name, dtype);
  }

  absl::Status ExpectShape(const std::string& name, const TensorView& view,
                           const Shape& expected) const {
    return qeff::ExpectShape(checkpoint_, name, view, expected);
  }

  absl::Span<uint8_t> Own(size_t size) {
    auto bytes = std::make_shared<std::vector<uint8_t>>(size);
    matrix_.owned.push_back(bytes);
    return absl::MakeSpan(*bytes);
  }

  absl::Status ReadShape() {
    const std::string name = ShapeTensorName(matrix_.module);
    QEFF_ASSIGN_OR_RETURN(const TensorView view, Get(name, DType::kI64));
    QEFF_RETURN_IF_ERROR(ExpectShape(name, view, Shape({2})));
    int64_t sides[2];
    std::memcpy(sides, view.bytes.data(), sizeof(sides));
    for (int64_t side : sides) {
      if (side < 1 || side > kMaxLayerSide) {
        return InvalidInputError(Place(name), "expected sizes from 1 to ",
                                 kMaxLayerSide, ", found ", side);
      }
    }
    matrix_.rows = sides[0];
    matrix_.cols = sides[1];
    if (weights_.ggml.has_value()) return absl::OkStatus();
    return CheckGroups(name);
  }

  // `name`: of the tensor that says how long rows are.
  absl::Status CheckGroups(const std::string& name) const {
    const bool grouped = weights_.strategy == QuantStrategy::kGroup;
    if (grouped && layout_ == QuantizedLayout::kCompressedTensors &&
        matrix_.cols % weights_.group_size != 0) {
      return InvalidInputError(Place(name), "rows of ", matrix_.cols,
                               " weights are not divisible into groups of ",
                               weights_.group_size);
    }
    return absl::OkStatus();
  }

  absl::Status ReadSignedBytes() {
    const std::string name = BytesTensorName(matrix_.module);
    QEFF_ASSIGN_OR_RETURN(const TensorView view, Get(name, DType::kI8));
    matrix_.signed_bytes = view.bytes;
    return TakeShape(name, view);
  }

  absl::Status ReadInputScale() {
    const std::string name = InputScaleTensorName(matrix_.module);
    QEFF_ASSIGN_OR_RETURN(const TensorView view, checkpoint_.Get(name));
    if (!IsScaleDType(view.dtype)) {
      return InvalidInputError(Place(name),
                               "expected dtype F16, BF16 or F32, found ",
                               DTypeName(view.dtype));
    }
    if (view.shape.rank() != 0) {
      QEFF_RETURN_IF_ERROR(ExpectShape(name, view, Shape({1})));
    }
    matrix_.input_scale = LoadScale(view.dtype, view.bytes.data());
    if (IsActivationScale(matrix_.input_scale)) return absl::OkStatus();
    return InvalidInputError(Place(name), "expected a positive number, found ",
                             matrix_.input_scale);
  }

  void SetGroups() {
    const bool grouped = weights_.strategy == QuantStrategy::kGroup;
    matrix_.bits = weights_.bits;
    matrix_.group_elems = grouped ? weights_.group_size : matrix_.cols;
    matrix_.groups = CeilDiv(matrix_.cols, matrix_.group_elems);
    matrix_.row_bytes = 4 * PackedWords(matrix_.bits, matrix_.cols);
    matrix_.codes.bits = matrix_.bits;
    matrix_.codes.cols = matrix_.cols;
    matrix_.codes.group_elems = matrix_.group_elems;
  }

  // compressed-tensors sorts the columns by group and then cuts groups of one
  // size, which is the same when all groups have that size.
  absl::Status ReadColumnGroups() {
    const std::string name = ColumnGroupsTensorName(matrix_.module);
    QEFF_ASSIGN_OR_RETURN(matrix_.column_groups,
                          GetGroupIndex(checkpoint_, name, matrix_.cols,
                                        matrix_.group_elems, matrix_.groups));
    if (matrix_.column_groups == nullptr) return absl::OkStatus();
    if (weights_.signed_bytes) {
      return absl::UnimplementedError(absl::StrCat(
          Place(name), "activation order of signed bytes is not supported"));
    }
    std::vector<int64_t> sizes(static_cast<size_t>(matrix_.groups));
    for (const int32_t group : *matrix_.column_groups) {
      ++sizes[static_cast<size_t>(group)];
    }
    for (size_t g = 0; g < sizes.size(); ++g) {
      if (sizes[g] == matrix_.group_elems) continue;
      return InvalidInputError(Place(name), "group ", g, ": expected ",
                               matrix_.group_elems, " columns, found ",
                               sizes[g]);
    }
    return absl::OkStatus();
  }

  absl::Status ReadBlocks() {
    QuantScheme scheme;
    scheme.ggml = weights_.ggml;
    const std::string why = WhyNotQuantized(scheme, matrix_.cols);
    if (!why.empty()) {
      return InvalidInputError(Place(ShapeTensorName(matrix_.module)), why);
    }
    matrix_.ggml = weights_.ggml;
    matrix_.row_bytes =
        QuantizedShape(scheme, matrix_.rows, matrix_.cols).block_row_bytes;
    const std::string name = BlocksTensorName(matrix_.module);
    QEFF_ASSIGN_OR_RETURN(const TensorView view, Get(name, DType::kU8));
    matrix_.blocks = view.bytes;
    matrix_.place = checkpoint_.Place(name);
    return ExpectShape(name, view, Shape({matrix_.rows, matrix_.row_bytes}));
  }

  absl::Status ReadCodebook() {
    const QuantScheme scheme = weights_.ToScheme();
    const CodebookFormat& format = FormatOf(*weights_.codebook);
    // Its name and type do not depend on its sizes.
    const QuantizedShape empty(scheme, 0, 0);
    const TensorDeclaration codes =
        QuantizedTensors(matrix_.module, empty, DType::kU8)[0];
    QEFF_ASSIGN_OR_RETURN(const TensorView view, Get(codes.name, codes.dtype));
    QEFF_RETURN_IF_ERROR(empty.stores_shape ? ReadShape()
                                            : TakeShape(codes.name, view));
    const QuantizedShape shape(scheme, matrix_.rows, matrix_.cols);
    QEFF_RETURN_IF_ERROR(ExpectShape(
        codes.name, view,
        QuantizedTensors(matrix_.module, shape, DType::kU8)[0].shape));
    matrix_.place = checkpoint_.Place(codes.name);
    matrix_.bits = format.bits;
    matrix_.group_elems = shape.group_elems;
    matrix_.groups = shape.groups;
    matrix_.row_bytes = shape.row_bytes;
    CodebookRowsView rows;
    rows.codebook = format.codebook;
    rows.cols = matrix_.cols;
    rows.group_elems = matrix_.group_elems;
    rows.row_bytes = matrix_.row_bytes;
    rows.packed = view.bytes;
    QEFF_RETURN_IF_ERROR(format.e8m0
                             ? ReadExponents(&rows)
                             : ReadScales(&rows.scale_dtype, &rows.scales));
    matrix_.codebook = rows;
    return absl::OkStatus();
  }

  // Rows and columns from the shape of the codes themselves.
  absl::Status TakeShape(const std::string& name, const TensorView& view) {
    if (view.shape.rank() != 2 || view.shape[0] < 1 || view.shape[1] < 1 ||
        view.shape[1] > kMaxLayerSide) {
      return InvalidInputError(Place(name),
                               "expected two sizes from 1 on, found shape ",
                               view.shape.ToString());
    }
    matrix_.rows = view.shape[0];
    matrix_.cols = view.shape[1] * 8 / weights_.bits;
    return CheckGroups(name);
  }

  absl::Status ReadExponents(CodebookRowsView* rows) const {
    const std::string name = ScaleTensorName(matrix_.module);
    QEFF_ASSIGN_OR_RETURN(const TensorView view, Get(name, DType::kU8));
    QEFF_RETURN_IF_ERROR(
        ExpectShape(name, view, Shape({matrix_.rows, matrix_.groups})));
    const auto nan = std::find(view.bytes.begin(), view.bytes.end(), 0xFF);
    if (nan != view.bytes.end()) {
      return InvalidInputError(Place(name), "scale ", nan - view.bytes.begin(),
                               ": expected an exponent from 0 to 254, found "
                               "255, which is NaN");
    }
    rows->scale_dtype = DType::kU8;
    rows->scales = view.bytes;
    return absl::OkStatus();
  }

  absl::Status ReadPacked() {
    const std::string name = PackedTensorName(matrix_.module);
    QEFF_ASSIGN_OR_RETURN(const TensorView view, Get(name, DType::kI32));
    const Shape spaced({matrix_.rows, SpacedWords(matrix_.bits, matrix_.cols)});
    const Shape dense({matrix_.rows, matrix_.row_bytes / 4});
    if (view.shape == dense || layout_ == QuantizedLayout::kQeff ||
        view.shape != spaced) {
      matrix_.codes.packed = view.bytes;
      return ExpectShape(name, view, dense);
    }
    spaced_ = true;
    const absl::Span<uint8_t> packed =
        Own(static_cast<size_t>(matrix_.rows * matrix_.row_bytes));
    const size_t from_bytes = static_cast<size_t>(4 * spaced[1]);
    const size_t to_bytes = static_cast<size_t>(matrix_.row_bytes);
    std::vector<uint8_t> codes(static_cast<size_t>(matrix_.cols));
    for (size_t r = 0; r < static_cast<size_t>(matrix_.rows); ++r) {
      UnpackSpacedCodes(matrix_.bits,
                        view.bytes.subspan(r * from_bytes, from_bytes),
                        absl::MakeSpan(codes));
      PackCodes(matrix_.bits, codes, packed.subspan(r * to_bytes, to_bytes));
    }
    matrix_.codes.packed = packed;
    return absl::OkStatus();
  }

  absl::Status ReadScales(DType* dtype, absl::Span<const uint8_t>* bytes) {
    const std::string name = ScaleTensorName(matrix_.module);
    const bool whole = weights_.strategy == QuantStrategy::kTensor;
    QEFF_ASSIGN_OR_RETURN(
        const TensorView view,
        GetScales(checkpoint_, name,
                  whole ? Shape({1}) : Shape({matrix_.rows, matrix_.groups})));
    const size_t size = DTypeBytes(view.dtype);
    *dtype = view.dtype;
    *bytes = view.bytes;
    if (!whole) return absl::OkStatus();
    const size_t rows = static_cast<size_t>(matrix_.rows);
    const absl::Span<uint8_t> scales = Own(rows * size);
    for (size_t r = 0; r < rows; ++r) {
      std::memcpy(scales.data() + r * size, view.bytes.data(), size);
    }
    *bytes = scales;
    return absl::OkStatus();
  }

  // Packed along the rows, or, in files of early versions, one signed byte
  // each.
  absl::Status ReadZeroPoints() {
    const std::string name = ZeroPointTensorName(matrix_.module);
    QEFF_ASSIGN_OR_RETURN(const TensorView view, checkpoint_.Get(name));
    const int64_t rows = matrix_.rows, groups = matrix_.groups;
    const absl::Span<uint8_t> zeros = Own(static_cast<size_t>(rows * groups));
    if (view.dtype == DType::kI8) {
      QEFF_RETURN_IF_ERROR(ExpectShape(name, view, Shape({rows, groups})));
      QEFF_RETURN_IF_ERROR(CopySignedZeroPoints(name, view, zeros));
    } else {
      QEFF_RETURN_IF_ERROR(Get(name, DType::kI32).status());
      const int64_t words = spaced_ ? SpacedWords(matrix_.bits, rows)
                                    : PackedWords(matrix_.bits, rows);
      QEFF_RETURN_IF_ERROR(ExpectShape(name, view, Shape({words, groups})));
      UnpackColumns(matrix_.bits, spaced_, rows, groups, view.bytes, zeros);
    }
    matrix_.codes.zeros = zeros;
    return absl::OkStatus();
  }

  absl::Status CopySignedZeroPoints(const std::string& name,
                                    const TensorView& view,
                                    absl::Span<uint8_t> zeros) const {
    const int offset = 1 << (matrix_.bits - 1);
    for (size_t i = 0; i < zeros.size(); ++i) {
      const int zero = static_cast<int8_t>(view.bytes[i]);
      if (zero < -offset || zero >= offset) {
        return InvalidInputError(Place(name), "zero point ", i, " is ", zero,
                                 ", expected ", -offset, " to ", offset - 1);
      }
      zeros[i] = static_cast<uint8_t>(zero + offset);
    }
    return absl::OkStatus();
  }

  const Checkpoint& checkpoint_;
  const QuantizedLayout layout_;
  const WeightQuantization weights_;
  bool spaced_ = false;
  QuantizedMatrix matrix_;
};

}  // namespace

absl::StatusOr<QuantizedMatrix> ReadPackedTensor(
    const Checkpoint& checkpoint, absl::string_view module,
    QuantizedLayout layout, const WeightQuantization& weights) {
  return MatrixReader(checkpoint, module, layout, weights).Read();
}

}  // namespace qeff
