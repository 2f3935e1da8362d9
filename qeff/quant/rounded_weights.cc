// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/rounded_weights.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "qeff/format/codebook.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/quant/codebook_search.h"
#include "qeff/quant/mse_search.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

constexpr int64_t kRowsOfTask = 16;

void RoundCodebook(const QuantScheme& scheme, const QuantizedShape& shape,
                   DType scale_dtype, float* row) {
  const CodebookFormat& format = FormatOf(*scheme.codebook);
  for (int64_t begin = 0; begin < shape.cols; begin += shape.group_elems) {
    const absl::Span<float> group(
        row + begin,
        static_cast<size_t>(std::min(shape.group_elems, shape.cols - begin)));
    const float scale = RoundingScale(scheme, group, scale_dtype);
    for (float& weight : group) {
      weight =
          format.values[NearestCode(format, weight * (1.0f / scale))] * scale;
    }
  }
}

void RoundIntegers(const QuantScheme& scheme, const QuantizedShape& shape,
                   DType scale_dtype, absl::Span<const float> importance,
                   float* row) {
  for (int64_t begin = 0; begin < shape.cols; begin += shape.group_elems) {
    const size_t size =
        static_cast<size_t>(std::min(shape.group_elems, shape.cols - begin));
    const absl::Span<float> group(row + begin, size);
    const GroupParams params = LeastErrorParams(
        scheme, group, importance.subspan(0, size), scale_dtype);
    for (float& weight : group) {
      weight = DequantizeValue(QuantizeValue(weight, params, scheme.bits),
                               params.zero, params.scale);
    }
  }
}

}  // namespace

void RoundWeights(const QuantScheme& scheme, DType scale_dtype,
                  MatrixView<float> weights, ThreadPool& pool) {
  const QuantizedShape shape(scheme, weights.rows(), weights.cols());
  const std::vector<float> importance(static_cast<size_t>(shape.cols), 1.0f);
  pool.ParallelFor(
      shape.rows, kRowsOfTask, [&](int64_t r, int64_t end, int /*thread*/) {
        std::vector<uint8_t> blocks(static_cast<size_t>(shape.block_row_bytes));
        for (; r < end; ++r) {
          if (scheme.codebook.has_value()) {
            RoundCodebook(scheme, shape, scale_dtype, weights.row(r));
            continue;
          }
          if (!scheme.ggml.has_value()) {
            RoundIntegers(scheme, shape, scale_dtype, importance,
                          weights.row(r));
            continue;
          }
          const absl::Span<float> row(weights.row(r),
                                      static_cast<size_t>(shape.cols));
          EncodeGgmlRow(*scheme.ggml, row, importance, absl::MakeSpan(blocks));
          DecodeGgmlRow(*scheme.ggml, blocks, row);
        }
      });
}

}  // namespace qeff
