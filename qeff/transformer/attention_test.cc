// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/attention.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

Matrix<float> RandomMatrix(int64_t rows, int64_t cols, uint64_t stream) {
  Matrix<float> m(rows, cols);
  const Random random(11, stream);
  for (size_t i = 0; i < m.span().size(); ++i) {
    m.data()[i] = random.NormalAt(i);
  }
  return m;
}

struct Problem {
  AttentionOptions options;
  std::vector<int64_t> lengths;
  Matrix<float> q, k, v;

  Problem(int64_t heads, int64_t kv_heads, int64_t head_dim,
          std::vector<int64_t> sequence_lengths)
      : lengths(std::move(sequence_lengths)) {
    options.num_heads = heads;
    options.num_kv_heads = kv_heads;
    options.head_dim = head_dim;
    options.scale = static_cast<float>(1 / std::sqrt(head_dim));
    int64_t rows = 0;
    for (int64_t length : lengths) rows += length;
    q = RandomMatrix(rows, heads * head_dim, 1);
    k = RandomMatrix(rows, kv_heads * head_dim, 2);
    v = RandomMatrix(rows, kv_heads * head_dim, 3);
  }

  Matrix<float> Run(int threads) const {
    Matrix<float> out(q.rows(), q.cols());
    CausalAttention(options, lengths, q.view(), k.view(), v.view(), out.view(),
                    **CreateThreadPool(threads));
    return out;
  }
};

// One output row of one head in double, with the bound of its float32 error.
//
// A score is a sum of head_dim products, scaled, plus a bias: off by
// (head_dim + 3) u S with u = 2^-24 and S the sum of the absolute terms; that
// is the relative error of its weight, to which the exponential adds 4 u and
// the subtraction of the maximum 2 u |s|max. Sums of n weights and of n
// products add 2 n u. The quotient's numerator and denominator both have it.
void ExpectRow(const Problem& p, int64_t begin, int64_t i, int64_t head,
               const float* actual) {
  const AttentionOptions& o = p.options;
  const int64_t g = head / (o.num_heads / o.num_kv_heads) * o.head_dim;
  std::vector<double> weights, out(o.head_dim), magnitude(o.head_dim);
  double total = 0, relative = 0;
  for (int64_t j = 0; j <= i; ++j) {
    if (o.sliding_window > 0 && j <= i - o.sliding_window) {
      weights.push_back(0);
      continue;
    }
    double score = 0, terms = 0;
    for (int64_t d = 0; d < o.head_dim; ++d) {
      const double term = static_cast<double>(o.scale) *
                          p.q.row(begin + i)[head * o.head_dim + d] *
                          p.k.row(begin + j)[g + d];
      score += term;
      terms += std::abs(term);
    }
    if (!o.alibi.empty()) {
      const double bias = o.alibi[head] * static_cast<double>(j - i);
      score += bias;
      terms += std::abs(bias);
    }
    relative = std::max(
        relative, static_cast<double>(o.head_dim + 3) * terms + 2 * terms + 4);
    weights.push_back(std::exp(score));
    total += weights.back();
  }
  const double n = static_cast<double>(i + 1);
  for (int64_t d = 0; d < o.head_dim; ++d) {
    double sum = 0, absolute = 0;
    for (int64_t j = 0; j <= i; ++j) {
      const double term = weights[j] / total * p.v.row(begin + j)[g + d];
      sum += term;
      absolute += std::abs(term);
    }
    ASSERT_NEAR(actual[d], sum,
                std::ldexp(absolute * 2.1 * (relative + n + 2), -24))
        << "token " << i << " head " << head << " element " << d;
  }
}

void ExpectClose(const Problem& p) {
  const Matrix<float> out = p.Run(2);
  int64_t begin = 0;
  for (int64_t length : p.lengths) {
    for (int64_t i = 0; i < length; ++i) {
      for (int64_t h = 0; h < p.options.num_heads; ++h) {
        ExpectRow(p, begin, i, h, out.row(begin + i) + h * p.options.head_dim);
      }
    }
    begin += length;
  }
}

TEST(AttentionTest, AgreesWithADoubleReference) {
  for (int64_t head_dim : {1, 3, 8, 32}) {
    ExpectClose(Problem(4, 4, head_dim, {1}));
    ExpectClose(Problem(4, 2, head_dim, {5, 1, 33, 70}));
    ExpectClose(Problem(3, 1, head_dim, {32, 31}));
  }
}

TEST(AttentionTest, SlidingWindow) {
  for (int64_t window : {1, 2, 7, 40, 1000}) {
    Problem p(4, 2, 8, {50, 3});
    p.options.sliding_window = window;
    ExpectClose(p);
  }
}

TEST(AttentionTest, Alibi) {
  const std::vector<float> slopes = {0.5f, 0.25f, 0.7f};
  Problem p(3, 3, 8, {50, 3});
  p.options.alibi = slopes;
  ExpectClose(p);
  p.options.sliding_window = 9;
  ExpectClose(p);
}

TEST(AttentionTest, LargeScoresDoNotOverflow) {
  Problem p(2, 2, 4, {40});
  for (float& value : p.q.span()) value *= 1e4f;
  const Matrix<float> out = p.Run(1);
  for (float value : out.span()) EXPECT_TRUE(std::isfinite(value));
}

TEST(AttentionTest, SameBitsForAnyThreadsAndNeighbours) {
  const Problem all(4, 2, 16, {100, 17, 64});
  const Matrix<float> expected = all.Run(1);
  for (int threads : {2, 5}) {
    const Matrix<float> out = all.Run(threads);
    EXPECT_EQ(std::memcmp(out.data(), expected.data(),
                          out.span().size() * sizeof(float)),
              0);
  }
  // The second sequence alone, and only its first 10 tokens.
  Problem alone = Problem(4, 2, 16, {100, 17, 64});
  alone.lengths = {10};
  Matrix<float> out(10, 64);
  CausalAttention(alone.options, alone.lengths, alone.q.view().Rows(100, 10),
                  alone.k.view().Rows(100, 10), alone.v.view().Rows(100, 10),
                  out.view(), **CreateThreadPool(1));
  EXPECT_EQ(std::memcmp(out.data(), expected.row(100),
                        out.span().size() * sizeof(float)),
            0);
}

TEST(AttentionTest, ReadsPartsOfAFusedMatrix) {
  const Problem p(2, 2, 4, {20});
  Matrix<float> fused(20, 24), out(20, 8);
  for (int64_t r = 0; r < 20; ++r) {
    std::memcpy(fused.row(r), p.q.row(r), 8 * sizeof(float));
    std::memcpy(fused.row(r) + 8, p.k.row(r), 8 * sizeof(float));
    std::memcpy(fused.row(r) + 16, p.v.row(r), 8 * sizeof(float));
  }
  CausalAttention(p.options, p.lengths, fused.view().Cols(0, 8),
                  fused.view().Cols(8, 8), fused.view().Cols(16, 8), out.view(),
                  **CreateThreadPool(1));
  const Matrix<float> expected = p.Run(1);
  EXPECT_EQ(std::memcmp(out.data(), expected.data(),
                        out.span().size() * sizeof(float)),
            0);
}

}  // namespace
}  // namespace qeff
