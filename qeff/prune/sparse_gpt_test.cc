// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/sparse_gpt.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "Eigen/Cholesky"
#include "Eigen/Core"
#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/remove_lowest.h"
#include "qeff/prune/sparsity_pattern.h"
#include "qeff/quant/gptq.h"
#include "qeff/quant/survivor_fit.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr double kDamping = 0.01;

Matrix<float> Normal(int64_t rows, int64_t cols, uint64_t seed) {
  Matrix<float> out(rows, cols);
  const Random random(seed);
  for (int64_t i = 0; i < rows * cols; ++i) {
    out.data()[i] = random.NormalAt(static_cast<uint64_t>(i));
  }
  return out;
}

// Of inputs that depend on each other and have different energies.
Matrix<float> Correlated(int64_t n, uint64_t seed) {
  const int64_t tokens = 3 * n;
  Matrix<float> x = Normal(tokens, n, seed);
  for (int64_t t = 0; t < tokens; ++t) {
    float* row = x.row(t);
    for (int64_t i = 1; i < n; ++i) row[i] = 0.6f * row[i] + 0.7f * row[i - 1];
    for (int64_t i = 0; i < n; ++i) row[i] *= 1.0f + 0.1f * float(i * 7 % 11);
  }
  Matrix<float> h(n, n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t t = 0; t < tokens; ++t) {
        sum += double(x.row(t)[i]) * double(x.row(t)[j]);
      }
      h.row(i)[j] = float(sum / double(tokens));
    }
  }
  return h;
}

Matrix<float> Identity(int64_t n) {
  Matrix<float> h(n, n);
  for (int64_t i = 0; i < n; ++i) h.row(i)[i] = 1;
  return h;
}

SparsityPattern Pattern(const char* text) {
  return ParseSparsityPattern(text).value();
}

std::vector<float> Values(const Matrix<float>& matrix) {
  return {matrix.data(), matrix.data() + matrix.rows() * matrix.cols()};
}

double Sum(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

double Loss(const Matrix<float>& w, const Matrix<float>& q,
            const Matrix<float>& h) {
  double loss = 0;
  for (int64_t r = 0; r < w.rows(); ++r) {
    for (int64_t i = 0; i < w.cols(); ++i) {
      for (int64_t j = 0; j < w.cols(); ++j) {
        loss += double(w.row(r)[i] - q.row(r)[i]) * double(h.row(i)[j]) *
                double(w.row(r)[j] - q.row(r)[j]);
      }
    }
  }
  return loss;
}

// The paper's algorithm as it stands, in float64 with U of H^-1 = U^T U.
Matrix<float> Paper(const SparsityPattern& pattern, const Matrix<float>& h,
                    const Matrix<float>& weights) {
  const int64_t n = h.rows(), rows = weights.rows();
  Eigen::MatrixXd damped(n, n), w(rows, n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) damped(i, j) = double(h.row(i)[j]);
    for (int64_t r = 0; r < rows; ++r) w(r, i) = double(weights.row(r)[i]);
  }
  damped.diagonal().array() += kDamping * damped.diagonal().mean();
  const Eigen::MatrixXd inverse = Eigen::LLT<Eigen::MatrixXd>(damped).solve(
      Eigen::MatrixXd::Identity(n, n));
  const Eigen::MatrixXd u = Eigen::LLT<Eigen::MatrixXd>(inverse).matrixU();
  constexpr int64_t kBlock = 128;
  Eigen::MatrixXi removed = Eigen::MatrixXi::Zero(rows, n);
  for (int64_t j = 0; j < n; ++j) {
    const auto score = [&](int64_t r, int64_t c) {
      return w(r, c) * w(r, c) / (u(c, c) * u(c, c));
    };
    if (!pattern.grouped() && j % kBlock == 0) {
      std::vector<std::pair<double, std::pair<int64_t, int64_t>>> all;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = j; c < std::min(n, j + kBlock); ++c) {
          all.push_back({score(r, c), {r, c}});
        }
      }
      std::sort(all.begin(), all.end());
      const int64_t count = pattern.Removed(int64_t(all.size()));
      for (int64_t i = 0; i < count; ++i) {
        removed(all[size_t(i)].second.first, all[size_t(i)].second.second) = 1;
      }
    }
    if (pattern.grouped() && j % pattern.group == 0) {
      for (int64_t r = 0; r < rows; ++r) {
        std::vector<std::pair<double, int64_t>> all;
        for (int64_t c = j; c < std::min<int64_t>(n, j + pattern.group); ++c) {
          all.push_back({score(r, c), c});
        }
        std::sort(all.begin(), all.end());
        const int64_t count = pattern.Removed(int64_t(all.size()));
        for (int64_t i = 0; i < count; ++i) {
          removed(r, all[size_t(i)].second) = 1;
        }
      }
    }
    for (int64_t r = 0; r < rows; ++r) {
      const double q = removed(r, j) != 0 ? 0 : w(r, j);
      const double error = (w(r, j) - q) / u(j, j);
      for (int64_t c = j; c < n; ++c) w(r, c) -= error * u(j, c);
      w(r, j) = q;
    }
  }
  Matrix<float> out(rows, n);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < n; ++c) out.row(r)[c] = float(w(r, c));
  }
  return out;
}

