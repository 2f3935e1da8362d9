// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/attention_loss.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "qeff/distill/logit_loss.h"
#include "qeff/distill/row_divergence.h"
#include "qeff/distill/softmax_row.h"
#include "qeff/util/check.h"
#include "qeff/util/vector_clones.h"

namespace qeff {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Queries whose maps are in memory at once.
constexpr int64_t kQueryTile = 64;

// The least average of the student's maps.
constexpr float kLeastMean = 1e-30f;

// What the tasks share.
struct Problem {
  const AttentionMaps& student;
  const AttentionMaps& teacher;
  absl::Span<const int32_t> labels;
  float scale;
  MatrixView<float> dq, dk;

  bool averaged() const {
    return student.options.num_heads != teacher.options.num_heads;
  }
};

// Query heads [head, head + heads) of the student, which share their keys with
// no others, in one sequence.
struct Task {
  int64_t begin;  // first row
  int64_t length;
  int64_t head;
  int64_t heads;
};

// Queries [first, first + count) and the keys that any of them sees, [lowest,
// first + count), all counted in the sequence.
struct Tile {
  int64_t first;
  int64_t count;
  int64_t lowest;
  int64_t keys() const { return first + count - lowest; }
};

// The first key that query i sees.
int64_t FirstSeen(const AttentionOptions& options, int64_t i) {
  return options.sliding_window == 0
             ? 0
             : std::max<int64_t>(0, i - options.sliding_window + 1);
}

// x = scale x - slope * distance to the query, which is the last.
QEFF_VECTOR_CLONES void FinishScores(float scale, float slope, int64_t count,
                                     float* __restrict x) {
  const int32_t last = static_cast<int32_t>(count - 1);
  for (int32_t j = 0; j <= last; ++j) {
    x[j] = x[j] * scale - slope * static_cast<float>(last - j);
  }
}

// sum += factor x.
QEFF_VECTOR_CLONES void AddScaled(float factor, const float* __restrict x,
                                  int64_t count, float* __restrict sum) {
  for (int64_t i = 0; i < count; ++i) sum[i] += factor * x[i];
}

// From g, the gradient in the weights of a softmax, to that in its logits,
// which replaces the weights.
QEFF_VECTOR_CLONES void SoftmaxBackward(const float* __restrict g,
                                        int64_t count,
                                        float* __restrict weights) {
  const float mean = static_cast<float>(
      SumRow(count, [&](int64_t i) { return weights[i] * g[i]; }));
  for (int64_t i = 0; i < count; ++i) weights[i] *= g[i] - mean;
}

// sum p ln(p / q), with g = factor * its gradient in q.
double MeanDivergence(const float* p, const float* q, int64_t count,
                      float factor, float* g) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float least = q[i] < kLeastMean ? kLeastMean : q[i];
    g[i] = -factor * (p[i] / least);
    if (p[i] != 0) sum += p[i] * std::log(static_cast<double>(p[i]) / least);
  }
  return std::max(sum, 0.0);
}

class TaskLoss {
 public:
  TaskLoss(const Problem& problem, const Task& task,
           AttentionLoss::Scratch& scratch)
      : problem_(problem), task_(task), scratch_(scratch) {
    rows_ = scratch.rows.Get(5, SoftmaxRoom(task.length));
    // Of the gradient in the products of queries and keys.
    factor_ = problem.scale * problem.student.options.scale /
              static_cast<float>(problem.student.options.num_heads);
  }

  double Run() {
    double sum = 0;
    for (int64_t i = 0; i < task_.length; i += kQueryTile) {
      Tile tile = {i, std::min(kQueryTile, task_.length - i), 0};
      tile.lowest = FirstSeen(problem_.student.options, i);
      if (problem_.averaged()) {
        sum += RunMeans(tile);
        continue;
      }
      for (int64_t h = task_.head; h < task_.head + task_.heads; ++h) {
        sum += RunHead(tile, h) /
               static_cast<double>(problem_.student.options.num_heads);
      }
    }
    return sum;
  }

 private:
  // Rows of a tile and columns of a head.
  template <typename T>
  static MatrixView<T> Part(MatrixView<T> x, int64_t row, int64_t rows,
                            int64_t head, const AttentionOptions& options) {
    return x.Rows(row, rows).Cols(head * options.head_dim, options.head_dim);
  }
  template <typename T>
  MatrixView<T> Queries(MatrixView<T> x, const AttentionOptions& options,
                        const Tile& tile, int64_t head) const {
    return Part(x, task_.begin + tile.first, tile.count, head, options);
  }
  template <typename T>
  MatrixView<T> Keys(MatrixView<T> x, const AttentionOptions& options,
                     const Tile& tile, int64_t head) const {
    return Part(x, task_.begin + tile.lowest, tile.keys(),
                head / (options.num_heads / options.num_kv_heads), options);
  }

