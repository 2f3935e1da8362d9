// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/mse_rows.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "qeff/format/packing.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/quant/mse_search.h"
#include "qeff/util/check.h"

namespace qeff {

absl::optional<int64_t> QuantizeRowsByError(const QuantScheme& scheme,
                                            DType scale_dtype, DType dtype,
                                            absl::Span<const uint8_t> from,
                                            int64_t rows, int64_t cols,
                                            const QuantizedRows& to) {
  const QuantizedShape shape(scheme, rows, cols);
  const size_t source_bytes = static_cast<size_t>(cols) * DTypeBytes(dtype);
  const size_t row_bytes = static_cast<size_t>(4 * shape.row_words);
  const size_t scale_bytes = DTypeBytes(scale_dtype);
  QEFF_CHECK(from.size() == static_cast<size_t>(rows) * source_bytes);
  std::vector<float> row(static_cast<size_t>(cols));
  std::vector<uint8_t> codes(row.size());
  size_t group = 0;
  for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
    ConvertToFloat(dtype, from.subspan(r * source_bytes, source_bytes),
                   absl::MakeSpan(row));
    const auto bad = std::find_if(row.begin(), row.end(),
                                  [](float x) { return !std::isfinite(x); });
    if (bad != row.end()) {
      return static_cast<int64_t>(r) * cols + (bad - row.begin());
    }
    for (int64_t begin = 0; begin < cols; begin += shape.group_elems, ++group) {
      const size_t first = static_cast<size_t>(begin);
      const size_t size =
          static_cast<size_t>(std::min(shape.group_elems, cols - begin));
      const GroupParams params = LeastErrorParams(
          scheme, absl::MakeConstSpan(row).subspan(first, size), {},
          scale_dtype);
      for (size_t i = first; i < first + size; ++i) {
        codes[i] = QuantizeValue(row[i], params, scheme.bits);
      }
      StoreScale(params.scale, scale_dtype,
                 to.scales.data() + group * scale_bytes);
      if (!scheme.symmetric) {
        to.zeros[group] = static_cast<uint8_t>(params.zero);
      }
    }
    PackCodes(scheme.bits, codes, to.packed.subspan(r * row_bytes, row_bytes));
  }
  return absl::nullopt;
}

}  // namespace qeff
