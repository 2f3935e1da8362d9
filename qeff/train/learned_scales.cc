// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/learned_scales.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "qeff/format/packing.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/quant/mse_search.h"
#include "qeff/transformer/vector_math.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

constexpr int64_t kRowsOfTask = 8;

// Calls body(group, first column, columns) for the groups of a row.
template <typename Body>
void ForGroups(int64_t cols, int64_t group_elems, Body body) {
  for (int64_t g = 0, begin = 0; begin < cols; ++g, begin += group_elems) {
    body(g, begin, std::min(group_elems, cols - begin));
  }
}

}  // namespace

LearnedScales::LearnedScales(const QuantScheme& scheme,
                             MatrixView<const float> weights, ThreadPool& pool)
    : scheme_(scheme) {
  QEFF_CHECK(scheme.integers() && scheme.symmetric);
  const QuantizedShape shape(scheme, weights.rows(), weights.cols());
  group_elems_ = shape.group_elems;
  first_ = Matrix<float>(shape.rows, shape.groups);
  log_factors_ = Matrix<float>(shape.rows, shape.groups);
  gradient_ = Matrix<float>(shape.rows, shape.groups);
  pool.ParallelFor(shape.rows, kRowsOfTask, [&](int64_t r, int64_t end, int) {
    for (; r < end; ++r) {
      ForGroups(weights.cols(), group_elems_,
                [&](int64_t g, int64_t begin, int64_t count) {
                  first_.row(r)[g] =
                      LeastErrorParams(
                          scheme_,
                          absl::MakeConstSpan(weights.row(r) + begin,
                                              static_cast<size_t>(count)),
                          {}, DType::kBF16)
                          .scale;
                });
    }
  });
}

GroupParams LearnedScales::ParamsOf(int64_t row, int64_t group) const {
  GroupParams params;
  params.scale = BF16ToFloat(FloatToBF16(
      first_.row(row)[group] * ExpFloat(log_factors_.row(row)[group])));
  params.inverse = 1.0f / params.scale;
  params.zero = 1 << (scheme_.bits - 1);
  return params;
}

void LearnedScales::Round(MatrixView<const float> weights,
                          MatrixView<float> values, ThreadPool& pool) const {
  pool.ParallelFor(
      weights.rows(), kRowsOfTask, [&](int64_t r, int64_t end, int) {
        for (; r < end; ++r) {
          const float* const from = weights.row(r);
          float* const to = values.row(r);
          ForGroups(weights.cols(), group_elems_,
                    [&](int64_t g, int64_t begin, int64_t count) {
                      const GroupParams params = ParamsOf(r, g);
                      for (int64_t c = begin; c < begin + count; ++c) {
                        to[c] = DequantizeValue(
                            QuantizeValue(from[c], params, scheme_.bits),
                            params.zero, params.scale);
                      }
                    });
        }
      });
}

void LearnedScales::Backward(MatrixView<const float> weights,
                             MatrixView<float> gradient, ThreadPool& pool) {
  pool.ParallelFor(
      weights.rows(), kRowsOfTask, [&](int64_t r, int64_t end, int) {
        for (; r < end; ++r) {
          const float* const w = weights.row(r);
          float* const dw = gradient.row(r);
          ForGroups(
              weights.cols(), group_elems_,
              [&](int64_t g, int64_t begin, int64_t count) {
                const GroupParams params = ParamsOf(r, g);
                const float lowest = static_cast<float>(-params.zero);
                const float highest =
                    static_cast<float>((1 << scheme_.bits) - 1 - params.zero);
                double sum = 0;
                for (int64_t c = begin; c < begin + count; ++c) {
                  const float x = w[c] * params.inverse;
                  const float code = static_cast<float>(
                      QuantizeValue(w[c], params, scheme_.bits) - params.zero);
                  // Half a step beyond the last code still rounds to it.
                  const bool inside = x > lowest - 0.5f && x < highest + 0.5f;
                  sum +=
                      static_cast<double>(dw[c]) * (inside ? code - x : code);
                  if (!inside) dw[c] = 0.0f;
                }
                gradient_.row(r)[g] =
                    static_cast<float>(sum * static_cast<double>(params.scale));
              });
        }
      });
}

void LearnedScales::Encode(MatrixView<const float> weights, int64_t begin,
                           int64_t count, std::vector<uint8_t>* packed,
                           std::vector<uint8_t>* scales) const {
  const QuantizedShape shape(scheme_, count, weights.cols());
  const size_t row_bytes = static_cast<size_t>(shape.row_words) * 4;
  const size_t scale_bytes = DTypeBytes(DType::kBF16);
  packed->assign(static_cast<size_t>(count) * row_bytes, 0);
  scales->assign(static_cast<size_t>(count * shape.groups) * scale_bytes, 0);
  std::vector<uint8_t> codes(static_cast<size_t>(weights.cols()));
  for (int64_t r = 0; r < count; ++r) {
    ForGroups(weights.cols(), group_elems_,
              [&](int64_t g, int64_t first, int64_t elems) {
                const GroupParams params = ParamsOf(begin + r, g);
                StoreScale(
                    params.scale, DType::kBF16,
                    scales->data() + static_cast<size_t>(r * shape.groups + g) *
                                         scale_bytes);
                for (int64_t c = first; c < first + elems; ++c) {
                  codes[static_cast<size_t>(c)] = QuantizeValue(
                      weights.row(begin + r)[c], params, scheme_.bits);
                }
              });
    PackCodes(scheme_.bits, codes,
              absl::MakeSpan(*packed).subspan(
                  static_cast<size_t>(r) * row_bytes, row_bytes));
  }
}

}  // namespace qeff
