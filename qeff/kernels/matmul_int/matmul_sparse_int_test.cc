// SPDX-License-Identifier: Apache-2.0
//
// Sparse weights: the bits of the dense product with the same codes.

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "qeff/kernels/matmul_int/matmul_int.h"
#include "qeff/kernels/matmul_int/matmul_int_float.h"
#include "qeff/kernels/matmul_int/matmul_int_testutil.h"
#include "qeff/kernels/matmul_int/quantize_activations.h"
#include "qeff/kernels/matmul_int/sparse_int_weights.h"
#include "qeff/kernels/prefetch/stream_fetcher.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/aligned.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

struct Case {
  int bits;
  int64_t rows;
  int64_t cols;
  int64_t group;
  int64_t tokens;
  DType scale_dtype = DType::kBF16;
  bool asymmetric = false;
};

// Which weights are removed.
enum class Pattern { kNone, kHalf, kMost, kAll, kTwoOfFour, kOneOfFour };
constexpr Pattern kPatterns[] = {Pattern::kNone,      Pattern::kHalf,
                                 Pattern::kMost,      Pattern::kAll,
                                 Pattern::kTwoOfFour, Pattern::kOneOfFour};

bool IsRemoved(Pattern pattern, uint64_t random, int64_t row, int64_t col) {
  switch (pattern) {
    case Pattern::kNone:
      return false;
    case Pattern::kHalf:
      return random >> 63 != 0;
    case Pattern::kMost:
      return random >> 60 != 0;
    case Pattern::kAll:
      return true;
    case Pattern::kTwoOfFour:
      return (row * 7 + col) % 4 < 2;
    case Pattern::kOneOfFour:
      return (row * 7 + col) % 4 != 0;
  }
  return false;
}

class MatMulSparseIntTest : public ::testing::Test {
 protected:
  void SetUp() override { targets_ = hwy::SupportedAndGeneratedTargets(); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }

  void Check(Case c) {
    for (bool asymmetric : {false, true}) {
      c.asymmetric = asymmetric;
      for (Pattern pattern : kPatterns) {
        CheckOne(c, pattern);
        if (HasFatalFailure()) return;
      }
    }
  }

  void CheckOne(const Case& c, Pattern pattern) {
    SCOPED_TRACE(absl::StrCat(
        "int", c.bits, c.asymmetric ? "a_g" : "_g", c.group, " [", c.rows, ", ",
        c.cols, "] x ", c.tokens, " pattern ", static_cast<int>(pattern)));
    const auto layout = *PackedIntLayout::Create(
        c.bits, c.rows, c.cols, c.group, c.scale_dtype, c.asymmetric);
    RandomIntMatrix matrix(layout, 1);
    const Random random(2);
    matrix.Remove([&](int64_t r, int64_t col) {
      return IsRemoved(
          pattern, random.At(static_cast<uint64_t>(r * c.cols + col)), r, col);
    });
    const auto packed = matrix.Pack();
    const auto sparse = SparseLayoutOf(layout, packed.span(), pool_.get());
    ASSERT_TRUE(sparse.has_value());
    AlignedArray<uint8_t> bytes(static_cast<size_t>(sparse->total_bytes()));
    CompressIntWeights(*sparse, packed.span(), bytes.span(), pool_.get());
    CheckProducts(c, {layout, packed.span()}, {*sparse, bytes.span()});
  }

