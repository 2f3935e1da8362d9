// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/attention.h"

#include <algorithm>
#include <vector>

#include "qeff/transformer/vector_math.h"
#include "qeff/util/aligned.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Queries of one task: few enough to share work evenly between threads.
constexpr int64_t kQueryTile = 32;

// Multiplications below which waking another thread does not pay.
constexpr int64_t kMinWork = int64_t{1} << 15;

struct Sequence {
  int64_t begin;  // first row
  int64_t length;
};

// Queries [first, first + count) of one head of one sequence.
struct Task {
  Sequence sequence;
  int64_t head;
  int64_t first;
  int64_t count;
};

// The keys of all sequences, each head of each sequence as [head_dim, length]:
// scores then are sums of rows, which vectorize without changing their order.
class TransposedKeys {
 public:
  TransposedKeys(const AttentionOptions& options,
                 absl::Span<const Sequence> sequences,
                 MatrixView<const float> k, ThreadPool& pool)
      : head_dim_(options.head_dim),
        kv_size_(k.cols()),
        values_(static_cast<size_t>(k.rows() * k.cols())) {
    const int64_t heads = options.num_kv_heads;
    pool.ParallelFor(static_cast<int64_t>(sequences.size()) * heads,
                     /*grain=*/1, [&](int64_t begin, int64_t end, int) {
                       for (int64_t i = begin; i < end; ++i) {
                         Fill(sequences[static_cast<size_t>(i / heads)],
                              i % heads, k);
                       }
                     });
  }

  // Element d of all keys of a sequence begins at Head(...) + d * length.
  const float* Head(const Sequence& sequence, int64_t kv_head) const {
    return values_.data() + Offset(sequence, kv_head);
  }

 private:
  int64_t Offset(const Sequence& sequence, int64_t kv_head) const {
    return sequence.begin * kv_size_ + kv_head * head_dim_ * sequence.length;
  }

  void Fill(const Sequence& sequence, int64_t kv_head,
            MatrixView<const float> k) {
    float* out = values_.data() + Offset(sequence, kv_head);
    for (int64_t j = 0; j < sequence.length; ++j) {
      const float* key = k.row(sequence.begin + j) + kv_head * head_dim_;
      for (int64_t d = 0; d < head_dim_; ++d) {
        out[d * sequence.length + j] = key[d];
      }
    }
  }

  int64_t head_dim_;
  int64_t kv_size_;
  AlignedArray<float> values_;
};

// scores[j] = sum over d of q[d] * keys[d * stride + j].
QEFF_VECTOR_CLONES void Scores(const float* q, const float* keys,
                               int64_t stride, int64_t head_dim, int64_t count,
                               float* __restrict scores) {
  std::fill(scores, scores + count, 0.0f);
  int64_t d = 0;
  for (; d + 4 <= head_dim; d += 4) {
    const float q0 = q[d], q1 = q[d + 1], q2 = q[d + 2], q3 = q[d + 3];
    const float* k0 = keys + d * stride;
    const float *k1 = k0 + stride, *k2 = k1 + stride, *k3 = k2 + stride;
    for (int64_t j = 0; j < count; ++j) {
      scores[j] =
          (((scores[j] + q0 * k0[j]) + q1 * k1[j]) + q2 * k2[j]) + q3 * k3[j];
    }
  }
  for (; d < head_dim; ++d) {
    const float q0 = q[d];
    const float* k0 = keys + d * stride;
    for (int64_t j = 0; j < count; ++j) scores[j] += q0 * k0[j];
  }
}

// Reductions run in this many interleaved parts, which vectorize.
constexpr int64_t kParts = 8;

QEFF_VECTOR_CLONES float Maximum(int64_t count, const float* scores) {
  float parts[kParts];
  std::fill(parts, parts + kParts, scores[0]);
  int64_t j = 0;
  for (; j + kParts <= count; j += kParts) {
    for (int64_t p = 0; p < kParts; ++p) {
      parts[p] = scores[j + p] > parts[p] ? scores[j + p] : parts[p];
    }
  }
  for (; j < count; ++j) parts[0] = std::max(parts[0], scores[j]);
  return *std::max_element(parts, parts + kParts);
}

// Replaces scores by e^(score - maximum) and returns their sum, which is at
// least 1 (or NaN).
QEFF_VECTOR_CLONES float Exponentials(int64_t count, float* scores) {
  const float maximum = Maximum(count, scores);
  for (int64_t j = 0; j < count; ++j) {
    scores[j] = ExpFloat(scores[j] - maximum);
  }
  float parts[kParts] = {};
  int64_t j = 0;
  for (; j + kParts <= count; j += kParts) {
    for (int64_t p = 0; p < kParts; ++p) parts[p] += scores[j + p];
  }
  for (; j < count; ++j) parts[0] += scores[j];
  return ((parts[0] + parts[1]) + (parts[2] + parts[3])) +
         ((parts[4] + parts[5]) + (parts[6] + parts[7]));
}

