// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/upper_factor.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>

#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/timed_products.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

// X^T X / tokens + damping, of random X.
Matrix<float> RandomHessian(int64_t n, uint64_t seed) {
  const int64_t tokens = n + 5;
  const Random random(seed);
  Matrix<float> x(tokens, n), h(n, n);
  for (int64_t i = 0; i < tokens * n; ++i) {
    x.data()[i] = random.NormalAt(static_cast<uint64_t>(i));
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = i == j ? 0.1 : 0.0;
      for (int64_t t = 0; t < tokens; ++t) {
        sum += static_cast<double>(x.data()[t * n + i]) * x.data()[t * n + j] /
               static_cast<double>(tokens);
      }
      h.data()[i * n + j] = static_cast<float>(sum);
    }
  }
  return h;
}

Matrix<float> Copy(const Matrix<float>& from) {
  Matrix<float> to(from.rows(), from.cols());
  std::copy_n(from.data(), from.rows() * from.cols(), to.data());
  return to;
}

// The largest |R R^T - H| relative to the largest element of H.
double RelativeError(const Matrix<float>& r, const Matrix<float>& h) {
  const int64_t n = h.rows();
  double error = 0, largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) {
      double sum = 0;
      for (int64_t k = j; k < n; ++k) {
        sum += static_cast<double>(r.data()[i * n + k]) * r.data()[j * n + k];
      }
      error = std::max(error, std::abs(sum - h.data()[i * n + j]));
      largest =
          std::max(largest, std::abs(static_cast<double>(h.data()[i * n + j])));
    }
  }
  return error / largest;
}

class UpperFactorTest : public ::testing::Test {
 protected:
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
  TimedProducts products_{*pool_};
  Matrix<float> inverses_;
};

// Blocks of 64 and 128, panels of 256: less than one, one, a little more,
// several.
TEST_F(UpperFactorTest, TimesItsTransposeIsTheMatrix) {
  for (int64_t n : {1, 2, 7, 64, 65, 128, 130, 256, 300, 530}) {
    const Matrix<float> h = RandomHessian(n, static_cast<uint64_t>(n));
    Matrix<float> r = Copy(h);
    ASSERT_TRUE(FactorUpper(r.view(), &inverses_, products_)) << n;
    // Each element is the end of n sums, each rounded: n * 2^-24 of the
    // largest, which is on the diagonal.
    EXPECT_LE(RelativeError(r, h), static_cast<double>(n + 4) * 0x1p-23) << n;
    for (int64_t i = 0; i < n; ++i) EXPECT_GT(r.data()[i * n + i], 0);
  }
}

TEST_F(UpperFactorTest, GivesTheInversesOfBlocksOnTheDiagonal) {
  for (int64_t n : {1, 7, 64, 100, 128, 200, 300, 530}) {
    Matrix<float> r = RandomHessian(n, 5);
    ASSERT_TRUE(FactorUpper(r.view(), &inverses_, products_)) << n;
    ASSERT_EQ(inverses_.rows(), n);
    for (int64_t row = 0; row < n; ++row) {
      const int64_t begin = row / kFactorBlock * kFactorBlock;
      const int64_t size = std::min(n - begin, kFactorBlock);
      for (int64_t col = begin; col < begin + size; ++col) {
        double sum = 0;
        for (int64_t k = std::min(row, col); k < begin + size; ++k) {
          if (k > col) break;
          sum += static_cast<double>(inverses_.row(row)[k - begin]) *
                 r.row(k)[col];
        }
        EXPECT_NEAR(sum, row == col ? 1 : 0, 1e-5) << n << " " << row;
      }
    }
  }
}

TEST_F(UpperFactorTest, ByHand) {
  // R = [2 3; 0 4]: R R^T = [13 12; 12 16].
  Matrix<float> h(2, 2);
  h.data()[0] = 13;
  h.data()[1] = 12;
  h.data()[2] = std::numeric_limits<float>::quiet_NaN();  // not read
  h.data()[3] = 16;
  ASSERT_TRUE(FactorUpper(h.view(), &inverses_, products_));
  EXPECT_EQ(h.data()[0], 2);
  EXPECT_EQ(h.data()[1], 3);
  EXPECT_EQ(h.data()[3], 4);
}

TEST_F(UpperFactorTest, RefusesWhatIsNotPositiveDefinite) {
  for (int64_t n : {1, 50, 200, 400}) {
    for (float value : {0.0f, -1.0f, std::numeric_limits<float>::infinity(),
                        std::numeric_limits<float>::quiet_NaN()}) {
      for (int64_t at : {int64_t{0}, n / 2, n - 1}) {
        Matrix<float> h = RandomHessian(n, 3);
        h.data()[at * n + at] = value;
        EXPECT_FALSE(FactorUpper(h.view(), &inverses_, products_))
            << n << " " << value;
      }
    }
  }
}

TEST_F(UpperFactorTest, SameBitsForAnyNumberOfThreads) {
  const Matrix<float> h = RandomHessian(290, 4);
  Matrix<float> first = Copy(h);
  ASSERT_TRUE(FactorUpper(first.view(), &inverses_, products_));
  for (int threads : {1, 3}) {
    const auto pool = *CreateThreadPool(threads);
    Matrix<float> r = Copy(h);
    TimedProducts products(*pool);
    ASSERT_TRUE(FactorUpper(r.view(), &inverses_, products));
    for (int64_t i = 0; i < 290; ++i) {
      for (int64_t j = i; j < 290; ++j) {
        ASSERT_EQ(r.data()[i * 290 + j], first.data()[i * 290 + j]);
      }
    }
  }
}

}  // namespace
}  // namespace qeff
