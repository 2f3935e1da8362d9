// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/row_divergence.h"

#include <cmath>
#include <cstddef>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/distill/softmax_row.h"

namespace qeff {
namespace {

constexpr size_t kRoom = 16;

// Two distributions over four outcomes; the teacher excludes the last.
struct Rows {
  Rows() : log_p(kRoom), p(kRoom), log_q(kRoom), q(kRoom) {
    const std::vector<float> teacher = {1.0f, 0.0f, -2.0f, -INFINITY};
    const std::vector<float> student = {0.5f, 0.5f, 0.0f, -200.0f};
    SoftmaxRow(teacher.data(), 4, 1.0f, log_p.data(), p.data());
    SoftmaxRow(student.data(), 4, 1.0f, log_q.data(), q.data());
  }
  SoftmaxPair pair() const {
    return {log_p.data(), p.data(), log_q.data(), q.data(), kRoom};
  }

  std::vector<float> log_p, p, log_q, q;
};

TEST(RowDivergenceTest, Sums) {
  const Rows rows;
  double kl = 0, reverse = 0, teacher_mean = 0, student_mean = 0;
  for (size_t i = 0; i < 3; ++i) {
    const double p = rows.p[i], q = rows.q[i], m = (p + q) / 2;
    kl += p * std::log(p / q);
    reverse += q * std::log(q / p);
    teacher_mean += p * std::log(p / m);
    student_mean += q * std::log(q / m);
  }
  EXPECT_NEAR(SumKl(rows.pair()), kl, 1e-6);
  EXPECT_NEAR(SumReverse(rows.pair()), reverse, 1e-6);
  EXPECT_NEAR(SumTeacherMean(rows.pair()), teacher_mean, 1e-6);
  EXPECT_NEAR(SumStudentMean(rows.pair()), student_mean, 1e-6);
}

// What the teacher excludes costs 100 nats, not infinitely many.
TEST(RowDivergenceTest, ExcludedOutcomes) {
  Rows rows;
  std::swap(rows.log_p, rows.log_q);
  std::swap(rows.p, rows.q);
  rows.log_p[0] = -INFINITY;
  rows.p[0] = 0;
  EXPECT_NEAR(SumReverse(rows.pair()), 100 * rows.q[0], 1);
  EXPECT_TRUE(std::isfinite(SumStudentMean(rows.pair())));
}

// Gradients of shifts of all logits are 0.
TEST(RowDivergenceTest, GradientsSumToZero) {
  const Rows rows;
  const SoftmaxPair pair = rows.pair();
  const auto sum = [](const std::vector<float>& g) {
    double total = 0;
    for (float v : g) total += v;
    return total;
  };
  std::vector<float> g(kRoom);
  AddKlGradient(pair, 2.0f, g.data());
  EXPECT_EQ(g[1], 2 * (rows.q[1] - rows.p[1]));
  EXPECT_NEAR(sum(g), 0, 1e-6);
  g.assign(kRoom, 0);
  AddReverseGradient(pair, 1.0f, static_cast<float>(SumReverse(pair)),
                     g.data());
  EXPECT_NEAR(sum(g), 0, 1e-6);
  g.assign(kRoom, 0);
  AddJsGradient(pair, 1.0f, static_cast<float>(SumStudentMean(pair)), g.data());
  EXPECT_NEAR(sum(g), 0, 1e-6);
}

}  // namespace
}  // namespace qeff
