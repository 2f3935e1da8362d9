// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_int/matmul_int.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "qeff/kernels/matmul_int/matmul_int_reference.h"
#include "qeff/kernels/matmul_int/matmul_int_testutil.h"
#include "qeff/kernels/matmul_int/pack_int_weights.h"
#include "qeff/kernels/matmul_int/quantize_activations.h"
#include "qeff/kernels/prefetch/stream_fetcher.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/aligned.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr float kPoison = std::numeric_limits<float>::infinity();

struct Case {
  int bits;
  int64_t rows;
  int64_t cols;
  int64_t group;
  int64_t tokens;
  DType scale_dtype = DType::kBF16;
  bool asymmetric = false;

  std::string Name() const {
    return absl::StrCat("int", bits, asymmetric ? "a_g" : "_g", group, " [",
                        rows, ", ", cols, "] x ", tokens);
  }
};

class MatMulIntTest : public ::testing::Test {
 protected:
  void SetUp() override { targets_ = hwy::SupportedAndGeneratedTargets(); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }

  // The product of random operands on every target: each element has the bits
  // of the documented order and is within the documented bound; what lies
  // between rows of the result is untouched.
  void Check(const Case& c, uint64_t seed, const std::vector<float>& x) {
    SCOPED_TRACE(absl::StrCat(c.Name(), ", seed ", seed));
    const auto layout = PackedIntLayout::Create(c.bits, c.rows, c.cols, c.group,
                                                c.scale_dtype, c.asymmetric);
    ASSERT_TRUE(layout.ok());
    const RandomIntMatrix matrix(*layout, seed);
    const auto packed = matrix.Pack();
    const ActivationLayout activations(c.tokens, *layout);
    AlignedArray<uint8_t> codes(static_cast<size_t>(activations.total_bytes()));
    QuantizeActivations(activations, x, c.cols, codes.span(), *pool_);
    std::vector<ReferenceRow> rows;
    for (int64_t r = 0; r < c.rows; ++r) rows.push_back(matrix.Row(r));
    const int64_t stride = c.rows + 3;
    const size_t start = static_cast<size_t>(c.tokens % 4);
    // Cases take turns: both give the same.
    StreamFetcher::SetHelpsForTest(!StreamFetcher::Helps());
    for (int64_t target : targets_) {
      hwy::SetSupportedTargetsForTest(target);
      SCOPED_TRACE(hwy::TargetName(target));
      std::vector<float> y(start + static_cast<size_t>(c.tokens * stride),
                           kPoison);
      MatMulInt({*layout, packed.span()}, {activations, codes.span()},
                absl::MakeSpan(y).subspan(start), stride, *pool_);
      for (int64_t t = 0; t < c.tokens; ++t) {
        CheckToken(rows, QuantizeTokenReference(x.data() + t * c.cols, c.cols),
                   y.data() + start + t * stride, stride);
        if (HasFatalFailure()) return;
      }
    }
  }

  // Without and with zero points.
  void CheckRandom(Case c, uint64_t seed) {
    for (bool asymmetric : {false, true}) {
      c.asymmetric = asymmetric;
      CheckOne(c, seed);
    }
  }

  void CheckOne(const Case& c, uint64_t seed) {
    const Random random(seed, 2);
    std::vector<float> x(static_cast<size_t>(c.tokens * c.cols));
    for (size_t i = 0; i < x.size(); ++i) x[i] = random.NormalAt(i);
    Check(c, seed, x);
  }

  static void CheckToken(const std::vector<ReferenceRow>& rows,
                         const ReferenceToken& token, const float* y,
                         int64_t stride) {
    for (size_t r = 0; r < rows.size(); ++r) {
      ASSERT_EQ(y[r], MatMulIntInOrder(rows[r], token)) << "row " << r;
      // Each of G products and sums, the conversion of d_g and the factor of
      // the token round once: at most G + 3 times on any path.
      const double n = static_cast<double>(rows[r].scales.size()) + 3;
      const double u = std::exp2(-24);
      const ExactProduct exact = MatMulIntExact(rows[r], token);
      ASSERT_LE(std::abs(static_cast<double>(y[r]) - exact.value),
                n * u / (1 - n * u) * exact.magnitude + std::exp2(-140))
          << "row " << r;
    }
    for (size_t r = rows.size(); r < static_cast<size_t>(stride); ++r) {
      ASSERT_EQ(y[r], kPoison) << "padding " << r;
    }
  }

