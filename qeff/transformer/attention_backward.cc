// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/attention_backward.h"

#include <algorithm>
#include <cstddef>
#include <limits>

#include "qeff/transformer/vector_math.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"

namespace qeff {

namespace {

// Queries whose scores are in memory at once. Fewer pack the keys more often,
// more compute more scores that the mask takes away.
constexpr int64_t kQueryTile = 64;

// Multiplications below which waking another thread does not pay.
constexpr int64_t kMinWork = int64_t{1} << 15;

struct Sequence {
  int64_t begin;  // first row
  int64_t length;
};

// What the tasks share.
struct Problem {
  const AttentionOptions& options;
  MatrixView<const float> q, k, v, dout;
  MatrixView<float> dq, dk, dv;
};

// Queries [first, first + count) of a head of a sequence and the keys that any
// of them sees, [lowest, first + count), all counted in the sequence.
struct Tile {
  int64_t head;
  int64_t first;
  int64_t count;
  int64_t lowest;
  int64_t keys() const { return first + count - lowest; }
};

// to = from^T.
void Transpose(MatrixView<const float> from, MatrixView<float> to) {
  constexpr int64_t kRun = 16;  // rows of `to` whose lines stay in L1
  for (int64_t c = 0; c < from.cols(); c += kRun) {
    const int64_t count = std::min(kRun, from.cols() - c);
    for (int64_t r = 0; r < from.rows(); ++r) {
      const float* in = from.row(r) + c;
      float* out = to.row(c) + r;
      for (int64_t i = 0; i < count; ++i) out[i * to.stride_elems()] = in[i];
    }
  }
}

// c = a b, or c += a b; `a` may be meant transposed.
void Multiply(MatrixView<const float> a, bool a_transposed,
              MatrixView<const float> b, SgemmUpdate update,
              MatrixView<float> c, SgemmScratch& scratch) {
  SgemmArgs args;
  args.a = a;
  args.a_transposed = a_transposed;
  args.b = b;
  args.c = c;
  args.update = update;
  SgemmOnThisThread(args, scratch);
}

// Reductions run in this many interleaved parts, which vectorize.
constexpr int64_t kParts = 16;

float SumOfParts(const float (&parts)[kParts]) {
  float sums[kParts];
  std::copy(parts, parts + kParts, sums);
  for (int64_t width = kParts / 2; width > 0; width /= 2) {
    for (int64_t p = 0; p < width; ++p) sums[p] += sums[p + width];
  }
  return sums[0];
}

// Tokens from key j of `count` to the query, which is the last.
inline float Distance(int64_t count, int64_t j) {
  return static_cast<float>(static_cast<int32_t>(count - 1 - j));
}

// x becomes softmax(scale x - slope * distance), with what is behind it up to a
// multiple of kParts becoming 0.
QEFF_VECTOR_CLONES void Softmax(float scale, float slope, int64_t count,
                                float* __restrict x) {
  // Whole vectors: what is behind the last has no weight.
  const int64_t padded = RoundUp(count, kParts);
  std::fill(x + count, x + padded, -std::numeric_limits<float>::infinity());
  for (int64_t j = 0; j < padded; ++j) {
    x[j] = x[j] * scale - slope * Distance(count, j);
  }
  float maxima[kParts], sums[kParts] = {};
  std::fill(maxima, maxima + kParts, x[0]);
  for (int64_t j = 0; j < padded; j += kParts) {
    for (int64_t p = 0; p < kParts; ++p) {
      maxima[p] = x[j + p] > maxima[p] ? x[j + p] : maxima[p];
    }
  }
  const float maximum = *std::max_element(maxima, maxima + kParts);
  for (int64_t j = 0; j < padded; ++j) x[j] = ExpFloat(x[j] - maximum);
  for (int64_t j = 0; j < padded; j += kParts) {
    for (int64_t p = 0; p < kParts; ++p) sums[p] += x[j + p];
  }
  const float factor = 1.0f / SumOfParts(sums);
  for (int64_t j = 0; j < padded; ++j) x[j] *= factor;
}

// slopes = scale * weights * (slopes - sum(weights * slopes)).
QEFF_VECTOR_CLONES void SoftmaxBackward(float scale, int64_t count,
                                        const float* __restrict weights,
                                        float* __restrict slopes) {
  float parts[kParts] = {};
  int64_t j = 0;
  for (; j + kParts <= count; j += kParts) {
    for (int64_t p = 0; p < kParts; ++p) {
      parts[p] += weights[j + p] * slopes[j + p];
    }
  }
  for (; j < count; ++j) parts[0] += weights[j] * slopes[j];
  const float mean = SumOfParts(parts);
  for (j = 0; j < count; ++j) {
    slopes[j] = (weights[j] * scale) * (slopes[j] - mean);
  }
}

// Columns of `tile` that query `i` of the sequence sees.
struct Seen {
  int64_t begin;
  int64_t end;
};

Seen SeenBy(const AttentionOptions& options, const Tile& tile, int64_t i) {
  const int64_t lowest =
      options.sliding_window == 0
          ? 0
          : std::max<int64_t>(0, i - options.sliding_window + 1);
  return {lowest - tile.lowest, i + 1 - tile.lowest};
}

void ClearOutside(const Seen& seen, int64_t cols, float* row) {
  std::fill(row, row + seen.begin, 0.0f);
  std::fill(row + seen.end, row + cols, 0.0f);
}

// One key-value head of one sequence, on one thread.
class HeadTask {
 public:
  HeadTask(const Problem& problem, const Sequence& sequence, int64_t kv_head,
           AttentionScratch::Thread& scratch)
      : problem_(problem),
        options_(problem.options),
        sequence_(sequence),
        kv_head_(kv_head),
        scratch_(scratch) {}

