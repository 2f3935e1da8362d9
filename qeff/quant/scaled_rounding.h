// SPDX-License-Identifier: Apache-2.0
//
// What searches for scales of channels (awq.h, smooth_quant.h) share: some rows
// of the layers, and what rounding makes of them once their columns are scaled.

#ifndef QEFF_QUANT_SCALED_ROUNDING_H_
#define QEFF_QUANT_SCALED_ROUNDING_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// `count` rows (or all) of the layers `consumers`, evenly over all of them.
Matrix<float> SampleRows(absl::Span<const MatrixView<const float>> consumers,
                         int64_t count);

// What `scheme`, of integers or a codebook, makes of weights[c] * scale_of[c],
// divided by scale_of[c]; all [cols]. `scaled` is overwritten.
void RoundScaled(const QuantScheme& scheme, DType scale_dtype,
                 absl::Span<const float> weights,
                 absl::Span<const float> scale_of, std::vector<float>* scaled,
                 float* rounded);

// Divides `scales` so that the geometric middle of the least and the greatest
// is 1; what would not be finite becomes 1.
void CenterScales(std::vector<float>* scales);

}  // namespace qeff

#endif  // QEFF_QUANT_SCALED_ROUNDING_H_
