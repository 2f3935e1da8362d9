// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/block_steps.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "qeff/transformer/activation.h"
#include "qeff/transformer/for_rows.h"
#include "qeff/transformer/norm.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Rows whose sums are one run.
constexpr int64_t kRun = 64;

// Adds to `sums` what body(first row, count, sums of the run) adds to zeros.
template <typename Body>
void SumOverRows(int64_t rows, absl::Span<float> sums, ThreadPool& pool,
                 Body body) {
  const int64_t runs = (rows + kRun - 1) / kRun;
  Matrix<float> partial(runs, static_cast<int64_t>(sums.size()));
  pool.ParallelFor(runs, /*grain=*/1, [&](int64_t begin, int64_t end, int) {
    for (int64_t run = begin; run < end; ++run) {
      body(run * kRun, std::min(kRun, rows - run * kRun),
           absl::Span<float>(partial.row(run), sums.size()));
    }
  });
  for (int64_t run = 0; run < runs; ++run) {
    const float* row = partial.row(run);
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += row[i];
  }
}

template <bool kBack>
void Rotate(const RopeTable& table, absl::Span<const int64_t> lengths,
            MatrixView<float> x, ThreadPool& pool) {
  int64_t first = 0;
  for (int64_t length : lengths) {
    const auto sequence = x.Rows(first, length);
    ForRows(length, x.cols(), pool, [&](int64_t begin, int64_t count) {
      if (kBack) {
        ApplyRopeBackward(table, begin, sequence.Rows(begin, count));
      } else {
        ApplyRope(table, begin, sequence.Rows(begin, count));
      }
    });
    first += length;
  }
}

}  // namespace

AttentionOptions AttentionOf(const TransformerSpec& spec,
                             absl::Span<const float> alibi) {
  AttentionOptions options;
  options.num_heads = spec.num_heads;
  options.num_kv_heads = spec.num_kv_heads;
  options.head_dim = spec.head_dim;
  options.scale = static_cast<float>(spec.attention_scale);
  options.sliding_window = spec.sliding_window;
  options.alibi = alibi;
  return options;
}

std::vector<float> AlibiSlopesAsFloat(const TransformerSpec& spec) {
  if (spec.position != PositionKind::kAlibi) return {};
  const std::vector<double> slopes = AlibiSlopes(spec);
  return {slopes.begin(), slopes.end()};
}

void ApplyNorm(const TransformerSpec& spec, const NormWeights& norm,
               MatrixView<const float> x, MatrixView<float> y,
               ThreadPool& pool) {
  ForRows(x.rows(), x.cols(), pool, [&](int64_t begin, int64_t count) {
    if (spec.norm == NormKind::kRmsNorm) {
      RmsNorm(x.Rows(begin, count), norm.weight, spec.norm_epsilon,
              y.Rows(begin, count));
    } else {
      LayerNorm(x.Rows(begin, count), norm.weight, norm.bias, spec.norm_epsilon,
                y.Rows(begin, count));
    }
  });
}

void NormBackward(const TransformerSpec& spec, const NormWeights& norm,
                  MatrixView<const float> x, MatrixView<const float> dy,
                  MatrixView<float> dx, NormWeights& gradient,
                  ThreadPool& pool) {
  QEFF_CHECK(gradient.weight.size() == norm.weight.size());
  QEFF_CHECK(gradient.bias.size() == norm.bias.size());
  // Those of the weights, then those of the biases.
  const size_t weights = norm.weight.size();
  std::vector<float> sums(weights + norm.bias.size());
  SumOverRows(
      x.rows(), absl::MakeSpan(sums), pool,
      [&](int64_t begin, int64_t count, absl::Span<float> run) {
        const auto in = x.Rows(begin, count);
        const auto from = dy.Rows(begin, count);
        const auto to = dx.Rows(begin, count);
        if (spec.norm == NormKind::kRmsNorm) {
          RmsNormBackward(in, norm.weight, spec.norm_epsilon, from, to, run);
        } else {
          LayerNormBackward(in, norm.weight, spec.norm_epsilon, from, to,
                            run.first(weights), run.subspan(weights));
        }
      });
  for (size_t i = 0; i < weights; ++i) gradient.weight[i] += sums[i];
  for (size_t i = weights; i < sums.size(); ++i) {
    gradient.bias[i - weights] += sums[i];
  }
}

void NormHeads(const TransformerSpec& spec, const NormWeights& norm,
               MatrixView<const float> x, MatrixView<float> y,
               ThreadPool& pool) {
  ForRows(x.rows(), x.cols(), pool, [&](int64_t begin, int64_t count) {
    for (int64_t c = 0; c < x.cols(); c += spec.head_dim) {
      RmsNorm(x.Rows(begin, count).Cols(c, spec.head_dim), norm.weight,
              spec.norm_epsilon, y.Rows(begin, count).Cols(c, spec.head_dim));
    }
  });
}

void NormHeadsBackward(const TransformerSpec& spec, const NormWeights& norm,
                       MatrixView<const float> x, MatrixView<float> dx,
                       NormWeights& gradient, ThreadPool& pool) {
  SumOverRows(x.rows(), absl::MakeSpan(gradient.weight), pool,
              [&](int64_t begin, int64_t count, absl::Span<float> run) {
                for (int64_t c = 0; c < x.cols(); c += spec.head_dim) {
                  const auto d = dx.Rows(begin, count).Cols(c, spec.head_dim);
                  RmsNormBackward(x.Rows(begin, count).Cols(c, spec.head_dim),
                                  norm.weight, spec.norm_epsilon, d, d, run);
                }
              });
}

void RotateSequences(const RopeTable& table, absl::Span<const int64_t> lengths,
                     MatrixView<float> x, ThreadPool& pool) {
  Rotate<false>(table, lengths, x, pool);
}

void RotateSequencesBackward(const RopeTable& table,
                             absl::Span<const int64_t> lengths,
                             MatrixView<float> dx, ThreadPool& pool) {
  Rotate<true>(table, lengths, dx, pool);
}

void CopyRows(MatrixView<const float> x, MatrixView<float> y,
              ThreadPool& pool) {
  QEFF_CHECK(y.rows() == x.rows() && y.cols() == x.cols());
  ForRows(x.rows(), x.cols(), pool, [&](int64_t begin, int64_t count) {
    for (int64_t r = begin; r < begin + count; ++r) {
      std::copy_n(x.row(r), x.cols(), y.row(r));
    }
  });
}

void AddRows(MatrixView<const float> x, MatrixView<float> y, ThreadPool& pool) {
  ForRows(x.rows(), x.cols(), pool, [&](int64_t begin, int64_t count) {
    AddTo(y.Rows(begin, count), x.Rows(begin, count));
  });
}

}  // namespace qeff
