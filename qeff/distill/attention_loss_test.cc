// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/attention_loss.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/distill/logit_loss.h"
#include "qeff/transformer/gradient_testutil.h"

namespace qeff {
namespace {

using Vector = std::vector<double>;

struct Model {
  Model(int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t rows,
        uint64_t stream)
      : q(RandomMatrix(rows, heads * head_dim, stream)),
        k(RandomMatrix(rows, kv_heads * head_dim, stream + 1)) {
    options.num_heads = heads;
    options.num_kv_heads = kv_heads;
    options.head_dim = head_dim;
    options.scale = 0.75f / std::sqrt(static_cast<float>(head_dim));
  }

  AttentionMaps view() const { return {options, q.view(), k.view()}; }
  Vector Values() const {
    Vector values = ToDouble(q.span());
    values.insert(values.end(), k.span().begin(), k.span().end());
    return values;
  }

  AttentionOptions options;
  Matrix<float> q, k;
};

// The map of query i of a sequence that begins at row `begin`: weights of keys
// [0, i], of q and k in `values`. Keys before `first` are not seen.
Vector Map(const Model& m, const Vector& values, size_t begin, size_t head,
           size_t i, size_t first) {
  const size_t d = static_cast<size_t>(m.options.head_dim);
  const size_t q_size = static_cast<size_t>(m.q.cols());
  const size_t k_size = static_cast<size_t>(m.k.cols());
  const size_t group =
      static_cast<size_t>(m.options.num_heads / m.options.num_kv_heads);
  const double* q = values.data() + (begin + i) * q_size + head * d;
  Vector map(i + 1);
  double total = 0;
  for (size_t j = first; j <= i; ++j) {
    const double* k = values.data() + m.q.span().size() + (begin + j) * k_size +
                      head / group * d;
    double score = 0;
    for (size_t e = 0; e < d; ++e) score += m.options.scale * q[e] * k[e];
    if (!m.options.alibi.empty()) {
      score -= m.options.alibi[head] * static_cast<double>(i - j);
    }
    total += map[j] = std::exp(score);
  }
  for (double& weight : map) weight /= total;
  return map;
}

double Kl(const Vector& p, const Vector& q) {
  double sum = 0;
  for (size_t j = 0; j < p.size(); ++j) {
    if (p[j] > 0) sum += p[j] * std::log(p[j] / q[j]);
  }
  return sum;
}

struct Case {
  Case(Model student_model, Model teacher_model,
       std::vector<int64_t> sequence_lengths)
      : student(std::move(student_model)),
        teacher(std::move(teacher_model)),
        lengths(std::move(sequence_lengths)),
        labels(static_cast<size_t>(student.q.rows()), 0) {}

  static size_t FirstSeen(const Model& m, size_t i) {
    const size_t window = static_cast<size_t>(m.options.sliding_window);
    return window > 0 && i >= window ? i + 1 - window : 0;
  }

  static Vector Mean(const Model& m, const Vector& values, size_t begin,
                     size_t i, size_t first) {
    Vector mean(i + 1);
    for (size_t h = 0; h < static_cast<size_t>(m.options.num_heads); ++h) {
      const Vector map = Map(m, values, begin, h, i, first);
      for (size_t j = 0; j <= i; ++j) {
        mean[j] += map[j] / static_cast<double>(m.options.num_heads);
      }
    }
    return mean;
  }

  double Exact(const Vector& values) const {
    const Vector teacher_values = teacher.Values();
    const size_t heads = static_cast<size_t>(student.options.num_heads);
    double loss = 0;
    size_t begin = 0;
    for (const int64_t length : lengths) {
      for (size_t i = 0; i < static_cast<size_t>(length); ++i) {
        if (labels[begin + i] == kNoLabel) continue;
        const size_t first = FirstSeen(student, i);
        const size_t common = std::max(first, FirstSeen(teacher, i));
        if (student.options.num_heads != teacher.options.num_heads) {
          loss += Kl(Mean(teacher, teacher_values, begin, i, common),
                     Mean(student, values, begin, i, first));
          continue;
        }
        for (size_t h = 0; h < heads; ++h) {
          loss += Kl(Map(teacher, teacher_values, begin, h, i, common),
                     Map(student, values, begin, h, i, first)) /
                  static_cast<double>(heads);
        }
      }
      begin += static_cast<size_t>(length);
    }
    return loss;
  }

  Model student, teacher;
  std::vector<int64_t> lengths;
  std::vector<int32_t> labels;
};

struct Result {
  double loss;
  Matrix<float> dq, dk;

