// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/model_ends.h"

#include <algorithm>
#include <vector>

#include "qeff/transformer/block_steps.h"
#include "qeff/transformer/for_rows.h"
#include "qeff/transformer/linear.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// The position of each token in its sequence.
std::vector<int64_t> Positions(absl::Span<const int64_t> lengths,
                               int64_t tokens) {
  std::vector<int64_t> positions;
  for (int64_t length : lengths) {
    QEFF_CHECK(length >= 0);
    for (int64_t i = 0; i < length; ++i) positions.push_back(i);
  }
  QEFF_CHECK(static_cast<int64_t>(positions.size()) == tokens);
  return positions;
}

void CheckIds(absl::Span<const int32_t> ids, int64_t vocab) {
  for (int32_t id : ids) QEFF_CHECK(id >= 0 && id < vocab);
}

void CheckPositions(const std::vector<int64_t>& positions, int64_t rows) {
  for (int64_t position : positions) QEFF_CHECK(position < rows);
}

void AddRow(const float* from, int64_t count, float* to) {
  for (int64_t c = 0; c < count; ++c) to[c] += from[c];
}

}  // namespace

void EmbedTokens(MatrixView<const float> tokens,
                 MatrixView<const float> positions,
                 absl::Span<const int64_t> lengths,
                 absl::Span<const int32_t> ids, MatrixView<float> x,
                 ThreadPool& pool) {
  const int64_t cols = x.cols();
  const bool learned = positions.rows() > 0;
  QEFF_CHECK(static_cast<int64_t>(ids.size()) == x.rows());
  QEFF_CHECK(tokens.cols() == cols && (!learned || positions.cols() == cols));
  CheckIds(ids, tokens.rows());
  const std::vector<int64_t> at = Positions(lengths, x.rows());
  if (learned) CheckPositions(at, positions.rows());
  ForRows(x.rows(), cols, pool, [&](int64_t begin, int64_t count) {
    for (int64_t r = begin; r < begin + count; ++r) {
      const size_t i = static_cast<size_t>(r);
      std::copy_n(tokens.row(ids[i]), cols, x.row(r));
      if (learned) AddRow(positions.row(at[i]), cols, x.row(r));
    }
  });
}

void EmbedTokensBackward(absl::Span<const int64_t> lengths,
                         absl::Span<const int32_t> ids,
                         MatrixView<const float> dx, MatrixView<float> dtokens,
                         MatrixView<float> dpositions, ThreadPool& pool) {
  const int64_t cols = dx.cols();
  const bool learned = dpositions.rows() > 0;
  QEFF_CHECK(static_cast<int64_t>(ids.size()) == dx.rows());
  QEFF_CHECK(dtokens.cols() == cols && (!learned || dpositions.cols() == cols));
  CheckIds(ids, dtokens.rows());
  const std::vector<int64_t> at = Positions(lengths, dx.rows());
  if (learned) CheckPositions(at, dpositions.rows());
  // Threads share columns, since rows of the tables occur again.
  constexpr int64_t kCols = 64;
  pool.ParallelFor((cols + kCols - 1) / kCols, /*grain=*/1,
                   [&](int64_t begin, int64_t end, int) {
                     const int64_t first = begin * kCols;
                     const int64_t count = std::min(end * kCols, cols) - first;
                     for (int64_t r = 0; r < dx.rows(); ++r) {
                       const size_t i = static_cast<size_t>(r);
                       const float* from = dx.row(r) + first;
                       AddRow(from, count, dtokens.row(ids[i]) + first);
                       if (learned)
                         AddRow(from, count, dpositions.row(at[i]) + first);
                     }
                   });
}

void LmHeadForward(const TransformerSpec& spec, const NormWeights& norm,
                   MatrixView<const float> table, MatrixView<const float> x,
                   MatrixView<float> hidden, MatrixView<float> logits,
                   ThreadPool& pool, SgemmScratch& scratch) {
  ApplyNorm(spec, norm, x, hidden, pool);
  ApplyLinear(hidden, {table, {}}, logits, pool, scratch);
}

void LmHeadBackward(const TransformerSpec& spec, const NormWeights& norm,
                    MatrixView<const float> table, MatrixView<const float> x,
                    MatrixView<const float> hidden,
                    MatrixView<const float> dlogits, MatrixView<float> dx,
                    NormWeights& dnorm, MatrixView<float> dtable,
                    ThreadPool& pool, SgemmScratch& scratch) {
  LinearWeightsBackward(hidden, dlogits, {dtable, {}}, pool, scratch);
  LinearInputBackward(dlogits, table, SgemmUpdate::kSet, dx, pool, scratch);
  NormBackward(spec, norm, x, dx, dx, dnorm, pool);
}

}  // namespace qeff
