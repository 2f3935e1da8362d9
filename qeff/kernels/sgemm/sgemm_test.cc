// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/sgemm/sgemm.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "hwy/targets.h"
#include "qeff/kernels/sgemm/sgemm_reference.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr float kPoison = 12345.0f;

// A matrix inside of a larger one that is poisoned, off alignment.
class Poisoned {
 public:
  Poisoned(int64_t rows, int64_t cols, uint64_t seed)
      : stride_(cols + 3),
        rows_(rows),
        cols_(cols),
        values_(static_cast<size_t>(rows * stride_ + 1), kPoison) {
    const Random random(seed);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        view().row(r)[c] = random.NormalAt(static_cast<uint64_t>(r * cols + c));
      }
    }
  }

  MatrixView<float> view() {
    return MatrixView<float>(values_.data() + 1, rows_, cols_, stride_);
  }

  bool SurroundingsAreLeftAlone() const {
    for (size_t i = 0; i < values_.size(); ++i) {
      const int64_t at = static_cast<int64_t>(i) - 1;
      const bool inside = at >= 0 && at % stride_ < cols_;
      if (!inside && values_[i] != kPoison) return false;
    }
    return true;
  }

 private:
  const int64_t stride_, rows_, cols_;
  std::vector<float> values_;
};

struct Case {
  int64_t m, n, k;
  bool a_transposed = false, b_transposed = false;
  SgemmUpdate update = SgemmUpdate::kSet;
  bool upper_only = false;
};

class SgemmTest : public ::testing::Test {
 protected:
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }

  static std::vector<int64_t> Targets() {
    std::vector<int64_t> targets;
    for (int64_t rest = hwy::SupportedTargets(); rest != 0; rest &= rest - 1) {
      targets.push_back(rest & -rest);
    }
    return targets;
  }

  void Check(const Case& c) {
    SCOPED_TRACE(::testing::Message()
                 << c.m << " x " << c.n << " x " << c.k << " transposed "
                 << c.a_transposed << c.b_transposed << " update "
                 << static_cast<int>(c.update) << " upper " << c.upper_only);
    for (const int64_t target : Targets()) {
      hwy::SetSupportedTargetsForTest(target);
      SCOPED_TRACE(hwy::TargetName(target));
      CheckOnTarget(c);
    }
    hwy::SetSupportedTargetsForTest(0);
  }

  void CheckOnTarget(const Case& c) {
    Poisoned a(c.a_transposed ? c.k : c.m, c.a_transposed ? c.m : c.k, 1);
    Poisoned b(c.b_transposed ? c.n : c.k, c.b_transposed ? c.k : c.n, 2);
    Poisoned before(c.m, c.n, 3), out(c.m, c.n, 3);
    SgemmArgs args;
    args.a = a.view();
    args.b = b.view();
    args.c = out.view();
    args.a_transposed = c.a_transposed;
    args.b_transposed = c.b_transposed;
    args.update = c.update;
    args.upper_only = c.upper_only;
    Sgemm(args, *pool_);
    ASSERT_TRUE(out.SurroundingsAreLeftAlone());
    // Each of the runs of up to 256 sums, of their sums and of the addition to
    // C rounds once a step, twice without fused multiply-add.
    const double steps =
        2.0 * static_cast<double>(std::min<int64_t>(c.k, 256) + c.k / 256 + 1);
    const double u = std::exp2(-24);
    for (int64_t i = 0; i < c.m; ++i) {
      for (int64_t j = c.upper_only ? i : 0; j < c.n; ++j) {
        const SgemmElement product = SgemmExact(args, i, j);
        const double start =
            c.update == SgemmUpdate::kSet ? 0.0 : before.view().row(i)[j];
        const double expected =
            start +
            (c.update == SgemmUpdate::kSubtract ? -1 : 1) * product.value;
        const double bound = steps * u * product.magnitude +
                             static_cast<double>(c.k / 256 + 1) * u *
                                 (std::abs(start) + product.magnitude);
        ASSERT_LE(
            std::abs(static_cast<double>(out.view().row(i)[j]) - expected),
            bound)
            << "element " << i << ", " << j;
      }
    }
  }

  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

TEST_F(SgemmTest, EveryRemainderOfTiles) {
  for (int64_t size = 0; size <= 36; ++size) {
    Check({size, 35, 7});
    Check({13, size, 9});
    Check({14, 33, size});
  }
}