  std::vector<float> Gradient() const {
    std::vector<float> all(dq.span().begin(), dq.span().end());
    all.insert(all.end(), dk.span().begin(), dk.span().end());
    return all;
  }
};

Result Compute(const Case& c, float scale = 1.0f, int threads = 1) {
  Result r;
  r.dq = Matrix<float>(c.student.q.rows(), c.student.q.cols());
  r.dk = Matrix<float>(c.student.k.rows(), c.student.k.cols());
  AttentionLoss loss;
  r.loss =
      loss.Add(c.student.view(), c.teacher.view(), c.lengths, c.labels, scale,
               r.dq.view(), r.dk.view(), **CreateThreadPool(threads));
  return r;
}

void CheckAgainstDifferences(const Case& c) {
  const float scale = 0.25f;
  const Vector x = c.student.Values();
  const Result r = Compute(c, scale);
  EXPECT_NEAR(r.loss, c.Exact(x), 3e-6 * c.Exact(x));
  const Vector gradient = FiniteDifferences(
      [&](const Vector& at) { return scale * c.Exact(at); }, x);
  // Scores of sums of a few products, probabilities to about 1e-6.
  EXPECT_LT(RelativeDistance(r.Gradient(), gradient), 5e-6);
}

// Head by head with equal numbers, averaged otherwise; grouped keys.
TEST(AttentionLossTest, AgreesWithDifferences) {
  for (const auto& [heads, kv_heads] :
       {std::pair(4, 2), std::pair(4, 4), std::pair(6, 3), std::pair(1, 1)}) {
    Case c(Model(4, 2, 3, 10, 1), Model(heads, kv_heads, 5, 10, 5), {4, 1, 5});
    c.labels[2] = kNoLabel;
    CheckAgainstDifferences(c);
  }
}

TEST(AttentionLossTest, WindowsAndSlopes) {
  const std::vector<float> slopes = {0.5f, 0.25f, 0.125f, 0.75f};
  for (int64_t teacher_heads : {4, 2}) {
    for (const auto& [window, teacher_window] :
         {std::pair(0, 3), std::pair(3, 0), std::pair(3, 3)}) {
      Case c(Model(4, 2, 3, 10, 1), Model(teacher_heads, 2, 3, 10, 5), {3, 7});
      c.student.options.sliding_window = window;
      c.teacher.options.sliding_window = teacher_window;
      c.student.options.alibi = slopes;
      CheckAgainstDifferences(c);
      c.teacher.options.alibi =
          absl::MakeConstSpan(slopes).first(static_cast<size_t>(teacher_heads));
      CheckAgainstDifferences(c);
    }
  }
}

// More than one tile of queries.
TEST(AttentionLossTest, LongSequences) {
  for (int64_t teacher_heads : {2, 1}) {
    for (int64_t window : {0, 70}) {
      Case c(Model(2, 1, 2, 150, 1), Model(teacher_heads, 1, 4, 150, 5),
             {130, 20});
      c.student.options.sliding_window = window;
      CheckAgainstDifferences(c);
    }
  }
}

TEST(AttentionLossTest, ZeroWhereEqual) {
  const Result r =
      Compute(Case(Model(4, 2, 8, 80, 1), Model(4, 2, 8, 80, 1), {80}));
  EXPECT_EQ(r.loss, 0);
  for (float v : r.Gradient()) EXPECT_EQ(v, 0.0f);
}

TEST(AttentionLossTest, LargeScoresStayFinite) {
  for (int64_t teacher_heads : {2, 1}) {
    Case c(Model(2, 2, 4, 70, 1), Model(teacher_heads, 1, 4, 70, 5), {70});
    for (float& value : c.student.q.span()) value *= 1e3f;
    for (float& value : c.teacher.q.span()) value *= 1e3f;
    const Result r = Compute(c);
    EXPECT_TRUE(std::isfinite(r.loss));
    for (float v : r.Gradient()) ASSERT_TRUE(std::isfinite(v));
  }
}

TEST(AttentionLossTest, SameBitsForAnyThreads) {
  for (int64_t teacher_heads : {4, 6}) {
    const Case c(Model(4, 2, 16, 181, 1), Model(teacher_heads, 2, 8, 181, 5),
                 {100, 17, 64});
    const Result one = Compute(c, 0.01f, 1);
    for (int threads : {2, 5}) {
      const Result other = Compute(c, 0.01f, threads);
      EXPECT_EQ(one.loss, other.loss);
      EXPECT_EQ(one.Gradient(), other.Gradient());
    }
  }
}

}  // namespace
}  // namespace qeff
