// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/slice_weights.h"

#include <algorithm>

namespace qeff {
namespace {

// Channels of `groups`, each `width` wide.
std::vector<int64_t> Channels(absl::Span<const int64_t> groups, int64_t width) {
  std::vector<int64_t> channels;
  for (const int64_t group : groups) {
    for (int64_t i = 0; i < width; ++i) channels.push_back(group * width + i);
  }
  return channels;
}

LinearWeights Slice(const LinearWeights& from, absl::Span<const int64_t> rows,
                    absl::Span<const int64_t> cols) {
  LinearWeights to;
  to.weight = Matrix<float>(static_cast<int64_t>(rows.size()),
                            static_cast<int64_t>(cols.size()));
  for (int64_t r = 0; r < to.weight.rows(); ++r) {
    const float* source = from.weight.row(rows[static_cast<size_t>(r)]);
    float* row = to.weight.row(r);
    for (const int64_t col : cols) *row++ = source[col];
  }
  if (!from.bias.empty()) to.bias = Select(from.bias, rows);
  return to;
}

}  // namespace

Matrix<float> SelectRows(MatrixView<const float> from,
                         absl::Span<const int64_t> kept) {
  Matrix<float> to(static_cast<int64_t>(kept.size()), from.cols());
  for (int64_t r = 0; r < to.rows(); ++r) {
    std::copy_n(from.row(kept[static_cast<size_t>(r)]), from.cols(), to.row(r));
  }
  return to;
}

Matrix<float> SelectCols(MatrixView<const float> from,
                         absl::Span<const int64_t> kept) {
  Matrix<float> to(from.rows(), static_cast<int64_t>(kept.size()));
  for (int64_t r = 0; r < to.rows(); ++r) {
    float* row = to.row(r);
    for (const int64_t col : kept) *row++ = from.row(r)[col];
  }
  return to;
}

std::vector<float> Select(absl::Span<const float> from,
                          absl::Span<const int64_t> kept) {
  std::vector<float> to;
  to.reserve(kept.size());
  for (const int64_t i : kept) to.push_back(from[static_cast<size_t>(i)]);
  return to;
}

std::vector<int64_t> HeadChannels(const TransformerSpec& spec,
                                  absl::Span<const int64_t> kv_groups) {
  return Channels(kv_groups, spec.q_size() / spec.num_kv_heads);
}

std::vector<int64_t> KeyChannels(const TransformerSpec& spec,
                                 absl::Span<const int64_t> kv_groups) {
  return Channels(kv_groups, spec.head_dim);
}

NormWeights SliceNorm(const NormWeights& norm, absl::Span<const int64_t> kept) {
  NormWeights result;
  result.weight = Select(norm.weight, kept);
  if (!norm.bias.empty()) result.bias = Select(norm.bias, kept);
  return result;
}

BlockWeights SliceBlock(const TransformerSpec& spec, const StructuredPlan& plan,
                        size_t layer, const BlockWeights& weights) {
  const std::vector<int64_t>& hidden = plan.hidden;
  const std::vector<int64_t>& ffn = plan.ffn[layer];
  const std::vector<int64_t> heads = HeadChannels(spec, plan.kv_groups[layer]);
  const std::vector<int64_t> keys = KeyChannels(spec, plan.kv_groups[layer]);
  BlockWeights result;
  result.attention_norm = SliceNorm(weights.attention_norm, hidden);
  result.ffn_norm = SliceNorm(weights.ffn_norm, hidden);
  result.q_norm = weights.q_norm;  // of a head's channels
  result.k_norm = weights.k_norm;
  result.q = Slice(weights.q, heads, hidden);
  result.k = Slice(weights.k, keys, hidden);
  result.v = Slice(weights.v, keys, hidden);
  result.o = Slice(weights.o, hidden, heads);
  if (spec.gated_ffn) result.gate = Slice(weights.gate, ffn, hidden);
  result.up = Slice(weights.up, ffn, hidden);
  result.down = Slice(weights.down, hidden, ffn);
  return result;
}

}  // namespace qeff
