// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/weight_reader.h"

#include <algorithm>

#include "qeff/kernels/convert/convert.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Names of the tensors that a module can have, plain or quantized.
constexpr const char* kLinearSuffixes[] = {".weight",
                                           ".bias",
                                           ".weight_packed",
                                           ".weight_scale",
                                           ".weight_zero_point",
                                           ".weight_shape"};

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
  return InvalidInputError(checkpoint_->folder(), ": tensor ", expected.name,
                           ": expected a floating type, found ",
                           DTypeName(view.dtype));
}

absl::StatusOr<std::vector<std::string>> WeightReader::CheckLinear(
    const LinearModule& module) const {
  std::vector<std::string> names = {module.module + ".weight"};
  const Shape shape = module.transposed
                          ? Shape({module.in_features, module.out_features})
                          : Shape({module.out_features, module.in_features});
  QEFF_RETURN_IF_ERROR(CheckTensor({names[0], shape}));
  if (module.has_bias) {
    names.push_back(module.module + ".bias");
    QEFF_RETURN_IF_ERROR(
        CheckTensor({names.back(), Shape({module.out_features})}));
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
  for (const char* suffix : kLinearSuffixes) {
    ReleaseTensor(module.module + suffix);
  }
}

void WeightReader::ReleaseTensor(const std::string& name) const {
  if (!checkpoint_->Has(name)) return;
  const auto view = checkpoint_->Get(name);
  if (view.ok()) checkpoint_->Release(*view);
}

}  // namespace qeff