  std::vector<int64_t> targets_;
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

TEST_F(MatMulIntTest, EveryNumberOfTokens) {
  for (int bits : {2, 3, 4, 8}) {
    for (int64_t tokens = 1; tokens <= 26; ++tokens) {
      CheckRandom({bits, 37, 72, 32, tokens}, 1);
    }
  }
}

TEST_F(MatMulIntTest, EveryNumberOfRows) {
  for (int bits : {2, 3, 4, 8}) {
    for (int64_t rows = 1; rows <= 66; ++rows) {
      CheckRandom({bits, rows, 40, 0, 1 + rows % 5}, 2);
    }
  }
}

TEST_F(MatMulIntTest, EveryNumberOfColumns) {
  for (int bits : {2, 3, 4, 8}) {
    for (int64_t cols = 1; cols <= 80; ++cols) {
      for (int64_t group : {0, 8, 32, 64}) {
        CheckRandom({bits, 33, cols, group, 1 + cols % 13}, 3);
      }
    }
  }
}

TEST_F(MatMulIntTest, EveryTypeOfScales) {
  for (int bits : {2, 3, 4, 8}) {
    for (DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
      CheckRandom({bits, 35, 100, 32, 3, dtype}, 4);
    }
  }
}

// Sums of a long row exceed 2^24, where conversion to float rounds.
TEST_F(MatMulIntTest, LongRows) {
  CheckRandom({8, 33, 5632, 0, 2}, 5);
  CheckRandom({4, 33, 5632, 128, 13}, 6);
  for (int bits : {2, 3, 4}) CheckRandom({bits, 33, 5000, 0, 13}, 7);
}

// Longer than what is fetched ahead at once.
TEST_F(MatMulIntTest, SeveralPanelsOfLongGroups) {
  for (int bits : {2, 3, 4, 8}) {
    for (int64_t rows : {32, 97, 300}) {
      CheckRandom({bits, rows, 1100, 0, 3}, 11);
      CheckRandom({bits, rows, 4200, 1024, 1}, 12);
    }
  }
}

// The largest sum of products in magnitude, 2^17 * 127 * 128, fits.
TEST_F(MatMulIntTest, ExtremeCodesOfTheLongestGroup) {
  const int64_t cols = kMaxGroupElems;
  const auto layout = PackedIntLayout::Create(8, 1, cols, 0, DType::kF32);
  ASSERT_TRUE(layout.ok());
  const float one = 1.0f;
  const std::vector<uint8_t> scale(reinterpret_cast<const uint8_t*>(&one),
                                   reinterpret_cast<const uint8_t*>(&one) + 4);
  const std::vector<uint8_t> codes(static_cast<size_t>(cols), 0);  // -128
  QuantizedRowsView view;
  view.bits = 8;
  view.cols = cols;
  view.group_elems = cols;
  view.scale_dtype = DType::kF32;
  view.packed = codes;
  view.scales = scale;
  AlignedArray<uint8_t> packed(static_cast<size_t>(layout->total_bytes()));
  PackIntWeights(*layout, view, 0, 1, packed.span());
  const ActivationLayout activations(1, *layout);
  AlignedArray<uint8_t> x(static_cast<size_t>(activations.total_bytes()));
  for (int64_t target : targets_) {
    hwy::SetSupportedTargetsForTest(target);
    for (float value : {127.0f, -127.0f}) {
      const std::vector<float> values(static_cast<size_t>(cols), value);
      QuantizeActivations(activations, values, cols, x.span(), *pool_);
      float y;
      MatMulInt({*layout, packed.span()}, {activations, x.span()},
                absl::MakeSpan(&y, 1), 1, *pool_);
      EXPECT_EQ(y, value * 128.0f * -131072.0f) << hwy::TargetName(target);
    }
  }
}

TEST_F(MatMulIntTest, NanStaysInItsToken) {
  const auto layout = PackedIntLayout::Create(4, 40, 64, 32, DType::kF16);
  const RandomIntMatrix matrix(*layout, 8);
  const auto packed = matrix.Pack();
  const ActivationLayout activations(3, *layout);
  AlignedArray<uint8_t> codes(static_cast<size_t>(activations.total_bytes()));
  std::vector<float> x(3 * 64, 1.0f), y(3 * 40);
  x[64 + 5] = std::numeric_limits<float>::quiet_NaN();
  QuantizeActivations(activations, x, 64, codes.span(), *pool_);
  MatMulInt({*layout, packed.span()}, {activations, codes.span()},
            absl::MakeSpan(y), 40, *pool_);
  for (size_t i = 0; i < y.size(); ++i) {
    EXPECT_EQ(std::isnan(y[i]), i / 40 == 1) << i;
  }
}

// The products of one call are those of several calls, whatever their sizes.
TEST_F(MatMulIntTest, SeveralProductsAtOnce) {
  constexpr int64_t kCols = 200;
  for (int64_t tokens : {1, 7, 40}) {
    std::vector<RandomIntMatrix> matrices;
    std::vector<AlignedArray<uint8_t>> packed;
    std::vector<std::vector<float>> together, alone;
    std::vector<IntProduct> products;
    for (int64_t rows : {70, 1, 33, 128}) {
      const int bits = rows == 33 ? 8 : 4;
      matrices.emplace_back(
          *PackedIntLayout::Create(bits, rows, kCols, 32, DType::kF16),
          static_cast<uint64_t>(rows));
      packed.push_back(matrices.back().Pack());
      together.emplace_back(tokens * rows);
      alone.emplace_back(tokens * rows);
    }
    const ActivationLayout activations(tokens, kCols, 32);
    AlignedArray<uint8_t> x(static_cast<size_t>(activations.total_bytes()));
    std::vector<float> values(static_cast<size_t>(tokens * kCols));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = Random(5).NormalAt(i);
    QuantizeActivations(activations, values, kCols, x.span(), *pool_);
    for (size_t i = 0; i < matrices.size(); ++i) {
      const PackedIntLayout& layout = matrices[i].layout();
      const PackedIntWeights weights{layout, packed[i].span()};
      products.push_back({weights, absl::MakeSpan(together[i]), layout.rows()});
      MatMulInt(weights, {activations, x.span()}, absl::MakeSpan(alone[i]),
                layout.rows(), *pool_);
    }
    MatMulInts(products, {activations, x.span()}, *pool_);
    EXPECT_EQ(together, alone) << tokens << " tokens";
  }
}

// More threads than panels: tiles are split as well.
TEST_F(MatMulIntTest, SameBitsForAnyNumberOfThreads) {
  for (int threads : {1, 3, 8}) {
    pool_ = *CreateThreadPool(threads);
    CheckRandom({4, 70, 96, 32, 50}, 9);
    CheckRandom({8, 20, 64, 0, 61}, 10);
  }
}

}  // namespace
}  // namespace qeff