// out[d] = factor * sum over j of weights[j] * values[j * stride + d].
QEFF_VECTOR_CLONES void WeightedSum(const float* weights, const float* values,
                                    int64_t stride, int64_t count,
                                    int64_t head_dim, float factor,
                                    float* __restrict out) {
  std::fill(out, out + head_dim, 0.0f);
  int64_t j = 0;
  for (; j + 4 <= count; j += 4) {
    const float w0 = weights[j], w1 = weights[j + 1], w2 = weights[j + 2],
                w3 = weights[j + 3];
    const float* v0 = values + j * stride;
    const float *v1 = v0 + stride, *v2 = v1 + stride, *v3 = v2 + stride;
    for (int64_t d = 0; d < head_dim; ++d) {
      out[d] = (((out[d] + w0 * v0[d]) + w1 * v1[d]) + w2 * v2[d]) + w3 * v3[d];
    }
  }
  for (; j < count; ++j) {
    const float w0 = weights[j];
    const float* v0 = values + j * stride;
    for (int64_t d = 0; d < head_dim; ++d) out[d] += w0 * v0[d];
  }
  for (int64_t d = 0; d < head_dim; ++d) out[d] *= factor;
}

std::vector<Task> MakeTasks(absl::Span<const Sequence> sequences,
                            int64_t num_heads) {
  std::vector<Task> tasks;
  for (const Sequence& sequence : sequences) {
    for (int64_t head = 0; head < num_heads; ++head) {
      for (int64_t i = 0; i < sequence.length; i += kQueryTile) {
        tasks.push_back(
            {sequence, head, i, std::min(kQueryTile, sequence.length - i)});
      }
    }
  }
  return tasks;
}

void RunTask(const AttentionOptions& options, const Task& task,
             MatrixView<const float> q, const TransposedKeys& keys,
             MatrixView<const float> v, MatrixView<float> out) {
  const int64_t head_dim = options.head_dim;
  const int64_t column = task.head * head_dim;
  const int64_t kv_head =
      task.head / (options.num_heads / options.num_kv_heads);
  const float* head_keys = keys.Head(task.sequence, kv_head);
  std::vector<float> scores(static_cast<size_t>(task.first + task.count));
  for (int64_t i = task.first; i < task.first + task.count; ++i) {
    const int64_t lowest =
        options.sliding_window == 0
            ? 0
            : std::max<int64_t>(0, i - options.sliding_window + 1);
    const int64_t count = i + 1 - lowest;
    const int64_t row = task.sequence.begin + i;
    Scores(q.row(row) + column, head_keys + lowest, task.sequence.length,
           head_dim, count, scores.data());
    for (int64_t j = 0; j < count; ++j) {
      scores[static_cast<size_t>(j)] *= options.scale;
    }
    if (!options.alibi.empty()) {
      const float slope = options.alibi[static_cast<size_t>(task.head)];
      for (int64_t j = 0; j < count; ++j) {
        scores[static_cast<size_t>(j)] +=
            slope * static_cast<float>(lowest + j - i);
      }
    }
    const float sum = Exponentials(count, scores.data());
    WeightedSum(
        scores.data(), v.row(task.sequence.begin + lowest) + kv_head * head_dim,
        v.stride_elems(), count, head_dim, 1.0f / sum, out.row(row) + column);
  }
}

}  // namespace

void CausalAttention(const AttentionOptions& options,
                     absl::Span<const int64_t> lengths,
                     MatrixView<const float> q, MatrixView<const float> k,
                     MatrixView<const float> v, MatrixView<float> out,
                     ThreadPool& pool) {
  const int64_t q_size = options.num_heads * options.head_dim;
  const int64_t kv_size = options.num_kv_heads * options.head_dim;
  QEFF_CHECK(options.num_kv_heads >= 1 &&
             options.num_heads % options.num_kv_heads == 0);
  QEFF_CHECK(q.cols() == q_size && out.cols() == q_size);
  QEFF_CHECK(k.cols() == kv_size && v.cols() == kv_size);
  QEFF_CHECK(k.rows() == q.rows() && v.rows() == q.rows() &&
             out.rows() == q.rows());
  QEFF_CHECK(options.alibi.empty() ||
             static_cast<int64_t>(options.alibi.size()) == options.num_heads);
  std::vector<Sequence> sequences;
  int64_t rows = 0;
  for (int64_t length : lengths) {
    QEFF_CHECK(length >= 1);
    sequences.push_back({rows, length});
    rows += length;
  }
  QEFF_CHECK(rows == q.rows());
  if (rows == 0) return;

  const TransposedKeys keys(options, sequences, k, pool);
  const std::vector<Task> tasks = MakeTasks(sequences, options.num_heads);
  // A short sequence gives tasks that are not worth waking a thread each.
  const int64_t shortest_work =
      kQueryTile * options.head_dim *
      *std::min_element(lengths.begin(), lengths.end());
  const int64_t grain = std::max<int64_t>(1, kMinWork / shortest_work);
  pool.ParallelFor(static_cast<int64_t>(tasks.size()), grain,
                   [&](int64_t begin, int64_t end, int) {
                     for (int64_t i = begin; i < end; ++i) {
                       RunTask(options, tasks[static_cast<size_t>(i)], q, keys,
                               v, out);
                     }
                   });
}

}  // namespace qeff