  void Backward() {
    PrepareKeys();
    values_ = scratch_.values.Get(options_.head_dim, sequence_.length);
    Transpose(Head(problem_.v, kv_head_), values_);
    for (const auto& gradient :
         {Head(problem_.dk, kv_head_), Head(problem_.dv, kv_head_)}) {
      for (int64_t r = 0; r < gradient.rows(); ++r) {
        std::fill_n(gradient.row(r), gradient.cols(), 0.0f);
      }
    }
    ForTiles([&](const Tile& tile) { BackwardTile(tile); });
  }

 private:
  // Columns of a head in the rows of the sequence.
  template <typename T>
  MatrixView<T> Head(MatrixView<T> x, int64_t head) const {
    return x.Rows(sequence_.begin, sequence_.length)
        .Cols(head * options_.head_dim, options_.head_dim);
  }
  template <typename T>
  MatrixView<T> Queries(MatrixView<T> x, const Tile& tile) const {
    return Head(x, tile.head).Rows(tile.first, tile.count);
  }
  template <typename T>
  MatrixView<T> Keys(MatrixView<T> x, const Tile& tile) const {
    return Head(x, kv_head_).Rows(tile.lowest, tile.keys());
  }

  // Most keys that a tile sees.
  int64_t MostKeys() const {
    return options_.sliding_window == 0
               ? sequence_.length
               : std::min(sequence_.length,
                          options_.sliding_window + kQueryTile);
  }

  // A matrix of a tile, of queries and keys, with room behind each row.
  MatrixView<float> TileOf(MatrixBuffer& buffer, const Tile& tile) const {
    return buffer.Get(kQueryTile, MostKeys() + kParts)
        .Rows(0, tile.count)
        .Cols(0, tile.keys());
  }

  // Transposed once: each tile multiplies with them.
  void PrepareKeys() {
    keys_ = scratch_.keys.Get(options_.head_dim, sequence_.length);
    Transpose(Head(problem_.k, kv_head_), keys_);
  }

  template <typename Body>
  void ForTiles(Body body) const {
    const int64_t group = options_.num_heads / options_.num_kv_heads;
    for (int64_t h = kv_head_ * group; h < (kv_head_ + 1) * group; ++h) {
      for (int64_t i = 0; i < sequence_.length; i += kQueryTile) {
        Tile tile = {h, i, std::min(kQueryTile, sequence_.length - i), 0};
        tile.lowest = SeenBy(options_, tile, i).begin;
        body(tile);
      }
    }
  }

  // The weights of the softmax [queries, keys], 0 where not seen.
  MatrixView<float> Weights(const Tile& tile) {
    const MatrixView<float> weights = TileOf(scratch_.weights, tile);
    Multiply(Queries(problem_.q, tile), false,
             keys_.Cols(tile.lowest, tile.keys()), SgemmUpdate::kSet, weights,
             scratch_.products);
    const float slope = options_.alibi.empty()
                            ? 0.0f
                            : options_.alibi[static_cast<size_t>(tile.head)];
    for (int64_t i = 0; i < tile.count; ++i) {
      const Seen seen = SeenBy(options_, tile, tile.first + i);
      float* row = weights.row(i);
      Softmax(options_.scale, slope, seen.end - seen.begin, row + seen.begin);
      ClearOutside(seen, weights.cols(), row);
    }
    return weights;
  }

