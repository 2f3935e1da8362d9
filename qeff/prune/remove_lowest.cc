// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/remove_lowest.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "qeff/util/check.h"

namespace qeff {
namespace {

constexpr int64_t kRowsOfTask = 16;

// A score and where its weight lies: ordered by score, then by place.
using Scored = std::pair<float, int64_t>;

// The `count` lowest of `scored` come first.
void LowestFirst(int64_t count, std::vector<Scored>* scored) {
  if (count >= static_cast<int64_t>(scored->size())) return;
  std::nth_element(scored->begin(), scored->begin() + count, scored->end());
}

float Score(float weight, absl::Span<const float> importance, int64_t col) {
  const float magnitude = std::abs(weight);
  return importance.empty() ? magnitude
                            : magnitude * importance[static_cast<size_t>(col)];
}

// Of elements [begin, end) of `row`.
void RemoveOfRow(int64_t count, absl::Span<const float> importance,
                 int64_t begin, int64_t end, float* row,
                 std::vector<Scored>* scored) {
  scored->clear();
  for (int64_t c = begin; c < end; ++c) {
    scored->emplace_back(Score(row[c], importance, c), c);
  }
  LowestFirst(count, scored);
  for (int64_t i = 0; i < count; ++i) {
    row[(*scored)[static_cast<size_t>(i)].second] = 0;
  }
}

void RemoveOfMatrix(int64_t count, absl::Span<const float> importance,
                    MatrixView<float> weights, ThreadPool& pool) {
  const int64_t cols = weights.cols();
  std::vector<Scored> scored(static_cast<size_t>(weights.rows() * cols));
  pool.ParallelFor(weights.rows(), kRowsOfTask,
                   [&](int64_t r, int64_t end, int /*thread*/) {
                     for (; r < end; ++r) {
                       for (int64_t c = 0; c < cols; ++c) {
                         const int64_t place = r * cols + c;
                         scored[static_cast<size_t>(place)] = {
                             Score(weights.row(r)[c], importance, c), place};
                       }
                     }
                   });
  LowestFirst(count, &scored);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t place = scored[static_cast<size_t>(i)].second;
    weights.row(place / cols)[place % cols] = 0;
  }
}

}  // namespace

std::vector<float> InputNorms(const InputStatistics& inputs) {
  std::vector<float> norms;
  norms.reserve(inputs.square_sums().size());
  for (const double sum : inputs.square_sums()) {
    norms.push_back(static_cast<float>(
        std::sqrt(sum / static_cast<double>(inputs.rows()))));
  }
  return norms;
}

void RemoveLowest(const SparsityPattern& pattern, ScoreScope scope,
                  absl::Span<const float> importance, MatrixView<float> weights,
                  ThreadPool& pool) {
  const int64_t cols = weights.cols();
  QEFF_CHECK(importance.empty() ||
             static_cast<int64_t>(importance.size()) == cols);
  if (!pattern.grouped() && scope == ScoreScope::kMatrix) {
    RemoveOfMatrix(pattern.Removed(weights.rows() * cols), importance, weights,
                   pool);
    return;
  }
  const int64_t group = pattern.grouped() ? pattern.group : cols;
  pool.ParallelFor(weights.rows(), kRowsOfTask,
                   [&](int64_t r, int64_t last, int /*thread*/) {
                     std::vector<Scored> scored;
                     for (; r < last; ++r) {
                       for (int64_t c = 0; c < cols; c += group) {
                         const int64_t end = std::min(cols, c + group);
                         RemoveOfRow(pattern.Removed(end - c), importance, c,
                                     end, weights.row(r), &scored);
                       }
                     }
                   });
}

}  // namespace qeff
