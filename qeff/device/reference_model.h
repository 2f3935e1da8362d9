// SPDX-License-Identifier: Apache-2.0
//
// For tests: small random models, and their logits computed the long way, from
// the formulas of transformer_spec.h in double precision, over whole
// sequences and without a cache.

#ifndef QEFF_DEVICE_REFERENCE_MODEL_H_
#define QEFF_DEVICE_REFERENCE_MODEL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "qeff/device/model.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/dtype.h"

namespace qeff {

// A valid Llama-like description: hidden 24, 2 layers, 4 heads of 6 with 2 KV
// heads, FFN 40, vocabulary 50, 64 positions.
TransformerSpec SmallSpec();

// Every weight that `spec` asks for, random, matrices of type `dtype`. Weights
// are of a size that keeps activations near 1.
std::shared_ptr<DeviceModel> RandomModel(const TransformerSpec& spec,
                                         uint64_t seed,
                                         DType dtype = DType::kF32);

// Logits after each of the tokens.
std::vector<std::vector<double>> ReferenceLogits(
    const DeviceModel& model, absl::Span<const int32_t> tokens);

// ||found - expected|| / ||expected||.
double RelativeError(absl::Span<const float> found,
                     const std::vector<double>& expected);

}  // namespace qeff

#endif  // QEFF_DEVICE_REFERENCE_MODEL_H_
