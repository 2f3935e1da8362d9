// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/logit_loss.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "qeff/distill/row_divergence.h"
#include "qeff/distill/softmax_row.h"
#include "qeff/util/aligned.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"
#include "qeff/util/vector_clones.h"

namespace qeff {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

QEFF_VECTOR_CLONES void AddScaled(int64_t room, float factor,
                                  const float* __restrict x,
                                  float* __restrict g) {
  for (int64_t i = 0; i < room; ++i) g[i] += factor * x[i];
}

QEFF_VECTOR_CLONES void SetScaled(int64_t count, float factor,
                                  const float* __restrict x,
                                  float* __restrict g) {
  for (int64_t i = 0; i < count; ++i) g[i] = factor * x[i];
}

// The losses of rows of up to `most` columns, one after another, on one thread.
// The gradients, times `scale`, add up in g().
class RowLoss {
 public:
  RowLoss(const LogitLossOptions& options, float scale, int64_t most)
      : options_(options), scale_(scale) {
    const size_t room = static_cast<size_t>(SoftmaxRoom(most));
    for (AlignedArray<float>* row : {&log_p_, &p_, &log_q_, &q_, &g_}) {
      *row = AlignedArray<float>(room);
    }
  }

  float* g() { return g_.data(); }

  // The terms that compare with a teacher, which may be none of them.
  void StartRow(const float* student, const float* teacher, int64_t count,
                LogitLossTerms& terms) {
    std::fill_n(g_.data(), SoftmaxRoom(count), 0.0f);
    if (!options_.weights.teacher()) return;
    const float factor = static_cast<float>(1 / options_.temperature);
    SoftmaxRow(student, count, factor, log_q_.data(), q_.data());
    SoftmaxRow(teacher, count, factor, log_p_.data(), p_.data());
    AddDivergences({log_p_.data(), p_.data(), log_q_.data(), q_.data(),
                    SoftmaxRoom(count)},
                   terms);
  }

  // ln softmax(student) at T = 1; the gradient of ce but for the label's.
  const float* AddSoftmax(const float* student, int64_t count) {
    // The divergences may have left it there.
    if (!options_.weights.teacher() || options_.temperature != 1) {
      SoftmaxRow(student, count, 1.0f, log_q_.data(), q_.data());
    }
    AddScaled(SoftmaxRoom(count), CeFactor(), q_.data(), g_.data());
    return log_q_.data();
  }
  float CeFactor() const {
    return static_cast<float>(options_.weights.ce * scale_);
  }

 private:
  void AddDivergences(const SoftmaxPair& x, LogitLossTerms& terms) {
    const LogitLossWeights& weights = options_.weights;
    const double t = options_.temperature;
    const auto factor = [&](double weight) {
      return static_cast<float>(weight * t * scale_);
    };
    // Rounding may leave sums that are hardly anything below 0.
    const auto term = [&](double sum) { return t * t * std::max(sum, 0.0); };
    if (weights.kl > 0) {
      terms.kl += term(SumKl(x));
      AddKlGradient(x, factor(weights.kl), g());
    }
    if (weights.reverse_kl > 0) {
      const double sum = SumReverse(x);
      terms.reverse_kl += term(sum);
      AddReverseGradient(x, factor(weights.reverse_kl), static_cast<float>(sum),
                         g());
    }
    if (weights.js > 0) {
      const double sum = SumStudentMean(x);
      terms.js += term((SumTeacherMean(x) + sum) / 2);
      AddJsGradient(x, factor(weights.js / 2), static_cast<float>(sum), g());
    }
  }

  const LogitLossOptions& options_;
  const float scale_;
  AlignedArray<float> log_p_, p_, log_q_, q_, g_;
};

// What a thread needs for rows of all logits.
class DenseRow {
 public:
  DenseRow(const LogitLossOptions& options, float scale, int64_t vocab,
           MatrixView<const float> teacher)
      : options_(options),
        vocab_(vocab),
        teacher_(teacher),
        loss_(options, scale, vocab) {}

  void Run(int64_t r, const float* student, int32_t label, float* dlogits,
           LogitLossTerms& terms) {
    loss_.StartRow(student,
                   options_.weights.teacher() ? teacher_.row(r) : nullptr,
                   vocab_, terms);
    if (options_.weights.ce > 0) {
      terms.ce -= loss_.AddSoftmax(student, vocab_)[label];
      loss_.g()[label] -= loss_.CeFactor();
    }
    std::copy_n(loss_.g(), vocab_, dlogits);
  }

 private:
  const LogitLossOptions& options_;
  const int64_t vocab_;
  const MatrixView<const float> teacher_;
  RowLoss loss_;
};

// What a thread needs for rows of K tokens and the rest: a row of K + 1
// outcomes, of which the last takes the rest's log-sum-exp as its logit. Its
// gradient goes to the rest in the shares that they have in it.
class SparseRow {
 public:
  SparseRow(const LogitLossOptions& options, float scale, int64_t vocab,
            const SparseTeacher& teacher)
      : options_(options),
        vocab_(vocab),
        k_(teacher.ids.cols()),
        teacher_(teacher),
        loss_(options, scale, k_ + 1),
        others_(static_cast<size_t>(vocab)),
        rest_log_(static_cast<size_t>(SoftmaxRoom(vocab))),
        rest_(rest_log_.size()),
        student_row_(static_cast<size_t>(k_ + 1)),
        teacher_row_(student_row_.size()) {}