TEST_F(SgemmTest, EveryFormAndUpdate) {
  for (bool a_transposed : {false, true}) {
    for (bool b_transposed : {false, true}) {
      for (SgemmUpdate update :
           {SgemmUpdate::kSet, SgemmUpdate::kAdd, SgemmUpdate::kSubtract}) {
        Check({37, 70, 40, a_transposed, b_transposed, update});
      }
    }
  }
}

// More than one block of each size.
TEST_F(SgemmTest, SeveralBlocks) {
  Check({250, 40, 520});
  Check({30, 530, 260, true, true, SgemmUpdate::kAdd});
  Check({500, 70, 30, true, false, SgemmUpdate::kSubtract});
}

TEST_F(SgemmTest, UpperTriangle) {
  for (int64_t size : {1, 12, 33, 100, 530}) {
    Check({size, size, 20, true, false, SgemmUpdate::kAdd, true});
  }
}

TEST_F(SgemmTest, SameBitsForAnyNumberOfThreadsAndPlace) {
  constexpr int64_t kSize = 300;
  Poisoned a(kSize, kSize, 4), b(kSize, kSize, 5);
  Matrix<float> first(kSize, kSize);
  for (int threads : {1, 2, 5}) {
    pool_ = *CreateThreadPool(threads);
    Matrix<float> c(kSize, kSize);
    SgemmArgs args;
    args.a = a.view();
    args.b = b.view();
    args.c = MatrixView<float>(c.data(), kSize, kSize);
    Sgemm(args, *pool_);
    if (threads == 1)
      first = std::move(c);
    else
      EXPECT_TRUE(std::equal(first.span().begin(), first.span().end(),
                             c.span().begin()));
  }
  // A part of C alone.
  Matrix<float> part(7, 5);
  SgemmArgs args;
  args.a = a.view().Rows(200, 7);
  args.b = b.view().Cols(111, 5);
  args.c = MatrixView<float>(part.data(), 7, 5);
  Sgemm(args, *pool_);
  for (int64_t r = 0; r < 7; ++r) {
    for (int64_t c = 0; c < 5; ++c) {
      EXPECT_EQ(part.data()[r * 5 + c],
                first.data()[(200 + r) * kSize + 111 + c]);
    }
  }
}

// More than one block of columns, and another scratch use before.
TEST_F(SgemmTest, SameBitsOnThisThread) {
  SgemmScratch scratch;
  for (const Case& c : {Case{60, 40, 33, true}, Case{70, 530, 300},
                        Case{30, 20, 0}, Case{48, 64, 70, false, true}}) {
    Poisoned a(c.a_transposed ? c.k : c.m, c.a_transposed ? c.m : c.k, 9);
    Poisoned b(c.b_transposed ? c.n : c.k, c.b_transposed ? c.k : c.n, 10);
    Poisoned pooled(c.m, c.n, 11), alone(c.m, c.n, 12);
    SgemmArgs args;
    args.a = a.view();
    args.b = b.view();
    args.a_transposed = c.a_transposed;
    args.b_transposed = c.b_transposed;
    args.c = pooled.view();
    Sgemm(args, *pool_, scratch);
    args.c = alone.view();
    SgemmOnThisThread(args, scratch);
    ASSERT_TRUE(alone.SurroundingsAreLeftAlone());
    for (int64_t i = 0; i < c.m; ++i) {
      for (int64_t j = 0; j < c.n; ++j) {
        ASSERT_EQ(alone.view().row(i)[j], pooled.view().row(i)[j])
            << "element " << i << ", " << j;
      }
    }
  }
}

// Padding must not turn an infinity into NaN.
TEST_F(SgemmTest, InfinityStaysInItsRow) {
  Poisoned a(5, 3, 6), b(3, 4, 7), c(5, 4, 8);
  a.view().row(2)[1] = std::numeric_limits<float>::infinity();
  SgemmArgs args;
  args.a = a.view();
  args.b = b.view();
  args.c = c.view();
  Sgemm(args, *pool_);
  for (int64_t r = 0; r < 5; ++r) {
    for (int64_t col = 0; col < 4; ++col) {
      EXPECT_EQ(std::isinf(c.view().row(r)[col]), r == 2);
    }
  }
}

}  // namespace
}  // namespace qeff