class SparseGptTest : public testing::Test {
 protected:
  FactoredHessian Factor(const SparsityPattern& pattern, Matrix<float> h,
                         bool by_energy = true) {
    GptqOptions options = SparseGptFactorOptions(pattern, kDamping);
    options.order_by_energy = by_energy;
    return FactorHessian(std::move(h), options, *pool_);
  }

  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

TEST_F(SparseGptTest, IsThePapersAlgorithm) {
  for (const char* text : {"0.5", "0.3", "2:4", "4:8", "3:5"}) {
    const SparsityPattern pattern = Pattern(text);
    const Matrix<float> h = Correlated(150, 1);
    const FactoredHessian factored =
        Factor(pattern, Correlated(150, 1), /*by_energy=*/false);
    const Matrix<float> expected = Paper(pattern, h, Normal(24, 150, 2));
    Matrix<float> pruned = Normal(24, 150, 2);
    PruneSparseGpt(pattern, factored, 0, pruned.view(), *pool_);
    int64_t other = 0;
    double error = 0, energy = 0;
    for (int64_t i = 0; i < 24 * 150; ++i) {
      const float a = expected.data()[i], b = pruned.data()[i];
      other += (a == 0) != (b == 0);
      error += double(a - b) * double(a - b);
      energy += double(a) * double(a);
    }
    // A tie in float32 may go the other way.
    EXPECT_LE(other, 2) << text;
    EXPECT_LT(error, 1e-4 * energy) << text;
  }
}

TEST_F(SparseGptTest, UnrelatedInputsArePrunedByMagnitude) {
  Matrix<float> pruned = Normal(16, 96, 3);
  PruneSparseGpt(Pattern("2:4"), Factor(Pattern("2:4"), Identity(96)), 2,
                 pruned.view(), *pool_);
  Matrix<float> expected = Normal(16, 96, 3);
  RemoveLowest(Pattern("2:4"), ScoreScope::kRow, {}, expected.view(), *pool_);
  EXPECT_EQ(Values(pruned), Values(expected));

  pruned = Normal(16, 96, 3);
  PruneSparseGpt(Pattern("0.5"), Factor(Pattern("0.5"), Identity(96)), 0,
                 pruned.view(), *pool_);
  expected = Normal(16, 96, 3);
  RemoveLowest(Pattern("0.5"), ScoreScope::kMatrix, {}, expected.view(),
               *pool_);
  EXPECT_EQ(Values(pruned), Values(expected));
}

TEST_F(SparseGptTest, PatternsAreExact) {
  for (const char* text : {"2:4", "4:8", "1:4", "5:7"}) {
    const SparsityPattern pattern = Pattern(text);
    // A tail, and inputs whose energies put it first.
    const int64_t cols = 301;
    Matrix<float> h = Correlated(cols, 4);
    for (int64_t i = 0; i < cols; ++i) {
      h.row(i)[cols - 1] *= 30;
      h.row(cols - 1)[i] *= 30;
    }
    const FactoredHessian factored = Factor(pattern, std::move(h));
    ASSERT_TRUE(factored.usable());
    Matrix<float> pruned = Normal(7, cols, 5);
    PruneSparseGpt(pattern, factored, 1, pruned.view(), *pool_);
    for (int64_t r = 0; r < 7; ++r) {
      for (int64_t c = 0; c < cols; c += pattern.group) {
        const int64_t size = std::min<int64_t>(pattern.group, cols - c);
        EXPECT_EQ(std::count(pruned.row(r) + c, pruned.row(r) + c + size, 0.0f),
                  pattern.Removed(size))
            << text;
      }
    }
  }
  Matrix<float> pruned = Normal(7, 300, 5);
  PruneSparseGpt(Pattern("0.5"), Factor(Pattern("0.5"), Correlated(300, 4)), 1,
                 pruned.view(), *pool_);
  const std::vector<float> values = Values(pruned);
  EXPECT_EQ(std::count(values.begin(), values.end(), 0.0f), 7 * 300 / 2);
}

// Loss: magnitude, Wanda, SparseGPT, and with what is left fitted.
TEST_F(SparseGptTest, MoreKnowledgeLosesLess) {
  for (const char* text : {"0.5", "2:4"}) {
    const SparsityPattern pattern = Pattern(text);
    const Matrix<float> h = Correlated(192, 6);
    const Matrix<float> weights = Normal(32, 192, 7);
    Matrix<float> magnitude = Normal(32, 192, 7);
    RemoveLowest(pattern, ScoreScope::kRow, {}, magnitude.view(), *pool_);
    std::vector<float> norms;
    for (int64_t i = 0; i < 192; ++i) norms.push_back(std::sqrt(h.row(i)[i]));
    Matrix<float> wanda = Normal(32, 192, 7);
    RemoveLowest(pattern, ScoreScope::kRow, norms, wanda.view(), *pool_);
    const FactoredHessian factored = Factor(pattern, Correlated(192, 6));
    Matrix<float> swept = Normal(32, 192, 7), fitted = Normal(32, 192, 7);
    const double swept_loss =
        Sum(PruneSparseGpt(pattern, factored, 0, swept.view(), *pool_));
    const double fitted_loss =
        Sum(PruneSparseGpt(pattern, factored, 4, fitted.view(), *pool_));
    EXPECT_LT(Loss(weights, wanda, h), Loss(weights, magnitude, h));
    EXPECT_LT(Loss(weights, swept, h), 0.8 * Loss(weights, wanda, h));
    EXPECT_LT(fitted_loss, 0.97 * swept_loss);
    EXPECT_NEAR(Loss(weights, swept, factored.damped), swept_loss,
                1e-3 * swept_loss);
  }
}

// The normal equations of a row, solved directly.
TEST_F(SparseGptTest, SurvivorsAreTheBestThereAre) {
  const int64_t n = 200;
  const FactoredHessian factored = Factor(Pattern("0.5"), Correlated(n, 8));
  const Matrix<float> wanted = Normal(3, n, 9);
  Matrix<float> fitted = Normal(3, n, 9);
  RemoveLowest(Pattern("0.5"), ScoreScope::kRow, {}, fitted.view(), *pool_);
  const std::vector<double> losses = FitSurvivors(
      wanted.view(), factored.damped.view(), {40, 0}, fitted.view(), *pool_);
  for (int64_t r = 0; r < 3; ++r) {
    std::vector<int64_t> kept;
    for (int64_t c = 0; c < n; ++c) {
      if (fitted.row(r)[c] != 0) kept.push_back(c);
    }
    const Eigen::Index size = Eigen::Index(kept.size());
    Eigen::MatrixXd a(size, size);
    Eigen::VectorXd b = Eigen::VectorXd::Zero(size);
    for (Eigen::Index i = 0; i < size; ++i) {
      const float* h = factored.damped.row(kept[size_t(i)]);
      for (Eigen::Index j = 0; j < size; ++j) {
        a(i, j) = double(h[kept[size_t(j)]]);
      }
      for (int64_t c = 0; c < n; ++c) {
        b(i) += double(h[c]) * double(wanted.row(r)[c]);
      }
    }
    const Eigen::VectorXd best = Eigen::LLT<Eigen::MatrixXd>(a).solve(b);
    Matrix<float> exact(1, n);
    for (Eigen::Index i = 0; i < size; ++i) {
      exact.row(0)[kept[size_t(i)]] = float(best(i));
    }
    Matrix<float> row(1, n);
    std::copy_n(wanted.row(r), n, row.row(0));
    const double least = Loss(row, exact, factored.damped);
    EXPECT_GT(losses[size_t(r)], 0.999 * least);
    EXPECT_LT(losses[size_t(r)], 1.005 * least);
  }
}

TEST_F(SparseGptTest, WhatIsGoneStaysGone) {
  Matrix<float> pruned = Normal(8, 160, 10);
  RemoveLowest(Pattern("0.7"), ScoreScope::kRow, {}, pruned.view(), *pool_);
  const std::vector<float> before = Values(pruned);
  PruneSparseGpt(Pattern("0.5"), Factor(Pattern("0.5"), Correlated(160, 11)), 2,
                 pruned.view(), *pool_);
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(pruned.data()[i] == 0, before[i] == 0);
  }
}

TEST_F(SparseGptTest, ThreadsDoNotMatter) {
  for (const char* text : {"0.5", "2:4"}) {
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 3}) {
      pool_ = *CreateThreadPool(threads);
      const FactoredHessian factored =
          Factor(Pattern(text), Correlated(160, 12));
      Matrix<float> pruned = Normal(40, 160, 13);
      PruneSparseGpt(Pattern(text), factored, 2, pruned.view(), *pool_);
      results.push_back(Values(pruned));
    }
    EXPECT_EQ(results[0], results[1]);
  }
}

}  // namespace
}  // namespace qeff