  bool Counted(const Tile& tile, int64_t i) const {
    return problem_.labels[static_cast<size_t>(task_.begin + tile.first + i)] !=
           kNoLabel;
  }

  // The products of a tile's queries and keys.
  void Products(const AttentionMaps& maps, const Tile& tile, int64_t head,
                MatrixView<float> out) {
    SgemmArgs args;
    args.a = Queries(maps.q, maps.options, tile, head);
    args.b = Keys(maps.k, maps.options, tile, head);
    args.b_transposed = true;
    args.c = out;
    SgemmOnThisThread(args, scratch_.products);
  }

  // Columns of a tile that query i of it sees.
  struct Seen {
    int64_t begin;
    int64_t count;
  };
  Seen SeenBy(const Tile& tile, int64_t i) const {
    const int64_t begin =
        FirstSeen(problem_.student.options, tile.first + i) - tile.lowest;
    return {begin, tile.first + i + 1 - tile.lowest - begin};
  }

  // From products of query i with the keys that it sees to its map.
  void Softmax(const AttentionMaps& maps, int64_t head, int64_t query,
               int64_t count, float* x, float* log_p, float* p) const {
    const AttentionOptions& options = maps.options;
    FinishScores(
        options.scale,
        options.alibi.empty() ? 0.0f : options.alibi[static_cast<size_t>(head)],
        count, x);
    // The student's first key; a teacher may see fewer.
    const int64_t first = query + 1 - count;
    const int64_t hidden = FirstSeen(options, query) - first;
    if (hidden > 0) std::fill_n(x, hidden, -kInfinity);
    SoftmaxRow(x, count, 1.0f, log_p, p);
  }

  double RunHead(const Tile& tile, int64_t head) {
    const auto student = scratch_.student.Get(tile.count, tile.keys());
    const auto teacher = scratch_.teacher.Get(tile.count, tile.keys());
    Products(problem_.student, tile, head, student);
    Products(problem_.teacher, tile, head, teacher);
    double sum = 0;
    for (int64_t i = 0; i < tile.count; ++i) {
      const Seen seen = SeenBy(tile, i);
      float* row = student.row(i) + seen.begin;
      float* g = rows_.row(4);
      std::fill_n(g, SoftmaxRoom(seen.count), 0.0f);
      if (Counted(tile, i)) {
        Softmax(problem_.student, head, tile.first + i, seen.count, row,
                rows_.row(0), rows_.row(1));
        Softmax(problem_.teacher, head, tile.first + i, seen.count,
                teacher.row(i) + seen.begin, rows_.row(2), rows_.row(3));
        const SoftmaxPair pair = {rows_.row(2), rows_.row(3), rows_.row(0),
                                  rows_.row(1), SoftmaxRoom(seen.count)};
        sum += std::max(SumKl(pair), 0.0);
        AddKlGradient(pair, factor_, g);
      }
      std::copy_n(g, seen.count, row);
      ClearOutside(seen, student, i);
    }
    AddGradients(tile, head, student);
    return sum;
  }

  double RunMeans(const Tile& tile) {
    const auto maps =
        scratch_.student.Get(tile.count * task_.heads, tile.keys());
    const auto student_mean = Cleared(scratch_.student_mean, tile);
    for (int64_t h = 0; h < task_.heads; ++h) {
      AddMaps(problem_.student, tile, h, maps.Rows(h * tile.count, tile.count),
              student_mean);
    }
    const auto teacher_mean = Cleared(scratch_.teacher_mean, tile);
    const auto teacher = scratch_.teacher.Get(tile.count, tile.keys());
    for (int64_t h = 0; h < problem_.teacher.options.num_heads; ++h) {
      AddMaps(problem_.teacher, tile, h, teacher, teacher_mean);
    }
    double sum = 0;
    for (int64_t i = 0; i < tile.count; ++i) {
      if (!Counted(tile, i)) continue;
      const Seen seen = SeenBy(tile, i);
      sum += MeanDivergence(teacher_mean.row(i) + seen.begin,
                            student_mean.row(i) + seen.begin, seen.count,
                            factor_, rows_.row(4));
      for (int64_t h = 0; h < task_.heads; ++h) {
        SoftmaxBackward(rows_.row(4), seen.count,
                        maps.row(h * tile.count + i) + seen.begin);
      }
    }
    for (int64_t h = 0; h < task_.heads; ++h) {
      AddGradients(tile, h, maps.Rows(h * tile.count, tile.count));
    }
    return sum;
  }

  static MatrixView<float> Cleared(MatrixBuffer& buffer, const Tile& tile) {
    const MatrixView<float> view = buffer.Get(tile.count, tile.keys());
    std::fill_n(view.data(), view.rows() * view.cols(), 0.0f);
    return view;
  }

