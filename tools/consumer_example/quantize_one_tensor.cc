// SPDX-License-Identifier: Apache-2.0
//
// What a program in another repository looks like: it loads a model, quantizes
// one linear layer to 4 bits and says what that cost.
//
//   quantize_one_tensor MODEL_FOLDER

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/io/checkpoint.h"
#include "qeff/kernels/quantize/quantize.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/status.h"

namespace {

absl::Status QuantizeOneTensor(const char* folder) {
  QEFF_ASSIGN_OR_RETURN(const auto checkpoint, qeff::Checkpoint::Open(folder));
  QEFF_ASSIGN_OR_RETURN(const auto model, qeff::Transformer::Load(checkpoint));
  QEFF_ASSIGN_OR_RETURN(const qeff::LinearWeights layer,
                        model->LoadLinear(/*block=*/0, qeff::LinearRole::kUp));
  const absl::Span<const float> weights = layer.weight.span();
  const int64_t rows = layer.weight.rows(), cols = layer.weight.cols();

  QEFF_ASSIGN_OR_RETURN(const qeff::QuantScheme scheme,
                        qeff::ParseQuantScheme("int4_g32"));
  const qeff::QuantizedShape shape(scheme, rows, cols);
  std::vector<uint8_t> packed(rows * shape.row_words * 4);
  std::vector<uint8_t> scales(rows * shape.groups * 2);
  const auto not_finite = qeff::QuantizeRows(
      scheme, qeff::DType::kBF16, qeff::DType::kF32,
      absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(weights.data()),
                          weights.size() * sizeof(float)),
      rows, cols,
      {absl::MakeSpan(packed), absl::MakeSpan(scales), absl::Span<uint8_t>()});
  if (not_finite.has_value()) {
    return qeff::NumericalError("weight ", *not_finite, " is not finite");
  }

  std::vector<float> restored(weights.size());
  qeff::QuantizedRowsView view;
  view.bits = scheme.bits;
  view.cols = cols;
  view.group_elems = shape.group_elems;
  view.packed = packed;
  view.scales = scales;
  qeff::DequantizeRows(view, 0, rows, absl::MakeSpan(restored));

  double error = 0, power = 0;
  for (size_t i = 0; i < restored.size(); ++i) {
    const double difference = restored[i] - weights[i];
    error += difference * difference;
    power += static_cast<double>(weights[i]) * weights[i];
  }
  std::printf(
      "[%lld, %lld]: %zu bytes of float32 became %zu, relative RMS "
      "error %.4f\n",
      static_cast<long long>(rows), static_cast<long long>(cols),
      weights.size() * sizeof(float), packed.size() + scales.size(),
      std::sqrt(error / power));
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: quantize_one_tensor MODEL_FOLDER\n");
    return qeff::kExitUsage;
  }
  const absl::Status status = QuantizeOneTensor(argv[1]);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return qeff::ExitCodeFor(status);
}
