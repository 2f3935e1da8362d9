// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/row_divergence.h"

#include "qeff/distill/softmax_row.h"
#include "qeff/util/vector_clones.h"

namespace qeff {
namespace {

// The least ln p in the reverse divergence: further down float32 has no
// probabilities, and a teacher that excludes a token has none anywhere.
constexpr float kLeastLogP = -100.0f;

// Terms without probability are 0, whatever the logarithm; NaN stays NaN. All
// is computed first and chosen then, which vectorizes.

inline float UnlessZero(float probability, float term) {
  return probability == 0 ? 0.0f : term;
}

inline float KlTerm(const SoftmaxPair& x, int64_t i) {
  return UnlessZero(x.p[i], x.p[i] * (x.log_p[i] - x.log_q[i]));
}

inline float ReverseTerm(const SoftmaxPair& x, int64_t i) {
  const float log_p = x.log_p[i] < kLeastLogP ? kLeastLogP : x.log_p[i];
  return UnlessZero(x.q[i], x.q[i] * (x.log_q[i] - log_p));
}

// ln m, of m = (p + q) / 2: with r = min(p, q) / max(p, q) it is ln max(p, q) +
// ln y, y = (1 + r) / 2, and ln y = 2 atanh z, z = (y - 1) / (y + 1) in
// [-1/3, 0]. The first term left out of the series is below 2e-9 of the sum.
inline float LogMean(float log_p, float p, float log_q, float q) {
  const float least = p < q ? p : q;
  const float most = p < q ? q : p;
  const float log_most = log_p < log_q ? log_q : log_p;
  const float r = least / most;
  const float z = (r - 1.0f) / (r + 3.0f);
  const float zz = z * z;
  float series = 1.0f / 15;
  series = series * zz + 1.0f / 13;
  series = series * zz + 1.0f / 11;
  series = series * zz + 1.0f / 9;
  series = series * zz + 1.0f / 7;
  series = series * zz + 1.0f / 5;
  series = series * zz + 1.0f / 3;
  series = series * zz + 1.0f;
  return log_most + 2.0f * z * series;
}

inline float TeacherMeanTerm(const SoftmaxPair& x, int64_t i) {
  const float p = x.p[i], log_p = x.log_p[i];
  return UnlessZero(p, p * (log_p - LogMean(log_p, p, x.log_q[i], x.q[i])));
}

inline float StudentMeanTerm(const SoftmaxPair& x, int64_t i) {
  const float q = x.q[i], log_q = x.log_q[i];
  return UnlessZero(q, q * (log_q - LogMean(x.log_p[i], x.p[i], log_q, q)));
}

}  // namespace

QEFF_VECTOR_CLONES double SumKl(const SoftmaxPair& x) {
  return SumRow(x.room, [&](int64_t i) { return KlTerm(x, i); });
}

QEFF_VECTOR_CLONES double SumReverse(const SoftmaxPair& x) {
  return SumRow(x.room, [&](int64_t i) { return ReverseTerm(x, i); });
}

QEFF_VECTOR_CLONES double SumTeacherMean(const SoftmaxPair& x) {
  return SumRow(x.room, [&](int64_t i) { return TeacherMeanTerm(x, i); });
}

QEFF_VECTOR_CLONES double SumStudentMean(const SoftmaxPair& x) {
  return SumRow(x.room, [&](int64_t i) { return StudentMeanTerm(x, i); });
}

QEFF_VECTOR_CLONES void AddKlGradient(const SoftmaxPair& x, float factor,
                                      float* __restrict g) {
  for (int64_t i = 0; i < x.room; ++i) g[i] += factor * (x.q[i] - x.p[i]);
}

QEFF_VECTOR_CLONES void AddReverseGradient(const SoftmaxPair& x, float factor,
                                           float divergence,
                                           float* __restrict g) {
  for (int64_t i = 0; i < x.room; ++i) {
    g[i] += factor * (ReverseTerm(x, i) - x.q[i] * divergence);
  }
}

QEFF_VECTOR_CLONES void AddJsGradient(const SoftmaxPair& x, float factor,
                                      float divergence, float* __restrict g) {
  for (int64_t i = 0; i < x.room; ++i) {
    g[i] += factor * (StudentMeanTerm(x, i) - x.q[i] * divergence);
  }
}

}  // namespace qeff