  void BackwardTile(const Tile& tile) {
    const MatrixView<float> weights = Weights(tile);
    const MatrixView<const float> dout = Queries(problem_.dout, tile);
    // The gradient in the weights, then in the scores without their scale.
    const MatrixView<float> slopes = TileOf(scratch_.slopes, tile);
    Multiply(dout, false, values_.Cols(tile.lowest, tile.keys()),
             SgemmUpdate::kSet, slopes, scratch_.products);
    for (int64_t i = 0; i < tile.count; ++i) {
      const Seen seen = SeenBy(options_, tile, tile.first + i);
      SoftmaxBackward(options_.scale, seen.end - seen.begin,
                      weights.row(i) + seen.begin, slopes.row(i) + seen.begin);
      ClearOutside(seen, slopes.cols(), slopes.row(i));
    }
    Multiply(weights, true, dout, SgemmUpdate::kAdd, Keys(problem_.dv, tile),
             scratch_.products);
    Multiply(slopes, true, Queries(problem_.q, tile), SgemmUpdate::kAdd,
             Keys(problem_.dk, tile), scratch_.products);
    Multiply(slopes, false, Keys(problem_.k, tile), SgemmUpdate::kSet,
             Queries(problem_.dq, tile), scratch_.products);
  }

  const Problem& problem_;
  const AttentionOptions& options_;
  const Sequence sequence_;
  const int64_t kv_head_;
  AttentionScratch::Thread& scratch_;
  MatrixView<float> keys_;    // [head_dim, length]
  MatrixView<float> values_;  // the same
};

std::vector<Sequence> Check(const Problem& problem,
                            absl::Span<const int64_t> lengths) {
  const AttentionOptions& options = problem.options;
  const int64_t q_size = options.num_heads * options.head_dim;
  const int64_t kv_size = options.num_kv_heads * options.head_dim;
  QEFF_CHECK(options.num_kv_heads >= 1 &&
             options.num_heads % options.num_kv_heads == 0);
  QEFF_CHECK(options.scale > 0);
  QEFF_CHECK(options.alibi.empty() ||
             static_cast<int64_t>(options.alibi.size()) == options.num_heads);
  std::vector<Sequence> sequences;
  int64_t rows = 0;
  for (int64_t length : lengths) {
    QEFF_CHECK(length >= 1);
    sequences.push_back({rows, length});
    rows += length;
  }
  const auto has_shape = [&](MatrixView<const float> x, int64_t cols) {
    return x.rows() == rows && x.cols() == cols;
  };
  if (rows == 0) return sequences;
  QEFF_CHECK(has_shape(problem.q, q_size));
  QEFF_CHECK(has_shape(problem.k, kv_size) && has_shape(problem.v, kv_size));
  QEFF_CHECK(has_shape(problem.dout, q_size) && has_shape(problem.dq, q_size));
  QEFF_CHECK(has_shape(problem.dk, kv_size) && has_shape(problem.dv, kv_size));
  return sequences;
}

// Calls body(task) for each key-value head of each sequence.
template <typename Body>
void RunTasks(const Problem& problem, absl::Span<const int64_t> lengths,
              ThreadPool& pool, AttentionScratch& scratch, Body body) {
  const std::vector<Sequence> sequences = Check(problem, lengths);
  if (sequences.empty()) return;
  const int64_t heads = problem.options.num_kv_heads;
  const int64_t shortest = *std::min_element(lengths.begin(), lengths.end());
  const int64_t work = problem.options.num_heads / heads * shortest * shortest *
                       problem.options.head_dim;
  AttentionScratch::Thread* threads = scratch.Get(pool.num_threads());
  pool.ParallelFor(
      static_cast<int64_t>(sequences.size()) * heads,
      std::max<int64_t>(1, kMinWork / work),
      [&](int64_t begin, int64_t end, int thread) {
        for (int64_t i = begin; i < end; ++i) {
          body(HeadTask(problem, sequences[static_cast<size_t>(i / heads)],
                        i % heads, threads[thread]));
        }
      });
}

}  // namespace

void CausalAttentionBackward(const AttentionOptions& options,
                             absl::Span<const int64_t> lengths,
                             MatrixView<const float> q,
                             MatrixView<const float> k,
                             MatrixView<const float> v,
                             MatrixView<const float> dout, MatrixView<float> dq,
                             MatrixView<float> dk, MatrixView<float> dv,
                             ThreadPool& pool, AttentionScratch& scratch) {
  const Problem problem = {options, q, k, v, dout, dq, dk, dv};
  RunTasks(problem, lengths, pool, scratch,
           [](HeadTask task) { task.Backward(); });
}

}  // namespace qeff
