// SPDX-License-Identifier: Apache-2.0
//
// Losses of a student's logits: against the logits of a teacher (distillation)
// and against the next token, with their gradients.
//
//   LogitLossOptions options;
//   options.weights.kl = 1;
//   const LogitLossTerms terms = LogitLoss(
//       options, student, teacher, labels, 1.0f / num_labels, dlogits, pool);
//   const double loss = terms.Weighted(options.weights) / num_labels;

#ifndef QEFF_DISTILL_LOGIT_LOSS_H_
#define QEFF_DISTILL_LOGIT_LOSS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/distill/sparse_teacher.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/train/token_batch.h"

namespace qeff {

// The label of a row that is not counted, in any term: padding, and the last
// token of a text.
constexpr int32_t kNoLabel = TokenBatch::kNoLabel;

// Of the terms of the loss; 0: not computed. Finite and not negative.
struct LogitLossWeights {
  double kl = 0;
  double reverse_kl = 0;
  double js = 0;
  double ce = 0;

  // Whether a teacher is needed.
  bool teacher() const { return kl > 0 || reverse_kl > 0 || js > 0; }
};

struct LogitLossOptions {
  LogitLossWeights weights;
  double temperature = 1;  // T > 0, of all terms but ce
};

// Sums over the counted rows, without weights. 0 where the weight is.
struct LogitLossTerms {
  double kl = 0;
  double reverse_kl = 0;
  double js = 0;
  double ce = 0;
  int64_t rows = 0;  // counted

  double Weighted(const LogitLossWeights& weights) const {
    return weights.kl * kl + weights.reverse_kl * reverse_kl + weights.js * js +
           weights.ce * ce;
  }
  LogitLossTerms& operator+=(const LogitLossTerms& other);
};

// With q = softmax(student / T) and p = softmax(teacher / T), in nats a row:
//   kl          T^2 sum_v p_v ln(p_v / q_v)
//   reverse_kl  T^2 sum_v q_v ln(q_v / p_v)
//   js          T^2 (KL(p || m) + KL(q || m)) / 2, m = (p + q) / 2
//   ce          -ln softmax(student)_label
// and dlogits = scale * the gradient of terms.Weighted(weights) in the
// student's logits, 0 in rows that are not counted. Their derivatives are
//   T (q - p),  T q (ln(q/p) - KL(q || p)),  T q (ln(q/m) - KL(q || m)) / 2,
//   softmax(student) - [v = label].
//
// student, teacher and dlogits are [rows, vocab]; dlogits may be the memory of
// student or of teacher. teacher may be empty (0 rows) if no weight asks for
// it. labels [rows] are in [0, vocab) or kNoLabel.
// Preconditions (checked): shapes, labels, weights, temperature.
// Teachers may exclude tokens (-infinity). ln p is taken as at least -100 in
// reverse_kl, which stays finite then. A term is not finite if a counted row
// has a NaN, +infinity or only -infinity in it, or the student -infinity where
// the others have not.
// Numerics: float32 with relative errors of about 1e-6 of the terms' absolute
// values; sums in double in the order of the rows. A divergence is never
// negative and is exactly 0 where the rows are equal. The same bits for any
// number of threads. Scratch memory: 20 bytes * vocab a thread, and more for
// rows. Throws std::bad_alloc. Thread-safe.
// Source: Hinton et al. 2015 (T, T^2); Gu et al. 2023 (MiniLLM: reverse);
// Agarwal et al. 2023 (GKD: Jensen-Shannon).
LogitLossTerms LogitLoss(const LogitLossOptions& options,
                         MatrixView<const float> student,
                         MatrixView<const float> teacher,
                         absl::Span<const int32_t> labels, float scale,
                         MatrixView<float> dlogits, ThreadPool& pool);

// The same with what is left of a teacher. All tokens that it does not name are
// one outcome, whose probability under the student is the sum of theirs: by the
// log-sum inequality each divergence is at most that of all logits, and equal
// to it if K is vocab. ce is as above.
// Errors: kInvalidArgument, with nothing written, for what CheckSparseTeacher
// refuses and for a temperature other than 1, at which the probability of the
// rest is not known. Preconditions as above.
absl::StatusOr<LogitLossTerms> SparseLogitLoss(
    const LogitLossOptions& options, MatrixView<const float> student,
    const SparseTeacher& teacher, absl::Span<const int32_t> labels, float scale,
    MatrixView<float> dlogits, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_DISTILL_LOGIT_LOSS_H_
