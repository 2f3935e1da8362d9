// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/weight_reader.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "qeff/format/quantized_layout.h"
#include "qeff/io/quantized_tensor.h"
#include "qeff/io/sparse_24_tensor.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Names that the tensors of a quantized layer can have, besides its bias.
std::vector<std::string> QuantizedNames(const LinearModule& module) {
  return {
      PackedTensorName(module.module),       ScaleTensorName(module.module),
      ZeroPointTensorName(module.module),    ShapeTensorName(module.module),
      BlocksTensorName(module.module),       BytesTensorName(module.module),
      ColumnGroupsTensorName(module.module), QweightTensorName(module.module),
      QzerosTensorName(module.module),       ScalesTensorName(module.module),
      GroupIndexTensorName(module.module)};
}

// Elements [first, first + out.size()) of `tensor`.
void Convert(const TensorView& tensor, int64_t first, absl::Span<float> out) {
  const size_t size = DTypeBytes(tensor.dtype);
  ConvertToFloat(tensor.dtype,
                 tensor.bytes.subspan(static_cast<size_t>(first) * size,
                                      out.size() * size),
                 out);
}

// Rows of the transpose of `stored` [in, out]: some rows of `stored` are
// converted at a time, then turned.
void ConvertTransposed(const TensorView& stored, int64_t begin,
                       MatrixView<float> out) {
  constexpr int64_t kTile = 16;
  const int64_t in = stored.shape[0], stored_cols = stored.shape[1];
  const int64_t rows = out.rows();
  std::vector<float> tile(static_cast<size_t>(kTile * rows));
  for (int64_t k = 0; k < in; k += kTile) {
    const int64_t count = std::min(kTile, in - k);
    for (int64_t i = 0; i < count; ++i) {
      Convert(
          stored, (k + i) * stored_cols + begin,
          absl::MakeSpan(tile.data() + i * rows, static_cast<size_t>(rows)));
    }
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < count; ++i) {
        out.row(r)[k + i] = tile[static_cast<size_t>(i * rows + r)];
      }
    }
  }
}

}  // namespace

absl::Status WeightReader::CheckTensor(const ExpectedTensor& expected) const {
  QEFF_ASSIGN_OR_RETURN(const TensorView view,
                        checkpoint_->Get(expected.name, expected.shape));
  if (IsFloating(view.dtype)) return absl::OkStatus();
  return InvalidInputError(checkpoint_->Place(expected.name),
                           ": expected a floating type, found ",
                           DTypeName(view.dtype));
}

bool WeightReader::IsQuantized(const LinearModule& module) const {
  return quantization_ != nullptr &&
         IsQuantizedLayer(*checkpoint_, module.module, *quantization_);
}

absl::Status WeightReader::CheckUnusedBias(const std::string& name) const {
  QEFF_ASSIGN_OR_RETURN(const TensorView view, checkpoint_->Get(name));
  const auto byte = std::find_if(view.bytes.begin(), view.bytes.end(),
                                 [](uint8_t b) { return b != 0; });
  if (byte == view.bytes.end()) return absl::OkStatus();
  return InvalidInputError(
      checkpoint_->Place(name),
      ": the model has no such bias: expected zeros, found another value at "
      "index ",
      (byte - view.bytes.begin()) /
          static_cast<ptrdiff_t>(DTypeBytes(view.dtype)));
}

absl::StatusOr<std::vector<std::string>> WeightReader::CheckSparseWeight(
    const LinearModule& module) const {
  QEFF_ASSIGN_OR_RETURN(const Sparse24Tensor tensor,
                        OpenSparse24Tensor(*checkpoint_, module.module));
  if (tensor.rows != module.out_features || tensor.cols != module.in_features) {
    return InvalidInputError(
        checkpoint_->folder(), ": sparse layer ", module.module,
        ": expected shape ",
        Shape({module.out_features, module.in_features}).ToString(), ", found ",
        Shape({tensor.rows, tensor.cols}).ToString());
  }
  std::vector<std::string> names;
  for (TensorInfo& info :
       Sparse24Tensors(module.module, DType::kF32, tensor.rows, tensor.cols)) {
    names.push_back(std::move(info.name));
  }
  return names;
}

