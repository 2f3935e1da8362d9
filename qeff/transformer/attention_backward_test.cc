// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/attention_backward.h"

#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/transformer/attention.h"
#include "qeff/transformer/gradient_testutil.h"

namespace qeff {
namespace {

struct Problem {
  AttentionOptions options;
  std::vector<int64_t> lengths;
  Matrix<float> q, k, v, dout;

  Problem(int64_t heads, int64_t kv_heads, int64_t head_dim,
          std::vector<int64_t> sequence_lengths)
      : lengths(std::move(sequence_lengths)) {
    options.num_heads = heads;
    options.num_kv_heads = kv_heads;
    options.head_dim = head_dim;
    options.scale = 0.75f / std::sqrt(static_cast<float>(head_dim));
    int64_t rows = 0;
    for (int64_t length : lengths) rows += length;
    q = RandomMatrix(rows, heads * head_dim, 1);
    k = RandomMatrix(rows, kv_heads * head_dim, 2);
    v = RandomMatrix(rows, kv_heads * head_dim, 3);
    dout = RandomMatrix(rows, heads * head_dim, 4);
  }
};

struct Result {
  Matrix<float> out, dq, dk, dv;
};

Result Compute(const Problem& p, int threads) {
  const auto pool = *CreateThreadPool(threads);
  Result r = {RandomMatrix(p.q.rows(), p.q.cols(), 5),
              RandomMatrix(p.q.rows(), p.q.cols(), 6),
              RandomMatrix(p.k.rows(), p.k.cols(), 7),
              RandomMatrix(p.v.rows(), p.v.cols(), 8)};
  AttentionScratch scratch;
  CausalAttention(p.options, p.lengths, p.q.view(), p.k.view(), p.v.view(),
                  r.out.view(), *pool);
  CausalAttentionBackward(p.options, p.lengths, p.q.view(), p.k.view(),
                          p.v.view(), p.dout.view(), r.dq.view(), r.dk.view(),
                          r.dv.view(), *pool, scratch);
  return r;
}

bool SameBits(const Matrix<float>& a, const Matrix<float>& b) {
  return std::memcmp(a.data(), b.data(), a.span().size() * sizeof(float)) == 0;
}

// The loss sum(dout * out) and its gradient in double, from the formulas; x is
// q, then k, then v. The test below checks these formulas against differences.
struct Exact {
  double loss = 0;
  std::vector<double> gradient;
};

Exact ExactOf(const Problem& p, const std::vector<double>& x) {
  const AttentionOptions& o = p.options;
  const size_t q_size = static_cast<size_t>(p.q.cols());
  const size_t kv_size = static_cast<size_t>(p.k.cols());
  const size_t rows = static_cast<size_t>(p.q.rows());
  const size_t d = static_cast<size_t>(o.head_dim);
  const size_t group = static_cast<size_t>(o.num_heads / o.num_kv_heads);
  Exact exact;
  exact.gradient.resize(x.size());
  size_t begin = 0;
  for (const int64_t length : p.lengths) {
    for (size_t h = 0; h < static_cast<size_t>(o.num_heads); ++h) {
      const auto key = [&](size_t j) {
        return rows * q_size + (begin + j) * kv_size + h / group * d;
      };
      const auto value = [&](size_t j) { return key(j) + rows * kv_size; };
      for (size_t i = 0; i < static_cast<size_t>(length); ++i) {
        const size_t query = (begin + i) * q_size + h * d;
        const float* dout = p.dout.data() + query;
        std::vector<double> weights(i + 1), slopes(i + 1);
        double total = 0, mean = 0;
        size_t first = 0;
        if (o.sliding_window > 0 && static_cast<int64_t>(i) >= o.sliding_window)
          first = i + 1 - static_cast<size_t>(o.sliding_window);
        for (size_t j = first; j <= i; ++j) {
          double score = 0;
          for (size_t e = 0; e < d; ++e) {
            score += x[query + e] * x[key(j) + e];
            slopes[j] += dout[e] * x[value(j) + e];
          }
          weights[j] = std::exp(
              o.scale * score -
              (o.alibi.empty() ? 0.0
                               : o.alibi[h] * static_cast<double>(i - j)));
          total += weights[j];
        }
        for (size_t j = first; j <= i; ++j) {
          weights[j] /= total;
          mean += weights[j] * slopes[j];
        }
        exact.loss += mean;
        for (size_t j = first; j <= i; ++j) {
          const double slope = o.scale * weights[j] * (slopes[j] - mean);
          for (size_t e = 0; e < d; ++e) {
            exact.gradient[query + e] += slope * x[key(j) + e];
            exact.gradient[key(j) + e] += slope * x[query + e];
            exact.gradient[value(j) + e] += weights[j] * dout[e];
          }
        }
      }
    }
    begin += static_cast<size_t>(length);
  }
  return exact;
}

std::vector<double> Values(const Problem& p) {
  std::vector<double> x = ToDouble(p.q.span());
  for (const Matrix<float>* m : {&p.k, &p.v}) {
    x.insert(x.end(), m->span().begin(), m->span().end());
  }
  return x;
}

// Scores of about 1 are off by a few roundings u = 2^-24 more than head_dim's
// root, weights as much, the sums of up to 200 weights and keys another root:
// 40 u = 2.4e-6 of gradients whose sums do not cancel.
void ExpectClose(const Problem& p) {
  const Result r = Compute(p, 2);
  const Exact exact = ExactOf(p, Values(p));
  size_t begin = 0;
  for (const Matrix<float>* m : {&r.dq, &r.dk, &r.dv}) {
    EXPECT_LT(
        RelativeDistance(
            m->span(),
            absl::MakeSpan(exact.gradient).subspan(begin, m->span().size())),
        2.4e-6)
        << "from element " << begin;
    begin += m->span().size();
  }
  Matrix<float> out(p.q.rows(), p.q.cols());
  CausalAttention(p.options, p.lengths, p.q.view(), p.k.view(), p.v.view(),
                  out.view(), **CreateThreadPool(1));
  EXPECT_LT(RelativeDistance(r.out.span(), ToDouble(out.span())), 1e-6);
}

TEST(AttentionBackwardTest, FormulasAgreeWithDifferences) {
  const std::vector<float> slopes = {0.5f, 0.25f, 0.125f, 0.75f};
  for (int64_t kv_heads : {1, 2, 4}) {
    for (int64_t window : {0, 2}) {
      for (bool alibi : {false, true}) {
        Problem p(4, kv_heads, 3, {4, 1, 5});
        p.options.sliding_window = window;
        if (alibi) p.options.alibi = slopes;
        const std::vector<double> x = Values(p);
        const std::vector<double> differences = FiniteDifferences(
            [&](const std::vector<double>& at) { return ExactOf(p, at).loss; },
            x);
        const std::vector<double> gradient = ExactOf(p, x).gradient;
        for (size_t i = 0; i < x.size(); ++i) {
          ASSERT_NEAR(gradient[i], differences[i], 1e-7) << i;
        }
        ExpectClose(p);
      }
    }
  }
}

// More than one tile of queries, and lengths around its size.
TEST(AttentionBackwardTest, LongSequences) {
  for (int64_t head_dim : {1, 8, 33, 64}) {
    ExpectClose(Problem(4, 2, head_dim, {200, 1, 64}));
  }
  ExpectClose(Problem(2, 2, 8, {63, 65, 128, 17}));
  ExpectClose(Problem(3, 1, 8, {129}));
}

TEST(AttentionBackwardTest, WindowsAndSlopes) {
  const std::vector<float> slopes = {0.5f, 0.03125f};
  for (int64_t window : {1, 2, 15, 64, 70, 1000}) {
    Problem p(2, 1, 8, {150, 40});
    p.options.sliding_window = window;
    ExpectClose(p);
    p.options.alibi = slopes;
    ExpectClose(p);
  }
}

TEST(AttentionBackwardTest, LargeScoresDoNotOverflow) {
  Problem p(2, 2, 4, {70});
  for (float& value : p.q.span()) value *= 1e4f;
  const Result r = Compute(p, 1);
  for (const Matrix<float>* m : {&r.out, &r.dq, &r.dk, &r.dv}) {
    for (float value : m->span()) ASSERT_TRUE(std::isfinite(value));
  }
}

TEST(AttentionBackwardTest, SameBitsForAnyThreadsAndNeighbours) {
  const Problem p(4, 2, 16, {100, 17, 64});
  const Result one = Compute(p, 1);
  for (int threads : {2, 5}) {
    const Result other = Compute(p, threads);
    EXPECT_TRUE(SameBits(one.out, other.out));
    EXPECT_TRUE(SameBits(one.dq, other.dq));
    EXPECT_TRUE(SameBits(one.dk, other.dk));
    EXPECT_TRUE(SameBits(one.dv, other.dv));
  }
  // The last sequence alone, in parts of fused matrices.
  Matrix<float> fused(64, 128);
  AttentionScratch scratch;
  CausalAttentionBackward(p.options, {64}, p.q.view().Rows(117, 64),
                          p.k.view().Rows(117, 64), p.v.view().Rows(117, 64),
                          p.dout.view().Rows(117, 64), fused.view().Cols(0, 64),
                          fused.view().Cols(64, 32), fused.view().Cols(96, 32),
                          **CreateThreadPool(1), scratch);
  for (int64_t r = 0; r < 64; ++r) {
    for (int64_t c = 0; c < 64; ++c) {
      ASSERT_EQ(fused.row(r)[c], one.dq.row(117 + r)[c]);
    }
    for (int64_t c = 0; c < 32; ++c) {
      ASSERT_EQ(fused.row(r)[64 + c], one.dk.row(117 + r)[c]);
      ASSERT_EQ(fused.row(r)[96 + c], one.dv.row(117 + r)[c]);
    }
  }
}

}  // namespace
}  // namespace qeff