  void Run(int64_t r, const float* student, int32_t label, float* dlogits,
           LogitLossTerms& terms) {
    const int32_t* ids = teacher_.ids.row(r);
    FillOutcomes(r, ids, student);
    loss_.StartRow(student_row_.data(), teacher_row_.data(), k_ + 1, terms);
    if (options_.weights.ce > 0) {
      const float* log_q = loss_.AddSoftmax(student_row_.data(), k_ + 1);
      const int32_t* found = std::lower_bound(ids, ids + k_, label);
      terms.ce -= found != ids + k_ && *found == label
                      ? log_q[found - ids]
                      : static_cast<double>(log_q[k_]) +
                            rest_log_[static_cast<size_t>(label)];
    }
    if (k_ < vocab_) SetScaled(vocab_, loss_.g()[k_], rest_.data(), dlogits);
    for (int64_t i = 0; i < k_; ++i) dlogits[ids[i]] = loss_.g()[i];
    if (options_.weights.ce > 0) dlogits[label] -= loss_.CeFactor();
  }

 private:
  void FillOutcomes(int64_t r, const int32_t* ids, const float* student) {
    for (int64_t i = 0; i < k_; ++i) {
      const size_t at = static_cast<size_t>(i);
      student_row_[at] = student[ids[i]];
      teacher_row_[at] = teacher_.log_probabilities.row(r)[i];
    }
    student_row_.back() = teacher_row_.back() = -kInfinity;
    if (k_ == vocab_) return;
    std::copy_n(student, vocab_, others_.data());
    for (int64_t i = 0; i < k_; ++i) others_.data()[ids[i]] = -kInfinity;
    student_row_.back() = static_cast<float>(SoftmaxRow(
        others_.data(), vocab_, 1.0f, rest_log_.data(), rest_.data()));
    teacher_row_.back() = teacher_.log_rest[static_cast<size_t>(r)];
  }

  const LogitLossOptions& options_;
  const int64_t vocab_;
  const int64_t k_;
  const SparseTeacher& teacher_;
  RowLoss loss_;
  AlignedArray<float> others_;           // the student's logits of the rest
  AlignedArray<float> rest_log_, rest_;  // their softmax
  std::vector<float> student_row_, teacher_row_;
};

void Check(const LogitLossOptions& options, MatrixView<const float> student,
           absl::Span<const int32_t> labels, MatrixView<float> dlogits) {
  const LogitLossWeights& w = options.weights;
  for (double weight : {w.kl, w.reverse_kl, w.js, w.ce}) {
    QEFF_CHECK(weight >= 0 && std::isfinite(weight));
  }
  QEFF_CHECK(options.temperature > 0 && std::isfinite(options.temperature));
  QEFF_CHECK(student.rows() == 0 || student.cols() > 0);
  QEFF_CHECK(dlogits.rows() == student.rows() &&
             dlogits.cols() == student.cols());
  QEFF_CHECK(static_cast<int64_t>(labels.size()) == student.rows());
  QEFF_CHECK(std::all_of(labels.begin(), labels.end(), [&](int32_t label) {
    return label == kNoLabel || (label >= 0 && label < student.cols());
  }));
}

// Runs the counted rows, thread t's with workers[t].
template <typename Worker>
LogitLossTerms RunRows(MatrixView<const float> student,
                       absl::Span<const int32_t> labels,
                       MatrixView<float> dlogits, std::vector<Worker>& workers,
                       ThreadPool& pool) {
  std::vector<LogitLossTerms> terms(labels.size());
  pool.ParallelFor(student.rows(), 1, [&](int64_t r, int64_t end, int thread) {
    for (; r < end; ++r) {
      const size_t at = static_cast<size_t>(r);
      if (labels[at] == kNoLabel) {
        std::fill_n(dlogits.row(r), dlogits.cols(), 0.0f);
        continue;
      }
      terms[at].rows = 1;
      workers[static_cast<size_t>(thread)].Run(r, student.row(r), labels[at],
                                               dlogits.row(r), terms[at]);
    }
  });
  LogitLossTerms sum;
  for (const LogitLossTerms& row : terms) sum += row;
  return sum;
}

}  // namespace

LogitLossTerms& LogitLossTerms::operator+=(const LogitLossTerms& other) {
  kl += other.kl;
  reverse_kl += other.reverse_kl;
  js += other.js;
  ce += other.ce;
  rows += other.rows;
  return *this;
}

LogitLossTerms LogitLoss(const LogitLossOptions& options,
                         MatrixView<const float> student,
                         MatrixView<const float> teacher,
                         absl::Span<const int32_t> labels, float scale,
                         MatrixView<float> dlogits, ThreadPool& pool) {
  Check(options, student, labels, dlogits);
  QEFF_CHECK(!options.weights.teacher() || (teacher.rows() == student.rows() &&
                                            teacher.cols() == student.cols()));
  std::vector<DenseRow> workers;
  for (int i = 0; i < pool.num_threads(); ++i) {
    workers.emplace_back(options, scale, student.cols(), teacher);
  }
  return RunRows(student, labels, dlogits, workers, pool);
}

absl::StatusOr<LogitLossTerms> SparseLogitLoss(
    const LogitLossOptions& options, MatrixView<const float> student,
    const SparseTeacher& teacher, absl::Span<const int32_t> labels, float scale,
    MatrixView<float> dlogits, ThreadPool& pool) {
  Check(options, student, labels, dlogits);
  if (options.temperature != 1) {
    return InvalidInputError("temperature ", options.temperature,
                             " with a teacher of its most probable tokens, "
                             "expected 1");
  }
  QEFF_RETURN_IF_ERROR(CheckSparseTeacher(teacher, student.cols()));
  QEFF_CHECK(teacher.ids.rows() == student.rows());
  std::vector<SparseRow> workers;
  for (int i = 0; i < pool.num_threads(); ++i) {
    workers.emplace_back(options, scale, student.cols(), teacher);
  }
  return RunRows(student, labels, dlogits, workers, pool);
}

}  // namespace qeff
