// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/weight_quantization.h"

namespace qeff {

WeightQuantization WeightQuantization::FromScheme(const QuantScheme& scheme) {
  WeightQuantization weights;
  weights.ggml = scheme.ggml;
  if (scheme.ggml.has_value()) return weights;
  weights.codebook = scheme.codebook;
  weights.bits = scheme.bits;
  weights.symmetric = scheme.symmetric;
  weights.strategy =
      scheme.group_size == 0 ? QuantStrategy::kChannel : QuantStrategy::kGroup;
  weights.group_size = scheme.group_size;
  weights.inputs = scheme.inputs;
  weights.signed_bytes = scheme.inputs != InputCodes::kNone;
  return weights;
}

QuantScheme WeightQuantization::ToScheme() const {
  QuantScheme scheme;
  scheme.ggml = ggml;
  if (ggml.has_value()) return scheme;
  scheme.codebook = codebook;
  scheme.bits = bits;
  scheme.symmetric = symmetric;
  scheme.group_size = strategy == QuantStrategy::kGroup ? group_size : 0;
  return scheme;
}

}  // namespace qeff
