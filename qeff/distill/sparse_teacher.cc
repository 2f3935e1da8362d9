// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/sparse_teacher.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

#include "qeff/distill/softmax_row.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Memory of one thread.
struct Scratch {
  explicit Scratch(int64_t vocab)
      : order(static_cast<size_t>(vocab)),
        others(static_cast<size_t>(vocab)),
        logs(static_cast<size_t>(SoftmaxRoom(vocab))),
        probabilities(logs.size()) {}

  std::vector<int32_t> order;
  std::vector<float> others;  // logits of those that are not kept
  std::vector<float> logs, probabilities;
};

// NaN comes last: the order stays one.
bool MoreProbable(const float* logits, int32_t a, int32_t b) {
  const float x = logits[a], y = logits[b];
  if (x > y || x < y) return x > y;
  const bool x_nan = !(x == x), y_nan = !(y == y);
  return x_nan != y_nan ? y_nan : a < b;
}

void KeepRow(const float* logits, int64_t vocab, int64_t k, int32_t* ids,
             float* log_probabilities, float* log_rest, Scratch& scratch) {
  std::iota(scratch.order.begin(), scratch.order.end(), 0);
  if (k < vocab) {
    std::nth_element(
        scratch.order.begin(), scratch.order.begin() + k, scratch.order.end(),
        [&](int32_t a, int32_t b) { return MoreProbable(logits, a, b); });
  }
  std::copy_n(scratch.order.begin(), k, ids);
  std::sort(ids, ids + k);

  float* logs = scratch.logs.data();
  float* probabilities = scratch.probabilities.data();
  const double log_sum = SoftmaxRow(logits, vocab, 1.0f, logs, probabilities);
  for (int64_t i = 0; i < k; ++i) log_probabilities[i] = logs[ids[i]];
  *log_rest = -kInfinity;
  float* others = scratch.others.data();
  std::copy_n(logits, vocab, others);
  for (int64_t i = 0; i < k; ++i) others[ids[i]] = -kInfinity;
  // Nothing may be left of a distribution over the tokens that were kept.
  if (*std::max_element(others, others + vocab) == -kInfinity) return;
  *log_rest = static_cast<float>(
      SoftmaxRow(others, vocab, 1.0f, logs, probabilities) - log_sum);
}

}  // namespace

absl::Status CheckSparseTeacher(const SparseTeacher& teacher,
                                int64_t vocab_size) {
  const int64_t rows = teacher.ids.rows(), k = teacher.ids.cols();
  if (k < 1 || teacher.log_probabilities.rows() != rows ||
      teacher.log_probabilities.cols() != k ||
      static_cast<int64_t>(teacher.log_rest.size()) != rows) {
    return InvalidInputError("teacher's tokens [", rows, ", ", k,
                             "] do not fit probabilities [",
                             teacher.log_probabilities.rows(), ", ",
                             teacher.log_probabilities.cols(), "] and ",
                             teacher.log_rest.size(), " of the rest");
  }
  for (int64_t r = 0; r < rows; ++r) {
    int64_t previous = -1;
    for (int64_t i = 0; i < k; ++i) {
      const int64_t id = teacher.ids.row(r)[i];
      if (id <= previous || id >= vocab_size) {
        return InvalidInputError("teacher's row ", r, ": token ", id, " after ",
                                 previous, ", expected ascending and below ",
                                 vocab_size);
      }
      previous = id;
    }
  }
  return absl::OkStatus();
}

void KeepMostProbable(MatrixView<const float> logits, MatrixView<int32_t> ids,
                      MatrixView<float> log_probabilities,
                      absl::Span<float> log_rest, ThreadPool& pool) {
  const int64_t rows = logits.rows(), vocab = logits.cols(), k = ids.cols();
  QEFF_CHECK(k >= 1 && k <= vocab);
  QEFF_CHECK(vocab <= std::numeric_limits<int32_t>::max());
  QEFF_CHECK(ids.rows() == rows && log_probabilities.rows() == rows &&
             log_probabilities.cols() == k &&
             static_cast<int64_t>(log_rest.size()) == rows);
  std::vector<Scratch> scratch(static_cast<size_t>(pool.num_threads()),
                               Scratch(vocab));
  pool.ParallelFor(rows, 1, [&](int64_t r, int64_t end, int thread) {
    for (; r < end; ++r) {
      KeepRow(logits.row(r), vocab, k, ids.row(r), log_probabilities.row(r),
              &log_rest[static_cast<size_t>(r)],
              scratch[static_cast<size_t>(thread)]);
    }
  });
}

}  // namespace qeff
