// SPDX-License-Identifier: Apache-2.0
//
// What quantize.h computes, written from the formulas of
// qeff/format/quant_scheme.h. For tests.

#ifndef QEFF_KERNELS_QUANTIZE_QUANTIZE_REFERENCE_H_
#define QEFF_KERNELS_QUANTIZE_QUANTIZE_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <vector>

#include "qeff/format/packing.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/format/quantized_layout.h"

namespace qeff {

struct ReferenceRows {
  std::vector<uint8_t> packed;
  std::vector<uint8_t> scales;
  std::vector<uint8_t> zeros;
  std::vector<float> values;  // what the codes stand for
};

inline ReferenceRows ReferenceQuantize(const QuantScheme& scheme,
                                       DType scale_dtype,
                                       const std::vector<float>& weights,
                                       int64_t rows, int64_t cols) {
  const QuantizedShape shape(scheme, rows, cols);
  ReferenceRows result;
  const size_t scale_bytes = DTypeBytes(scale_dtype);
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<uint8_t> codes;
    for (int64_t begin = 0; begin < cols; begin += shape.group_elems) {
      const auto first = weights.begin() + r * cols + begin;
      const auto last = first + std::min(shape.group_elems, cols - begin);
      const GroupParams params =
          ComputeGroupParams(scheme, *std::min_element(first, last),
                             *std::max_element(first, last), scale_dtype);
      result.scales.resize(result.scales.size() + scale_bytes);
      StoreScale(params.scale, scale_dtype,
                 &result.scales[result.scales.size() - scale_bytes]);
      if (!scheme.symmetric) {
        result.zeros.push_back(static_cast<uint8_t>(params.zero));
      }
      for (auto x = first; x != last; ++x) {
        const double rounded =
            std::nearbyint(*x * (1.0f / params.scale)) + params.zero;
        const double code =
            std::min(std::max(rounded, 0.0), std::exp2(scheme.bits) - 1);
        codes.push_back(static_cast<uint8_t>(code));
        result.values.push_back(static_cast<float>(
            (code - params.zero) * static_cast<double>(params.scale)));
      }
    }
    const size_t row_bytes = static_cast<size_t>(4 * shape.row_words);
    result.packed.resize(result.packed.size() + row_bytes);
    PackCodes(scheme.bits, codes,
              absl::MakeSpan(result.packed).last(row_bytes));
  }
  return result;
}

}  // namespace qeff

#endif  // QEFF_KERNELS_QUANTIZE_QUANTIZE_REFERENCE_H_
