// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/attention.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "qeff/kernels/attention/attend.h"
#include "qeff/kernels/attention/kv_layout.h"
#include "qeff/kernels/attention/store_kv.h"
#include "qeff/util/aligned.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Queries of one task, heads of a group counted: few enough to share work
// evenly between threads, and a multiple of what Attend reads keys once for.
constexpr int64_t kQueriesOfTask = 384;

// Multiplications below which waking another thread does not pay.
constexpr int64_t kMinWork = int64_t{1} << 15;

struct Sequence {
  int64_t begin;  // first row
  int64_t length;
};

// Tokens [first, first + count) of one key-value head of one sequence.
struct Task {
  size_t sequence;
  int64_t kv_head;
  int64_t first;
  int64_t count;
};

// Keys and values of all heads and sequences as Attend reads them.
class Regions {
 public:
  Regions(const AttentionOptions& options, const KvLayout& layout,
          const std::vector<Sequence>& sequences)
      : layout_(layout), heads_(options.num_kv_heads), sequences_(sequences) {
    CheckedU64 bytes = 0;
    for (const Sequence& sequence : sequences) {
      starts_.push_back(static_cast<size_t>(bytes.value()));
      bytes = bytes + layout.RegionBytes(sequence.length) * heads_;
    }
    bytes_ = AlignedArray<uint8_t>(static_cast<size_t>(bytes.value()));
  }

  void Fill(MatrixView<const float> k, MatrixView<const float> v,
            ThreadPool& pool) {
    pool.ParallelFor(static_cast<int64_t>(sequences_.size()) * heads_,
                     /*grain=*/1, [&](int64_t i, int64_t end, int /*thread*/) {
                       for (; i < end; ++i) {
                         const size_t s = static_cast<size_t>(i / heads_);
                         const Sequence& sequence = sequences_[s];
                         const int64_t column = i % heads_ * layout_.head_dim();
                         const auto rows = [&](MatrixView<const float> m) {
                           return RowsOf(m.Rows(sequence.begin, sequence.length)
                                             .Cols(column, layout_.head_dim()));
                         };
                         StoreKv(layout_, Region(s, i % heads_), 0,
                                 sequence.length, rows(k), k.stride_elems(),
                                 rows(v), v.stride_elems());
                       }
                     });
  }

  absl::Span<uint8_t> Region(size_t sequence, int64_t kv_head) {
    const size_t size = static_cast<size_t>(
        layout_.RegionBytes(sequences_[sequence].length).value());
    return bytes_.span().subspan(
        starts_[sequence] + static_cast<size_t>(kv_head) * size, size);
  }

  // From the first element of a view to its last.
  template <typename T>
  static absl::Span<T> RowsOf(MatrixView<T> m) {
    return absl::Span<T>(
        m.data(),
        static_cast<size_t>((m.rows() - 1) * m.stride_elems() + m.cols()));
  }

 private:
  const KvLayout& layout_;
  const int64_t heads_;
  const std::vector<Sequence>& sequences_;
  std::vector<size_t> starts_;  // of the sequences' heads
  AlignedArray<uint8_t> bytes_;
};

// Tokens of a task.
int64_t TokensOfTask(const AttentionOptions& options) {
  const int64_t group = options.num_heads / options.num_kv_heads;
  return std::max<int64_t>(1, kQueriesOfTask / group);
}

std::vector<Task> MakeTasks(const AttentionOptions& options,
                            const std::vector<Sequence>& sequences) {
  const int64_t tokens = TokensOfTask(options);
  std::vector<Task> tasks;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const int64_t length = sequences[s].length;
    for (int64_t head = 0; head < options.num_kv_heads; ++head) {
      for (int64_t i = 0; i < length; i += tokens) {
        tasks.push_back({s, head, i, std::min(tokens, length - i)});
      }
    }
  }
  return tasks;
}

std::vector<Sequence> SequencesOf(absl::Span<const int64_t> lengths) {
  std::vector<Sequence> sequences;
  int64_t rows = 0;
  for (const int64_t length : lengths) {
    QEFF_CHECK(length >= 1);
    sequences.push_back({rows, length});
    rows += length;
  }
  return sequences;
}

void CheckShapes(const AttentionOptions& options,
                 absl::Span<const int64_t> lengths, MatrixView<const float> q,
                 MatrixView<const float> k, MatrixView<const float> v,
                 MatrixView<const float> out) {
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
  int64_t rows = 0;
  for (const int64_t length : lengths) rows += length;
  QEFF_CHECK(rows == q.rows());
}

// Ranges of tasks: a short sequence gives tasks that are not worth waking a
// thread each.
int64_t GrainOf(const AttentionOptions& options,
                absl::Span<const int64_t> lengths) {
  const int64_t shortest = std::min(
      *std::min_element(lengths.begin(), lengths.end()), TokensOfTask(options));
  const int64_t work = shortest * shortest * options.head_dim *
                       (options.num_heads / options.num_kv_heads);
  return std::max<int64_t>(1, kMinWork / work);
}

}  // namespace

void CausalAttention(const AttentionOptions& options,
                     absl::Span<const int64_t> lengths,
                     MatrixView<const float> q, MatrixView<const float> k,
                     MatrixView<const float> v, MatrixView<float> out,
                     ThreadPool& pool) {
  CheckShapes(options, lengths, q, k, v, out);
  const std::vector<Sequence> sequences = SequencesOf(lengths);
  if (q.rows() == 0) return;
  const auto layout = KvLayout::Create(DType::kF32, options.head_dim);
  QEFF_CHECK(layout.ok());
  Regions regions(options, *layout, sequences);
  regions.Fill(k, v, pool);

  const int64_t group = options.num_heads / options.num_kv_heads;
  const size_t scratch_bytes =
      RoundUp(static_cast<size_t>(AttendScratchBytes(*layout)), kAlignment);
  AlignedArray<uint8_t> scratch(scratch_bytes *
                                static_cast<size_t>(pool.num_threads()));
  const std::vector<Task> tasks = MakeTasks(options, sequences);
  pool.ParallelFor(
      static_cast<int64_t>(tasks.size()), GrainOf(options, lengths),
      [&](int64_t i, int64_t end, int thread) {
        for (; i < end; ++i) {
          const Task& task = tasks[static_cast<size_t>(i)];
          const int64_t head = task.kv_head * group;
          const auto part = [&](auto m) {
            return m
                .Rows(sequences[task.sequence].begin + task.first, task.count)
                .Cols(head * options.head_dim, group * options.head_dim);
          };
          AttendOptions attend;
          attend.heads = group;
          attend.scale = options.scale;
          attend.sliding_window = options.sliding_window;
          if (!options.alibi.empty()) {
            attend.slopes = options.alibi.subspan(static_cast<size_t>(head),
                                                  static_cast<size_t>(group));
          }
          Attend(
              *layout, regions.Region(task.sequence, task.kv_head), attend,
              {task.first, task.count, Regions::RowsOf(part(q)),
               q.stride_elems(), Regions::RowsOf(part(out)),
               out.stride_elems()},
              scratch.span().subspan(
                  scratch_bytes * static_cast<size_t>(thread), scratch_bytes));
        }
      });
}

}  // namespace qeff
