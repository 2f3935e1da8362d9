// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matvec/matvec.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "qeff/kernels/matvec/matvec_reference.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

void StoreWeight(DType dtype, float value, uint8_t* p) {
  if (dtype == DType::kF32) {
    std::memcpy(p, &value, sizeof(value));
    return;
  }
  const uint16_t bits =
      dtype == DType::kBF16 ? FloatToBF16(value) : FloatToF16(value);
  std::memcpy(p, &bits, sizeof(bits));
}

// Random weights that begin `misalignment` bytes after an aligned address,
// with rows that are followed by NaN.
class PoisonedWeights {
 public:
  PoisonedWeights(DType dtype, int64_t rows, int64_t cols, int64_t padding,
                  size_t misalignment, uint64_t seed) {
    const Random random(seed);
    rows_.dtype = dtype;
    rows_.rows = rows;
    rows_.cols = cols;
    rows_.stride_elems = cols + padding;
    const size_t size = DTypeBytes(dtype);
    bytes_.resize(misalignment +
                  static_cast<size_t>(rows * rows_.stride_elems) * size);
    rows_.data = bytes_.data() + misalignment;
    for (int64_t i = 0; i < rows * rows_.stride_elems; ++i) {
      const bool inside = i % rows_.stride_elems < cols;
      const float value =
          inside ? random.NormalAt(static_cast<uint64_t>(i)) : kPoison;
      StoreWeight(dtype, value,
                  bytes_.data() + misalignment + static_cast<size_t>(i) * size);
    }
  }

  const WeightRows& rows() const { return rows_; }
  uint8_t* bytes() { return bytes_.data(); }

 private:
  std::vector<uint8_t> bytes_;
  WeightRows rows_;
};

std::vector<float> RandomVector(int64_t size, uint64_t seed) {
  const Random random(seed, 1);
  std::vector<float> x(static_cast<size_t>(size));
  for (size_t i = 0; i < x.size(); ++i) x[i] = random.NormalAt(i);
  return x;
}

class MatVecTest : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override { targets_ = hwy::SupportedAndGeneratedTargets(); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }

  // Calls `body` with each target of this machine selected in turn.
  template <typename Body>
  void ForEachTarget(const Body& body) {
    for (int64_t target : targets_) {
      hwy::SetSupportedTargetsForTest(target);
      SCOPED_TRACE(hwy::TargetName(target));
      body();
    }
  }

  std::vector<int64_t> targets_;
};

// Every remainder of the lanes and of the rows at a time, any alignment.
TEST_P(MatVecTest, SameBitsAsTheDocumentedOrderOnEveryTarget) {
  constexpr uint64_t kSeed = 1;
  ForEachTarget([&] {
    for (int64_t cols = 0; cols <= 100; ++cols) {
      const int64_t rows = 1 + cols % 6;
      const PoisonedWeights weights(GetParam(), rows, cols, cols % 3,
                                    static_cast<size_t>(cols % 5), kSeed);
      const std::vector<float> x = RandomVector(cols, kSeed);
      std::vector<float> y(static_cast<size_t>(rows), kPoison);
      MatVec(weights.rows(), x, absl::MakeSpan(y));
      for (int64_t r = 0; r < rows; ++r) {
        EXPECT_EQ(y[static_cast<size_t>(r)],
                  MatVecInOrder(weights.rows(), r, x.data()))
            << "row " << r << ", cols " << cols << ", seed " << kSeed;
      }
    }
  });
}

// Every remainder of the rows and vectors of a block, of the lanes, any
// alignment; what lies between rows is poison.
TEST_P(MatVecTest, SeveralVectorsHaveTheBitsOfEachAlone) {
  ForEachTarget([&] {
    for (int64_t cols = 0; cols <= 100; ++cols) {
      const int64_t rows = 1 + cols % 9, count = 1 + cols % 8;
      const int64_t x_stride = cols + cols % 3, y_stride = rows + cols % 2;
      const PoisonedWeights weights(GetParam(), rows, cols, cols % 3,
                                    static_cast<size_t>(cols % 5), 1);
      std::vector<float> x = RandomVector(1 + count * x_stride, 2);
      for (int64_t i = 0; i < count * x_stride; ++i) {
        if (i % x_stride >= cols) x[static_cast<size_t>(1 + i)] = kPoison;
      }
      std::vector<float> y(static_cast<size_t>(1 + count * y_stride), 7.0f);
      MatVecs(weights.rows(),
              {absl::MakeConstSpan(x).subspan(1), count, x_stride},
              absl::MakeSpan(y).subspan(1), y_stride);
      for (int64_t i = 0; i < count * y_stride; ++i) {
        const int64_t t = i / y_stride, r = i % y_stride;
        ASSERT_EQ(y[static_cast<size_t>(1 + i)],
                  r < rows ? MatVecInOrder(weights.rows(), r,
                                           x.data() + 1 + t * x_stride)
                           : 7.0f)
            << "vector " << t << " row " << r << ", cols " << cols;
      }
    }
  });
}

