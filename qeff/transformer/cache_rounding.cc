// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/cache_rounding.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "qeff/format/codebook_rows.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/transformer/for_rows.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

void RoundGroup(const CodebookFormat& format, const QuantScheme& scheme,
                float* values, int64_t count) {
  float absmax = 0;
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    finite &= std::isfinite(values[i]);
    absmax = std::max(absmax, std::abs(values[i]));
  }
  if (!finite) {
    std::fill_n(values, count, std::numeric_limits<float>::quiet_NaN());
    return;
  }
  const float scale = CodebookScale(scheme, absmax, DType::kU8);
  for (int64_t i = 0; i < count; ++i) {
    values[i] = format.values[NearestCode(format, values[i] / scale)] * scale;
  }
}

}  // namespace

void RoundCache(Codebook codebook, int64_t head_dim, MatrixView<float> x,
                ThreadPool& pool) {
  const CodebookFormat& format = FormatOf(codebook);
  QEFF_CHECK(head_dim > 0 && x.cols() % head_dim == 0 && format.e8m0);
  QuantScheme scheme;
  scheme.codebook = codebook;
  ForRows(x.rows(), x.cols(), pool, [&](int64_t begin, int64_t count) {
    for (int64_t r = begin; r < begin + count; ++r) {
      for (int64_t head = 0; head < x.cols(); head += head_dim) {
        for (int64_t i = 0; i < head_dim; i += format.group_size) {
          RoundGroup(format, scheme, x.row(r) + head + i,
                     std::min(format.group_size, head_dim - i));
        }
      }
    }
  });
}

}  // namespace qeff