  // Sets `out` to the maps of a head, 0 for what is not seen or counted, and
  // adds its share to `mean`.
  void AddMaps(const AttentionMaps& maps, const Tile& tile, int64_t head,
               MatrixView<float> out, MatrixView<float> mean) {
    Products(maps, tile, head, out);
    const float share = 1.0f / static_cast<float>(maps.options.num_heads);
    for (int64_t i = 0; i < tile.count; ++i) {
      const Seen seen = SeenBy(tile, i);
      float* row = out.row(i) + seen.begin;
      float* p = rows_.row(1);
      if (Counted(tile, i)) {
        Softmax(maps, head, tile.first + i, seen.count, row, rows_.row(0), p);
      } else {
        std::fill_n(p, seen.count, 0.0f);
      }
      std::copy_n(p, seen.count, row);
      AddScaled(share, row, seen.count, mean.row(i) + seen.begin);
      ClearOutside(seen, out, i);
    }
  }

  static void ClearOutside(const Seen& seen, MatrixView<float> x, int64_t i) {
    std::fill_n(x.row(i), seen.begin, 0.0f);
    std::fill(x.row(i) + seen.begin + seen.count, x.row(i) + x.cols(), 0.0f);
  }

  // Adds the gradients in queries and keys of those in their products.
  void AddGradients(const Tile& tile, int64_t head, MatrixView<float> g) {
    const AttentionMaps& maps = problem_.student;
    SgemmArgs args;
    args.update = SgemmUpdate::kAdd;
    args.a = g;
    args.b = Keys(maps.k, maps.options, tile, head);
    args.c = Queries(problem_.dq, maps.options, tile, head);
    SgemmOnThisThread(args, scratch_.products);
    args.a_transposed = true;
    args.b = Queries(maps.q, maps.options, tile, head);
    args.c = Keys(problem_.dk, maps.options, tile, head);
    SgemmOnThisThread(args, scratch_.products);
  }

  const Problem& problem_;
  const Task task_;
  AttentionLoss::Scratch& scratch_;
  MatrixView<float> rows_;
  float factor_;
};

void CheckMaps(const AttentionMaps& maps, int64_t tokens) {
  const AttentionOptions& o = maps.options;
  QEFF_CHECK(o.num_kv_heads >= 1 && o.num_heads % o.num_kv_heads == 0);
  QEFF_CHECK(o.sliding_window >= 0);
  QEFF_CHECK(o.alibi.empty() ||
             static_cast<int64_t>(o.alibi.size()) == o.num_heads);
  QEFF_CHECK(maps.q.rows() == tokens && maps.k.rows() == tokens);
  QEFF_CHECK(maps.q.cols() == o.num_heads * o.head_dim &&
             maps.k.cols() == o.num_kv_heads * o.head_dim);
}

std::vector<Task> TasksOf(const Problem& problem,
                          absl::Span<const int64_t> lengths) {
  const AttentionOptions& options = problem.student.options;
  const int64_t heads = problem.averaged()
                            ? options.num_heads
                            : options.num_heads / options.num_kv_heads;
  std::vector<Task> tasks;
  int64_t rows = 0;
  for (const int64_t length : lengths) {
    QEFF_CHECK(length >= 1);
    for (int64_t h = 0; h < options.num_heads; h += heads) {
      tasks.push_back({rows, length, h, heads});
    }
    rows += length;
  }
  CheckMaps(problem.student, rows);
  CheckMaps(problem.teacher, rows);
  QEFF_CHECK(static_cast<int64_t>(problem.labels.size()) == rows);
  QEFF_CHECK(problem.dq.rows() == rows && problem.dk.rows() == rows &&
             problem.dq.cols() == problem.student.q.cols() &&
             problem.dk.cols() == problem.student.k.cols());
  return tasks;
}

}  // namespace

double AttentionLoss::Add(const AttentionMaps& student,
                          const AttentionMaps& teacher,
                          absl::Span<const int64_t> lengths,
                          absl::Span<const int32_t> labels, float scale,
                          MatrixView<float> dq, MatrixView<float> dk,
                          ThreadPool& pool) {
  const Problem problem = {student, teacher, labels, scale, dq, dk};
  const std::vector<Task> tasks = TasksOf(problem, lengths);
  scratch_.resize(static_cast<size_t>(pool.num_threads()));
  std::vector<double> sums(tasks.size());
  pool.ParallelFor(static_cast<int64_t>(tasks.size()), /*grain=*/1,
                   [&](int64_t i, int64_t end, int thread) {
                     for (; i < end; ++i) {
                       const size_t at = static_cast<size_t>(i);
                       sums[at] =
                           TaskLoss(problem, tasks[at],
                                    scratch_[static_cast<size_t>(thread)])
                               .Run();
                     }
                   });
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum;
}

}  // namespace qeff
