// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/gptq_awq_tensor.h"

#include <algorithm>
#include <utility>

#include "absl/types/span.h"
#include "qeff/format/gptq_awq_packing.h"
#include "qeff/format/packing.h"
#include "qeff/io/layer_tensors.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

absl::Span<uint8_t> Own(size_t size, QuantizedMatrix* matrix) {
  auto bytes = std::make_shared<std::vector<uint8_t>>(size);
  matrix->owned.push_back(bytes);
  return absl::MakeSpan(*bytes);
}

}  // namespace

absl::StatusOr<GptqAwqTensor> GptqAwqTensor::Open(
    const Checkpoint& checkpoint, absl::string_view module,
    QuantizedLayout layout, const WeightQuantization& weights) {
  QEFF_CHECK(IsInputMajor(layout));
  GptqAwqTensor tensor;
  tensor.checkpoint_ = &checkpoint;
  tensor.layout_ = layout;
  QuantizedMatrix& matrix = tensor.description_;
  matrix.module = std::string(module);
  matrix.bits = weights.bits;
  QEFF_RETURN_IF_ERROR(tensor.OpenCodes());
  const bool grouped = weights.strategy == QuantStrategy::kGroup;
  matrix.group_elems = grouped ? weights.group_size : matrix.cols;
  if (layout == QuantizedLayout::kAwq &&
      matrix.cols % matrix.group_elems != 0) {
    return InvalidInputError(
        checkpoint.Place(QweightTensorName(module)), ": ", matrix.cols,
        " inputs are not divisible into groups of ", matrix.group_elems);
  }
  matrix.groups = CeilDiv(matrix.cols, matrix.group_elems);
  matrix.row_bytes = 4 * PackedWords(matrix.bits, matrix.cols);
  matrix.codes.bits = matrix.bits;
  matrix.codes.cols = matrix.cols;
  matrix.codes.group_elems = matrix.group_elems;
  QEFF_ASSIGN_OR_RETURN(tensor.scales_,
                        GetScales(checkpoint, ScalesTensorName(module),
                                  Shape({matrix.groups, matrix.rows})));
  matrix.codes.scale_dtype = tensor.scales_.dtype;
  if (layout != QuantizedLayout::kAwq) {
    QEFF_ASSIGN_OR_RETURN(
        matrix.column_groups,
        GetGroupIndex(checkpoint, GroupIndexTensorName(module), matrix.cols,
                      matrix.group_elems, matrix.groups));
  }
  QEFF_RETURN_IF_ERROR(tensor.OpenZeros(weights.symmetric));
  return tensor;
}

absl::Status GptqAwqTensor::OpenCodes() {
  const std::string name = QweightTensorName(description_.module);
  QEFF_ASSIGN_OR_RETURN(qweight_, GetOfType(*checkpoint_, name, DType::kI32));
  const bool awq = layout_ == QuantizedLayout::kAwq;
  // The codes of whole words, across which 3 bits straddle.
  const int bits = description_.bits;
  const int64_t words = !awq && bits == 3 ? 3 : 1;
  if (qweight_.shape.rank() != 2 || qweight_.shape[0] < 1 ||
      qweight_.shape[1] < 1 || qweight_.shape[0] % words != 0 ||
      qweight_.shape[0] > kMaxLayerSide || qweight_.shape[1] > kMaxLayerSide) {
    return InvalidInputError(checkpoint_->Place(name),
                             ": expected two sizes from 1 on",
                             words == 3 ? ", the first a multiple of 3" : "",
                             ", found shape ", qweight_.shape.ToString());
  }
  description_.rows = awq ? qweight_.shape[1] * kAwqWordCodes  //
                          : qweight_.shape[1];
  description_.cols =
      awq ? qweight_.shape[0] : qweight_.shape[0] / words * GptqMultiple(bits);
  const int64_t multiple = awq ? kAwqWordCodes : GptqMultiple(bits);
  if (description_.rows % multiple == 0) return absl::OkStatus();
  return InvalidInputError(checkpoint_->Place(name),
                           ": expected a multiple of ", multiple,
                           " outputs, found ", description_.rows);
}

