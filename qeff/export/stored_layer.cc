// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/stored_layer.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "qeff/format/gptq_awq_packing.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/io/integer_codes.h"
#include "qeff/io/quantized_tensor.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr QuantizedLayout kWritten[] = {
    QuantizedLayout::kCompressedTensors, QuantizedLayout::kGptq,
    QuantizedLayout::kGptqV2, QuantizedLayout::kAwq};

// A scale that float16 does not hold.
std::string WhyNotF16Scales(const QuantizedMatrix& matrix) {
  const DType dtype = matrix.codes.scale_dtype;
  if (dtype == DType::kF16) return "";
  const int64_t size = static_cast<int64_t>(DTypeBytes(dtype));
  for (int64_t i = 0; i < matrix.rows * matrix.groups; ++i) {
    const float scale = LoadScale(dtype, matrix.codes.scales.data() + i * size);
    if (F16ToFloat(FloatToF16(scale)) == scale) continue;
    return absl::StrCat("the scale of row ", i / matrix.groups, ", group ",
                        i % matrix.groups, ", is ", scale,
                        ", which float16 does not hold exactly");
  }
  return "";
}

std::string NotWholeWords(int64_t size, absl::string_view side,
                          int64_t multiple) {
  return absl::StrCat(size, " ", side, " are not a multiple of ", multiple);
}

std::string WhyNotInputMajor(const StoredLayer& layer, QuantizedLayout layout) {
  const QuantizedMatrix& matrix = layer.matrix;
  if (matrix.inputs != InputCodes::kNone) {
    return "its inputs are to be 8-bit codes";
  }
  if (!layer.integers()) {
    return absl::StrCat("it is ", QuantSchemeName(layer.weights.ToScheme()),
                        ", not integers");
  }
  const int bits = matrix.bits;
  const bool awq = layout == QuantizedLayout::kAwq;
  if (awq ? bits != kAwqBits
          : bits != 2 && bits != 3 && bits != 4 && bits != 8) {
    return absl::StrCat("it has ", bits, " bits");
  }
  const int64_t multiple = awq ? kAwqWordCodes : GptqMultiple(bits);
  if (!awq && matrix.cols % multiple != 0) {
    return NotWholeWords(matrix.cols, "inputs", multiple);
  }
  if (matrix.rows % multiple != 0) {
    return NotWholeWords(matrix.rows, "outputs", multiple);
  }
  if (awq && matrix.cols % matrix.group_elems != 0) {
    return absl::StrCat("groups of ", matrix.group_elems,
                        " do not divide rows of ", matrix.cols);
  }
  return WhyNotF16Scales(matrix);
}

// compressed-tensors sorts columns by group and cuts groups of one size.
std::string WhyNotEvenGroups(const QuantizedMatrix& matrix) {
  if (matrix.column_groups == nullptr) return "";
  std::vector<int64_t> sizes(static_cast<size_t>(matrix.groups));
  for (const int32_t group : *matrix.column_groups) {
    ++sizes[static_cast<size_t>(group)];
  }
  for (size_t g = 0; g < sizes.size(); ++g) {
    if (sizes[g] == matrix.group_elems) continue;
    return absl::StrCat("its columns are in activation order (g_idx), and ",
                        sizes[g], " of them, not ", matrix.group_elems,
                        ", in group ", g);
  }
  return "";
}

}  // namespace

bool IsStoredQuantized(const Transformer& model, const LinearModule& module) {
  return model.quantization().has_value() &&
         IsQuantizedLayer(model.checkpoint(), module.module,
                          *model.quantization());
}

absl::StatusOr<StoredLayer> ReadStoredLayer(const Transformer& model,
                                            const LinearModule& module) {
  StoredLayer layer;
  layer.module = module;
  layer.weights = *model.quantization()->Find(module.module);
  QEFF_ASSIGN_OR_RETURN(layer.matrix,
                        ReadQuantizedMatrix(model.checkpoint(), module.module,
                                            *model.quantization()));
  if (layer.matrix.inputs == InputCodes::kNone &&
      HasIntegerCodes(layer.matrix)) {
    QEFF_ASSIGN_OR_RETURN(layer.matrix, IntegerCodes(layer.matrix));
  }
  const QuantizedMatrix& matrix = layer.matrix;
  if (!layer.integers()) return layer;
  WeightQuantization integers;
  integers.bits = matrix.codes.bits;
  integers.symmetric = matrix.symmetric();
  const bool grouped = layer.weights.ggml.has_value() ||
                       layer.weights.codebook.has_value() ||
                       layer.weights.strategy == QuantStrategy::kGroup;
  integers.strategy = grouped ? QuantStrategy::kGroup : QuantStrategy::kChannel;
  integers.group_size = grouped ? matrix.group_elems : 0;
  layer.weights = integers;
  return layer;
}

std::string WhyNotHeld(const StoredLayer& layer, QuantizedLayout layout) {
  if (IsInputMajor(layout)) {
    const std::string why = WhyNotInputMajor(layer, layout);
    const bool ordered = layer.matrix.column_groups != nullptr;
    return why.empty() && ordered && layout == QuantizedLayout::kAwq
               ? "its columns are in activation order (g_idx)"
               : why;
  }
  const std::string why = WhyNotCompressedTensors(
      layer.weights.ToScheme(), layer.matrix.cols, layer.module.transposed);
  return why.empty() ? WhyNotEvenGroups(layer.matrix) : why;
}

absl::Status NotHeldError(const Transformer& model, const StoredLayer& layer,
                          QuantizedLayout layout, const std::string& why) {
  std::vector<absl::string_view> others;
  for (const QuantizedLayout other : kWritten) {
    if (other != layout && WhyNotHeld(layer, other).empty()) {
      others.push_back(QuantizedLayoutName(other));
    }
  }
  return InvalidInputError(
      model.checkpoint().folder(), ": ", QuantizedLayoutName(layout),
      " cannot hold layer ", layer.module.module, ": ", why, "; ",
      others.empty()
          ? "nor can another folder; onnx holds its values as floats"
          : absl::StrCat("it can be written as ", absl::StrJoin(others, ", ")));
}

}  // namespace qeff
