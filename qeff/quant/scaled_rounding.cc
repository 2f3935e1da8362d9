// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/scaled_rounding.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "qeff/format/codebook.h"
#include "qeff/format/codebook_rows.h"
#include "qeff/quant/codebook_search.h"

namespace qeff {
namespace {

// The same of a group of a codebook. Searching costs little for powers of two;
// other scales are the definition's.
void RoundGroup(const QuantScheme& scheme, DType scale_dtype,
                absl::Span<const float> scaled,
                absl::Span<const float> scale_of, float* rounded) {
  const CodebookFormat& format = FormatOf(*scheme.codebook);
  const float scale = format.e8m0
                          ? RoundingScale(scheme, scaled, scale_dtype)
                          : CodebookScale(scheme, AbsMax(scaled), scale_dtype);
  const float inverse = 1.0f / scale;
  for (size_t c = 0; c < scaled.size(); ++c) {
    const uint8_t code = NearestCode(format, scaled[c] * inverse);
    rounded[c] = format.values[code] * scale / scale_of[c];
  }
}

}  // namespace

Matrix<float> SampleRows(absl::Span<const MatrixView<const float>> consumers,
                         int64_t count) {
  int64_t total = 0;
  for (const auto& consumer : consumers) total += consumer.rows();
  count = std::min(count, total);
  Matrix<float> sample(count, consumers[0].cols());
  for (int64_t i = 0; i < count; ++i) {
    int64_t row = i * total / count;
    size_t c = 0;
    while (row >= consumers[c].rows()) row -= consumers[c++].rows();
    std::copy_n(consumers[c].row(row), sample.cols(), sample.row(i));
  }
  return sample;
}

void RoundScaled(const QuantScheme& scheme, DType scale_dtype,
                 absl::Span<const float> weights,
                 absl::Span<const float> scale_of, std::vector<float>* scaled,
                 float* rounded) {
  const size_t cols = weights.size();
  const size_t group =
      scheme.group_size == 0 ? cols : static_cast<size_t>(scheme.group_size);
  scaled->resize(cols);
  for (size_t c = 0; c < cols; ++c) (*scaled)[c] = weights[c] * scale_of[c];
  for (size_t begin = 0; begin < cols; begin += group) {
    const size_t end = std::min(cols, begin + group);
    const float* values = scaled->data();
    if (scheme.codebook.has_value()) {
      RoundGroup(scheme, scale_dtype,
                 absl::MakeConstSpan(values + begin, end - begin),
                 scale_of.subspan(begin), rounded + begin);
      continue;
    }
    const auto range = std::minmax_element(values + begin, values + end);
    const GroupParams params =
        ComputeGroupParams(scheme, *range.first, *range.second, scale_dtype);
    for (size_t c = begin; c < end; ++c) {
      const uint8_t code = QuantizeValue(values[c], params, scheme.bits);
      rounded[c] =
          DequantizeValue(code, params.zero, params.scale) / scale_of[c];
    }
  }
}

void CenterScales(std::vector<float>* scales) {
  const auto range = std::minmax_element(scales->begin(), scales->end());
  const float middle = std::sqrt(*range.first * *range.second);
  for (float& scale : *scales) {
    scale /= middle;
    if (!std::isfinite(scale) || scale == 0) scale = 1;
  }
}

}  // namespace qeff