absl::Status GptqAwqTensor::OpenZeros(bool symmetric) {
  const std::string name = QzerosTensorName(description_.module);
  QEFF_ASSIGN_OR_RETURN(const TensorView view,
                        GetOfType(*checkpoint_, name, DType::kI32));
  const int bits = description_.bits;
  const int64_t words = PackedWords(bits, description_.rows);
  QEFF_RETURN_IF_ERROR(ExpectShape(*checkpoint_, name, view,
                                   Shape({description_.groups, words})));
  const size_t rows = static_cast<size_t>(description_.rows);
  const size_t row_bytes = static_cast<size_t>(4 * words);
  zeros_.resize(static_cast<size_t>(description_.groups) * rows);
  for (size_t g = 0; g < static_cast<size_t>(description_.groups); ++g) {
    const auto from = view.bytes.subspan(g * row_bytes, row_bytes);
    const auto to = absl::MakeSpan(zeros_).subspan(g * rows, rows);
    if (layout_ == QuantizedLayout::kAwq) {
      UnpackAwqCodes(from, to);
    } else {
      UnpackCodes(bits, from, to);
    }
  }
  const int half = 1 << (bits - 1);
  if (symmetric) {
    const int first = zeros_[0];
    for (size_t i = 0; i < zeros_.size(); ++i) {
      if (zeros_[i] == first && (first == half || first == half - 1)) continue;
      return InvalidInputError(
          checkpoint_->Place(name), ": zero point ", i, ": expected ", half - 1,
          " everywhere or ", half,
          " everywhere, because the model is symmetric (sym), found ",
          int{zeros_[i]});
    }
    zeros_.clear();
    return absl::OkStatus();
  }
  if (layout_ == QuantizedLayout::kGptq) {
    for (uint8_t& zero : zeros_) {
      zero = static_cast<uint8_t>((zero + 1) & ((1 << bits) - 1));
    }
  }
  if (std::all_of(zeros_.begin(), zeros_.end(),
                  [half](uint8_t zero) { return zero == half; })) {
    zeros_.clear();
  }
  return absl::OkStatus();
}

QuantizedMatrix GptqAwqTensor::Rows(int64_t begin, int64_t count) const {
  QEFF_CHECK(begin >= 0 && count >= 0 && begin <= description_.rows - count);
  QuantizedMatrix matrix = description_;
  matrix.rows = count;
  const size_t rows = static_cast<size_t>(count);
  const size_t groups = static_cast<size_t>(matrix.groups);
  const absl::Span<uint8_t> packed =
      Own(rows * static_cast<size_t>(matrix.row_bytes), &matrix);
  if (layout_ == QuantizedLayout::kAwq) {
    AwqToDense(matrix.cols, description_.rows, begin, count, qweight_.bytes,
               packed);
  } else {
    GptqToDense(matrix.row_bytes / 4, description_.rows, begin, count,
                qweight_.bytes, packed);
  }
  matrix.codes.packed = packed;
  const size_t size = DTypeBytes(scales_.dtype);
  const absl::Span<uint8_t> scales = Own(rows * groups * size, &matrix);
  const absl::Span<uint8_t> zeros =
      Own(zeros_.empty() ? 0 : rows * groups, &matrix);
  for (size_t g = 0; g < groups; ++g) {
    const size_t first =
        g * static_cast<size_t>(description_.rows) + static_cast<size_t>(begin);
    for (size_t r = 0; r < rows; ++r) {
      std::copy_n(scales_.bytes.data() + (first + r) * size, size,
                  scales.data() + (r * groups + g) * size);
      if (!zeros.empty()) zeros[r * groups + g] = zeros_[first + r];
    }
  }
  matrix.codes.scales = scales;
  matrix.codes.zeros = zeros;
  return matrix;
}

}  // namespace qeff
