// SPDX-License-Identifier: Apache-2.0
//
// Divergences of a student's distribution from a teacher's in one row, at
// temperature 1, and their gradients in the student's logits.

#ifndef QEFF_DISTILL_ROW_DIVERGENCE_H_
#define QEFF_DISTILL_ROW_DIVERGENCE_H_

#include <cstdint>

namespace qeff {

// p of the teacher and q of the student as SoftmaxRow gives them: `room` is
// SoftmaxRoom of the outcomes, a multiple of kRowParts.
struct SoftmaxPair {
  const float* log_p;
  const float* p;
  const float* log_q;
  const float* q;
  int64_t room;
};

// All: outcomes without probability add 0, whatever their logarithm is; NaN
// gives NaN. A sum that is hardly anything may be rounded to below 0.

// sum p ln(p / q).
double SumKl(const SoftmaxPair& x);
// sum q ln(q / p), with ln p taken as at least -100.
double SumReverse(const SoftmaxPair& x);
// sum p ln(p / m) and sum q ln(q / m), m = (p + q) / 2.
double SumTeacherMean(const SoftmaxPair& x);
double SumStudentMean(const SoftmaxPair& x);

// g [room] += factor * the gradient:
//   q - p
void AddKlGradient(const SoftmaxPair& x, float factor, float* g);
//   q (ln(q / p) - divergence), for SumReverse
void AddReverseGradient(const SoftmaxPair& x, float factor, float divergence,
                        float* g);
//   q (ln(q / m) - divergence), for SumStudentMean: twice that of the mean of
//   the two sums above
void AddJsGradient(const SoftmaxPair& x, float factor, float divergence,
                   float* g);

}  // namespace qeff

#endif  // QEFF_DISTILL_ROW_DIVERGENCE_H_