  void CheckProducts(const Case& c, const PackedIntWeights& dense,
                     const PackedIntWeights& sparse) {
    const Random random(3);
    std::vector<float> x(static_cast<size_t>(c.tokens * c.cols));
    for (size_t i = 0; i < x.size(); ++i) x[i] = random.NormalAt(i);
    const ActivationLayout activations(c.tokens, dense.layout);
    AlignedArray<uint8_t> codes(static_cast<size_t>(activations.total_bytes()));
    QuantizeActivations(activations, x, c.cols, codes.span(), *pool_);
    std::vector<float> expected(static_cast<size_t>(c.tokens * c.rows));
    MatMulInt(dense, {activations, codes.span()}, absl::MakeSpan(expected),
              c.rows, *pool_);
    // Cases take turns: both give the same.
    StreamFetcher::SetHelpsForTest(!StreamFetcher::Helps());
    for (int64_t target : targets_) {
      hwy::SetSupportedTargetsForTest(target);
      SCOPED_TRACE(hwy::TargetName(target));
      std::vector<float> y(expected.size());
      MatMulInt(sparse, {activations, codes.span()}, absl::MakeSpan(y), c.rows,
                *pool_);
      ASSERT_EQ(y, expected);
      const FloatActivations floats{x, c.tokens, c.cols};
      std::vector<float> dense_y(expected.size());
      MatMulIntFloat(dense, floats, absl::MakeSpan(dense_y), c.rows, *pool_);
      AlignedArray<uint8_t> scratch(
          static_cast<size_t>(2 * dense.layout.panel_bytes()));
      MatMulIntFloat(sparse, floats, absl::MakeSpan(y), c.rows, *pool_,
                     scratch.span());
      ASSERT_EQ(y, dense_y);
    }
    hwy::SetSupportedTargetsForTest(0);
  }

  std::vector<int64_t> targets_;
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

TEST_F(MatMulSparseIntTest, NumbersOfTokens) {
  for (int bits : {4, 8}) {
    for (int64_t tokens : {1, 2, 11, 13, 40, 120}) {
      Check({bits, 37, 72, 32, tokens});
    }
  }
}

TEST_F(MatMulSparseIntTest, NumbersOfColumns) {
  for (int bits : {4, 8}) {
    for (int64_t cols : {1, 7, 8, 33, 80, 136}) {
      for (int64_t group : {0, 8, 32, 64}) {
        Check({bits, 33, cols, group, 1 + cols % 3, DType::kF32});
      }
    }
  }
}

// Longer than the parts that are expanded at once.
TEST_F(MatMulSparseIntTest, LongRows) {
  for (int bits : {4, 8}) {
    for (Pattern pattern : {Pattern::kHalf, Pattern::kTwoOfFour}) {
      CheckOne({bits, 70, 3000, 0, 1, DType::kF16}, pattern);
      CheckOne({bits, 33, 2100, 128, 1, DType::kBF16, true}, pattern);
      CheckOne({bits, 33, 2100, 1024, 25}, pattern);
    }
  }
}

// Whatever the bytes are, nothing outside of them is read (which asan sees),
// and what is written is finite sums of some codes.
TEST_F(MatMulSparseIntTest, BytesOfNoMatrixAreHarmless) {
  const Random random(5);
  for (int bits : {4, 8}) {
    const auto dense =
        *PackedIntLayout::Create(bits, 100, 200, 32, DType::kBF16);
    for (bool two_of_four : {false, true}) {
      const auto sparse = dense.Sparse(
          {two_of_four ? dense.panels() * dense.panel_pairs_bytes() : 512,
           two_of_four});
      ASSERT_TRUE(sparse.ok());
      const size_t size = static_cast<size_t>(sparse->total_bytes());
      const std::unique_ptr<uint8_t[], decltype(&std::free)> memory(
          static_cast<uint8_t*>(std::aligned_alloc(64, size)), &std::free);
      for (bool ones : {false, true}) {
        for (size_t i = 0; i < size; ++i) {
          memory[i] = ones ? 0xFF : static_cast<uint8_t>(random.At(i) >> 50);
        }
        const ActivationLayout activations(3, dense);
        AlignedArray<uint8_t> codes(
            static_cast<size_t>(activations.total_bytes()));
        const std::vector<float> x(3 * 200, 1.0f);
        QuantizeActivations(activations, x, 200, codes.span(), *pool_);
        std::vector<float> y(300);
        for (int64_t target : targets_) {
          hwy::SetSupportedTargetsForTest(target);
          MatMulInt({*sparse, absl::MakeConstSpan(memory.get(), size)},
                    {activations, codes.span()}, absl::MakeSpan(y), 100,
                    *pool_);
        }
      }
    }
  }
}

}  // namespace
}  // namespace qeff
