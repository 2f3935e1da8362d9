// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_bf16/matmul_bf16.h"

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "qeff/kernels/matmul_bf16/matmul_bf16_reference.h"
#include "qeff/kernels/matmul_bf16/pack_bf16_activations.h"
#include "qeff/kernels/matmul_bf16/pack_bf16_weights.h"
#include "qeff/kernels/matmul_bf16/sparse_bf16_weights.h"
#include "qeff/kernels/prefetch/stream_fetcher.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/aligned.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Operands of one product; results and what the test says about them.
struct Operands {
  int64_t rows, cols, tokens;
  std::vector<uint16_t> w;
  std::vector<float> x;

  Operands(int64_t rows_, int64_t cols_, int64_t tokens_, uint64_t seed,
           float scale = 1)
      : rows(rows_), cols(cols_), tokens(tokens_) {
    const Random weights(seed, 1), activations(seed, 2);
    for (int64_t i = 0; i < rows * cols; ++i) {
      w.push_back(FloatToBF16(scale * weights.NormalAt(uint64_t(i))));
    }
    for (int64_t i = 0; i < tokens * cols; ++i) {
      x.push_back(scale * activations.NormalAt(uint64_t(i)));
    }
  }
  // Sets weights to 0: any with the probability `share`, or for 24 two of four
  // columns.
  Operands& Remove(double share) {
    const Random random(5);
    for (int64_t i = 0; i < rows * cols; ++i) {
      const bool removed =
          share == 24
              ? (i / cols + i % cols) % 4 < 2
              : static_cast<double>(random.At(uint64_t(i)) >> 11) * 0x1p-53 <
                    share;
      if (removed) w[size_t(i)] = 0;
    }
    return *this;
  }
  const uint16_t* Row(int64_t r) const { return w.data() + r * cols; }
  const float* Token(int64_t t) const { return x.data() + t * cols; }
};

class MatMulBF16Test : public ::testing::Test {
 protected:
  void SetUp() override { targets_ = hwy::SupportedAndGeneratedTargets(); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }

  // Calls check(y, stride) with the result on every target and either way, of
  // dense weights and of the same without their zeros; `y` begins at an odd
  // address and has infinity between its rows.
  void ForEachWay(const Operands& o,
                  const std::function<void(const float*, int64_t)>& check) {
    const auto layout = *PackedBF16Layout::Create(o.rows, o.cols);
    AlignedArray<uint8_t> w(static_cast<size_t>(layout.total_bytes()));
    PackBF16Weights(
        layout,
        absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(o.w.data()),
                            2 * o.w.size()),
        0, layout.panels(), w.span());
    const auto sparse = SparseLayoutOf(layout, w.span(), pool_.get());
    AlignedArray<uint8_t> kept(static_cast<size_t>(sparse.total_bytes()));
    CompressBF16Weights(sparse, w.span(), kept.span(), pool_.get());
    const PackedBF16Weights forms[] = {{layout, w.span()},
                                       {sparse, kept.span()}};
    const BF16ActivationLayout activations(o.tokens, o.cols);
    AlignedArray<uint8_t> x(static_cast<size_t>(activations.total_bytes()));
    PackBF16Activations(activations, o.x, o.cols, x.span(), *pool_);
    const int64_t stride = o.rows + 3;
    // Cases take turns: both give the same.
    StreamFetcher::SetHelpsForTest(!StreamFetcher::Helps());
    for (int64_t target : targets_) {
      hwy::SetSupportedTargetsForTest(target);
      for (int way = 0; way < 4; ++way) {
        const BF16Dot dot =
            way % 2 == 0 ? BF16Dot::kInstruction : BF16Dot::kWidened;
        SCOPED_TRACE(absl::StrCat(hwy::TargetName(target), " [", o.rows, ", ",
                                  o.cols, "] x ", o.tokens,
                                  dot == BF16Dot::kWidened ? " widened" : "",
                                  way < 2 ? "" : " sparse"));
        std::vector<float> y(static_cast<size_t>(1 + o.tokens * stride),
                             kInfinity);
        MatMulBF16(forms[way / 2], {activations, x.span()},
                   absl::MakeSpan(y).subspan(1), stride, *pool_, dot);
        check(y.data() + 1, stride);
        if (HasFatalFailure()) return;
      }
    }
  }

  // Every element is within the documented bound and, unless numbers are
  // subnormal, has the bits of the documented order.
  void Check(const Operands& o, bool subnormal = false) {
    std::vector<ExactBF16Product> exact;
    std::vector<float> in_order;
    for (int64_t t = 0; t < o.tokens; ++t) {
      for (int64_t r = 0; r < o.rows; ++r) {
        exact.push_back(MatMulBF16Exact(o.Row(r), o.Token(t), o.cols));
        in_order.push_back(MatMulBF16InOrder(o.Row(r), o.Token(t), o.cols));
      }
    }
    // Each of `cols` sums rounds once; products are exact.
    const double nu = static_cast<double>(o.cols) * 0x1p-24;
    ForEachWay(o, [&](const float* y, int64_t stride) {
      for (int64_t t = 0; t < o.tokens; ++t) {
        for (int64_t r = 0; r < stride; ++r) {
          const float found = y[t * stride + r];
          if (r >= o.rows) {
            ASSERT_EQ(found, kInfinity) << "between rows, token " << t;
            continue;
          }
          const size_t i = static_cast<size_t>(t * o.rows + r);
          ASSERT_LE(std::abs(found - exact[i].value),
                    nu / (1 - nu) * exact[i].magnitude + exact[i].flushed)
              << "token " << t << " row " << r;
          if (!subnormal) {
            ASSERT_EQ(found, in_order[i]) << "token " << t << " row " << r;
          }
        }
      }
    });
  }

  std::vector<int64_t> targets_;
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

