// SPDX-License-Identifier: Apache-2.0
//
// Quantization without calibration as a named change of a model, for pipelines
// and the facade. To see the plan first use quantize_plan.h.

#ifndef QEFF_QUANT_QUANTIZE_TRANSFORM_H_
#define QEFF_QUANT_QUANTIZE_TRANSFORM_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/transformer/model_transform.h"

namespace qeff {

// Quantizes as `options` say. Errors: those of PlanQuantization and
// QuantizeCheckpoint; a model that is quantized already is one. Thread-safe.
class QuantizeTransform : public ModelTransform {
 public:
  explicit QuantizeTransform(QuantizeOptions options)
      : options_(std::move(options)) {}

  // "quantize(int4_g128)"; "quantize(int4_g128,mse)" with kLeastSquares.
  std::string name() const override;

  absl::StatusOr<TransformReport> Apply(const Transformer& model,
                                        const std::string& output,
                                        ThreadPool& pool) override;

 private:
  const QuantizeOptions options_;
};

}  // namespace qeff

#endif  // QEFF_QUANT_QUANTIZE_TRANSFORM_H_