absl::StatusOr<std::vector<std::string>> WeightReader::CheckWeight(
    const LinearModule& module) const {
  if (!IsQuantized(module) && HasSparse24Weight(*checkpoint_, module.module)) {
    return CheckSparseWeight(module);
  }
  if (!IsQuantized(module)) {
    const std::string name = module.module + ".weight";
    const Shape shape = module.transposed
                            ? Shape({module.in_features, module.out_features})
                            : Shape({module.out_features, module.in_features});
    QEFF_RETURN_IF_ERROR(CheckTensor({name, shape}));
    return std::vector<std::string>{name};
  }
  QEFF_ASSIGN_OR_RETURN(
      const QuantizedMatrix matrix,
      CheckQuantizedMatrix(*checkpoint_, module.module, *quantization_));
  if (matrix.rows != module.out_features || matrix.cols != module.in_features) {
    return InvalidInputError(
        checkpoint_->folder(), ": quantized layer ", module.module,
        ": expected shape ",
        Shape({module.out_features, module.in_features}).ToString(), ", found ",
        Shape({matrix.rows, matrix.cols}).ToString());
  }
  std::vector<std::string> names;
  if (matrix.inputs == InputCodes::kStatic) {
    names.push_back(InputScaleTensorName(module.module));
  }
  for (const std::string& name : QuantizedNames(module)) {
    if (checkpoint_->Has(name)) names.push_back(name);
  }
  return names;
}

absl::StatusOr<std::vector<std::string>> WeightReader::CheckLinear(
    const LinearModule& module) const {
  QEFF_ASSIGN_OR_RETURN(std::vector<std::string> names, CheckWeight(module));
  if (module.has_bias) {
    names.push_back(module.module + ".bias");
    QEFF_RETURN_IF_ERROR(
        CheckTensor({names.back(), Shape({module.out_features})}));
  } else if (IsQuantized(module) && IsInputMajor(quantization_->layout()) &&
             checkpoint_->Has(module.module + ".bias")) {
    names.push_back(module.module + ".bias");
    QEFF_RETURN_IF_ERROR(CheckUnusedBias(names.back()));
  }
  return names;
}

absl::StatusOr<std::vector<float>> WeightReader::ReadVector(
    const std::string& name) const {
  QEFF_ASSIGN_OR_RETURN(const TensorView view, checkpoint_->Get(name));
  std::vector<float> values(static_cast<size_t>(view.num_elements()));
  Convert(view, 0, absl::MakeSpan(values));
  return values;
}

absl::Status WeightReader::ReadRow(const std::string& name, int64_t row,
                                   absl::Span<float> out) const {
  QEFF_ASSIGN_OR_RETURN(const TensorView view, checkpoint_->Get(name));
  Convert(view, row * static_cast<int64_t>(out.size()), out);
  return absl::OkStatus();
}

absl::Status WeightReader::ReadLinearRows(const LinearModule& module,
                                          int64_t begin,
                                          MatrixView<float> out) const {
  QEFF_CHECK(begin >= 0 && begin + out.rows() <= module.out_features);
  QEFF_CHECK(out.cols() == module.in_features &&
             out.stride_elems() == out.cols());
  // Checked: a layer that has codes is one that the config names. (A tied
  // lm_head is the embedding, which never has any.)
  if (quantization_ != nullptr &&
      HasQuantizedWeight(*checkpoint_, module.module)) {
    return ReadQuantizedRows(*checkpoint_, module.module, *quantization_, begin,
                             out.rows(), out.data());
  }
  if (HasSparse24Weight(*checkpoint_, module.module)) {
    QEFF_ASSIGN_OR_RETURN(const Sparse24Tensor tensor,
                          OpenSparse24Tensor(*checkpoint_, module.module));
    return ReadSparse24Rows(tensor, begin, out.rows(), out.data());
  }
  QEFF_ASSIGN_OR_RETURN(const TensorView view,
                        checkpoint_->Get(module.module + ".weight"));
  if (module.transposed) {
    ConvertTransposed(view, begin, out);
  } else {
    Convert(view, begin * out.cols(),
            absl::MakeSpan(out.data(),
                           static_cast<size_t>(out.rows() * out.cols())));
  }
  return absl::OkStatus();
}

void WeightReader::ReleaseLinear(const LinearModule& module) const {
  // module + ".weight" is among them.
  for (const std::string& name : QuantizedNames(module)) {
    ReleaseTensor(name);
  }
  ReleaseTensor(module.module + ".compressed");
}

void WeightReader::ReleaseTensor(const std::string& name) const {
  if (!checkpoint_->Has(name)) return;
  const auto view = checkpoint_->Get(name);
  if (view.ok()) checkpoint_->Release(*view);
}

}  // namespace qeff