// Bound of the header: each product is rounded once, then passes through at
// most ceil(cols/32) additions to its partial sum and 5 of the tree.
TEST_P(MatVecTest, WithinTheBoundOfTheHeader) {
  constexpr uint64_t kSeed = 2;
  for (int64_t cols : {1, 33, 1000, 5632}) {
    const PoisonedWeights weights(GetParam(), 5, cols, 0, 0, kSeed);
    const std::vector<float> x = RandomVector(cols, kSeed);
    std::vector<float> y(5);
    MatVec(weights.rows(), x, absl::MakeSpan(y));
    const double n = std::ceil(static_cast<double>(cols) / 32) + 6;
    const double u = std::exp2(-24);
    for (int64_t r = 0; r < 5; ++r) {
      const ExactDot exact = MatVecExact(weights.rows(), r, x.data());
      EXPECT_LE(std::fabs(y[static_cast<size_t>(r)] - exact.sum),
                n * u / (1 - n * u) * exact.sum_magnitude)
          << "row " << r << ", cols " << cols << ", seed " << kSeed;
    }
  }
}

// Every 16-bit pattern, through a matrix with one column.
TEST_P(MatVecTest, WidensEveryPatternExactly) {
  if (GetParam() == DType::kF32) GTEST_SKIP() << "nothing to widen";
  std::vector<uint16_t> patterns(65536);
  for (size_t i = 0; i < patterns.size(); ++i) {
    patterns[i] = static_cast<uint16_t>(i);
  }
  const WeightRows w{GetParam(),
                     reinterpret_cast<const uint8_t*>(patterns.data()), 65536,
                     1, 1};
  const std::vector<float> one = {1.0f};
  ForEachTarget([&] {
    std::vector<float> y(patterns.size());
    MatVec(w, one, absl::MakeSpan(y));
    for (int64_t i = 0; i < 65536; ++i) {
      const float expected = WeightAt(w, i, 0);
      const float found = y[static_cast<size_t>(i)];
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(found)) << "pattern " << i;
      } else {
        ASSERT_EQ(found, expected) << "pattern " << i;
      }
    }
  });
}

TEST_P(MatVecTest, PropagatesNaNAndInfinity) {
  PoisonedWeights weights(GetParam(), 2, 40, 0, 0, 3);
  const size_t size = DTypeBytes(GetParam());
  StoreWeight(GetParam(), kPoison, weights.bytes() + 39 * size);
  StoreWeight(GetParam(), std::numeric_limits<float>::infinity(),
              weights.bytes() + 40 * size);
  const std::vector<float> x(40, 0.5f);
  ForEachTarget([&] {
    std::vector<float> y(2);
    MatVec(weights.rows(), x, absl::MakeSpan(y));
    EXPECT_TRUE(std::isnan(y[0]));
    EXPECT_TRUE(std::isinf(y[1]));
  });
}

TEST_P(MatVecTest, RowsCanBeSplitAnywhere) {
  const PoisonedWeights weights(GetParam(), 11, 70, 2, 1, 4);
  const std::vector<float> x = RandomVector(70, 4);
  std::vector<float> whole(11);
  MatVec(weights.rows(), x, absl::MakeSpan(whole));
  for (int64_t split = 0; split <= 11; ++split) {
    std::vector<float> parts(11);
    const absl::Span<float> y = absl::MakeSpan(parts);
    const size_t at = static_cast<size_t>(split);
    MatVec(weights.rows().Rows(0, split), x, y.subspan(0, at));
    MatVec(weights.rows().Rows(split, 11 - split), x, y.subspan(at));
    EXPECT_EQ(parts, whole) << "split at " << split;
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, MatVecTest,
                         ::testing::Values(DType::kF32, DType::kBF16,
                                           DType::kF16),
                         [](const ::testing::TestParamInfo<DType>& info) {
                           return std::string(DTypeName(info.param).data(),
                                              DTypeName(info.param).size());
                         });

TEST(MatVecDeathTest, ChecksShapes) {
  const std::vector<float> data(4);
  const WeightRows w{DType::kF32, reinterpret_cast<const uint8_t*>(data.data()),
                     2, 2, 2};
  std::vector<float> y(2);
  EXPECT_DEATH(MatVec(w, absl::MakeConstSpan(data), absl::MakeSpan(y)),
               "check failed");
}

}  // namespace
}  // namespace qeff