TEST_F(MatMulBF16Test, EveryNumberOfTokens) {
  for (int64_t tokens = 1; tokens <= 26; ++tokens) {
    Check(Operands(37, 70, tokens, 1));
  }
}

TEST_F(MatMulBF16Test, EveryNumberOfRows) {
  for (int64_t rows = 1; rows <= 66; ++rows) {
    Check(Operands(rows, 40, 1 + rows % 5, 2));
  }
}

TEST_F(MatMulBF16Test, EveryNumberOfColumns) {
  for (int64_t cols = 1; cols <= 80; ++cols) {
    Check(Operands(33, cols, 1 + cols % 13, 3));
  }
}

TEST_F(MatMulBF16Test, LongRows) {
  Check(Operands(33, 5632, 2, 4));
  Check(Operands(35, 2049, 13, 5));
}

// Zeros that the sparse form leaves out, around the pairs that are expanded at
// once, and weights that have no other.
TEST_F(MatMulBF16Test, PrunedWeights) {
  for (double share : {0.5, 0.9, 1.0, 24.0}) {
    for (int64_t cols : {1, 15, 254, 256, 257, 600}) {
      Check(Operands(45, cols, 1, 11).Remove(share));
      Check(Operands(64, cols, 30, 12).Remove(share));
    }
  }
}

// Numbers in a file may be any: nothing outside of it is read, which a
// sanitizer would see.
TEST_F(MatMulBF16Test, SparseWeightsOfAnyBytes) {
  const auto layout = *(*PackedBF16Layout::Create(70, 40)).Sparse(512);
  const BF16ActivationLayout activations(2, 40);
  AlignedArray<uint8_t> x(static_cast<size_t>(activations.total_bytes()));
  PackBF16Activations(activations, std::vector<float>(80, 1.0f), 40, x.span(),
                      *pool_);
  std::vector<float> y(140);
  for (int64_t target : targets_) {
    hwy::SetSupportedTargetsForTest(target);
    for (uint64_t seed = 0; seed < 20; ++seed) {
      // Of its exact size, so that one byte more is another's.
      AlignedArray<uint8_t> w(static_cast<size_t>(layout.total_bytes()));
      const Random random(seed);
      for (size_t i = 0; i < w.size(); ++i) {
        w.data()[i] = seed == 0 ? 0xFF : static_cast<uint8_t>(random.At(i));
      }
      MatMulBF16({layout, w.span()}, {activations, x.span()}, absl::MakeSpan(y),
                 70, *pool_);
    }
  }
}

// Products are subnormal, or operands are.
TEST_F(MatMulBF16Test, SmallNumbersStayWithinTheBound) {
  for (float scale : {0x1p-60f, 0x1p-64f, 0x1p-70f, 0x1p-126f}) {
    Check(Operands(33, 64, 3, 6, scale), /*subnormal=*/true);
  }
}

TEST_F(MatMulBF16Test, SpecialValuesStayInTheirTokenAndRow) {
  Operands o(40, 17, 3, 7);
  o.x[17 + 5] = kNaN;
  for (int64_t c = 0; c < 17; ++c) o.w[size_t(7 * 17 + c)] = FloatToBF16(1);
  o.w[7 * 17 + 16] = FloatToBF16(kInfinity);
  o.x[16] = o.x[2 * 17 + 16] = -1;
  ForEachWay(o, [&](const float* y, int64_t stride) {
    for (int64_t t = 0; t < o.tokens; ++t) {
      for (int64_t r = 0; r < o.rows; ++r) {
        const float found = y[t * stride + r];
        ASSERT_EQ(std::isnan(found), t == 1) << t << " " << r;
        ASSERT_EQ(found == -kInfinity, t != 1 && r == 7) << t << " " << r;
      }
    }
  });
}

// Weights and tokens of all sizes at once: a token's result does not depend on
// what is computed beside it.
TEST_F(MatMulBF16Test, TokenAloneHasTheSameBits) {
  const Operands all(50, 301, 29, 8);
  for (int64_t t : {0, 11, 12, 28}) {
    Operands one(50, 301, 1, 8);
    one.x.assign(all.Token(t), all.Token(t) + all.cols);
    std::vector<float> alone(50);
    for (int64_t r = 0; r < 50; ++r) {
      alone[size_t(r)] = MatMulBF16InOrder(one.Row(r), one.Token(0), 301);
    }
    const auto same = [&](const float* y) {
      return std::equal(alone.begin(), alone.end(), y);
    };
    ForEachWay(one, [&](const float* y, int64_t) { ASSERT_TRUE(same(y)); });
    ForEachWay(all, [&](const float* y, int64_t stride) {
      ASSERT_TRUE(same(y + t * stride));
    });
  }
}

// More threads than panels: tiles are split as well.
TEST_F(MatMulBF16Test, SameBitsForAnyNumberOfThreads) {
  for (int threads : {1, 3, 8}) {
    pool_ = *CreateThreadPool(threads);
    Check(Operands(70, 96, 50, 9));
    Check(Operands(20, 64, 61, 10));
  }
}

}  // namespace
}  // namespace qeff
