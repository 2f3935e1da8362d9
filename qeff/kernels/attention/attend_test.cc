// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/attention/attend.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "qeff/kernels/attention/attention_testutil.h"
#include "qeff/kernels/attention/kv_layout.h"
#include "qeff/kernels/attention/kv_reference.h"
#include "qeff/kernels/attention/store_kv.h"
#include "qeff/util/aligned.h"

namespace qeff {
namespace {

constexpr uint64_t kSeed = 1;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class AttendTest : public ::testing::TestWithParam<DType> {
 protected:
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }

  // Calls `body` with each target of this machine selected in turn.
  template <typename Body>
  void ForEachTarget(const Body& body) {
    for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
      hwy::SetSupportedTargetsForTest(target);
      SCOPED_TRACE(hwy::TargetName(target));
      body();
    }
  }
};

struct Shape {
  int64_t head_dim, heads, first_position, tokens, window;
  bool alibi;
};

std::string Name(const Shape& s) {
  return "head_dim " + std::to_string(s.head_dim) + ", heads " +
         std::to_string(s.heads) + ", position " +
         std::to_string(s.first_position) + ", tokens " +
         std::to_string(s.tokens) + ", window " + std::to_string(s.window) +
         (s.alibi ? ", ALiBi" : "");
}

const std::vector<float>& Slopes() {
  static const auto* slopes = new std::vector<float>{
      0.5f, 0.0f, 0.25f, 0.125f, 1.0f, 0.01f, 0.3f, 0.7f, 0.2f, 0.9f, 0.6f};
  return *slopes;
}

AttendOptions OptionsOf(const Shape& shape) {
  AttendOptions options;
  options.heads = shape.heads;
  options.scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  options.sliding_window = shape.window;
  if (shape.alibi) {
    options.slopes =
        absl::MakeConstSpan(Slopes()).first(static_cast<size_t>(shape.heads));
  }
  return options;
}

void ExpectExact(const PoisonedCache& cache, const Shape& shape,
                 Queries& queries) {
  const AttendOptions options = OptionsOf(shape);
  for (int64_t t = 0; t < shape.tokens; ++t) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      const ExactOutput exact = AttendExactly(
          cache.layout(), cache.bytes().data(), options, queries.All(), t, h);
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        const size_t i = static_cast<size_t>(d);
        const float found = queries.out()[static_cast<size_t>(
            t * queries.stride() + h * shape.head_dim + d)];
        ASSERT_LE(std::fabs(found - exact.values[i]), exact.bounds[i])
            << "token " << t << ", head " << h << ", dim " << d << ", "
            << Name(shape) << ", seed " << kSeed;
      }
    }
    for (int64_t i = queries.stride() - 3; i < queries.stride(); ++i) {
      EXPECT_EQ(queries.out()[static_cast<size_t>(t * queries.stride() + i)],
                -1.0f);
    }
  }
}

// Against double, and the same bits on every target.
void ExpectRight(DType dtype, const Shape& shape) {
  const int64_t positions = shape.first_position + shape.tokens;
  PoisonedCache cache(dtype, shape.head_dim, positions);
  cache.Fill(positions, kSeed);
  std::vector<float> first;
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    Queries queries(cache.layout(), shape.first_position, shape.tokens,
                    shape.heads, kSeed + 7);
    Attend(cache.layout(), cache.bytes(), OptionsOf(shape), queries.All(),
           queries.scratch());
    if (first.empty()) {
      ExpectExact(cache, shape, queries);
      first = queries.out();
    }
    ASSERT_EQ(queries.out(), first)
        << hwy::TargetName(target) << ", " << Name(shape);
  }
  hwy::SetSupportedTargetsForTest(0);
}

TEST_P(AttendTest, EveryNumberOfPositions) {
  for (int64_t p = 0; p < 70; ++p) {
    ExpectRight(GetParam(), {8, 1 + p % 4, p, 1, 0, false});
  }
}

TEST_P(AttendTest, EveryHeadDim) {
  for (int64_t n = 1; n <= 70; ++n) {
    ExpectRight(GetParam(), {n, 1 + n % 3, 35, 2, 0, false});
  }
}

TEST_P(AttendTest, EveryNumberOfHeadsAndTokens) {
  for (int64_t heads = 1; heads <= 11; ++heads) {
    for (int64_t tokens : {1, 2, 3, 4, 5, 6, 7, 25}) {
      ExpectRight(GetParam(), {6, heads, 20, tokens, 0, heads % 2 == 0});
    }
  }
}

TEST_P(AttendTest, AcrossChunks) {
  for (int64_t first : {0, 240, 255, 256, 700}) {
    ExpectRight(GetParam(), {16, 2, first, 40, 0, false});
    ExpectRight(GetParam(), {16, 3, first, 40, 0, true});
  }
}

TEST_P(AttendTest, SlidingWindows) {
  for (int64_t window : {1, 2, 7, 31, 32, 33, 100, 256, 300, 5000}) {
    ExpectRight(GetParam(), {16, 2, 0, 40, window, false});
    ExpectRight(GetParam(), {16, 1, 230, 50, window, window % 2 == 0});
    ExpectRight(GetParam(), {6, 4, 530, 5, window, false});
  }
}

TEST_P(AttendTest, LlamaShape) {
  ExpectRight(GetParam(), {64, 8, 0, 40, 0, false});
  ExpectRight(GetParam(), {128, 4, 500, 9, 0, false});
}

// Bits of the tokens do not depend on the calls that they come in.
TEST_P(AttendTest, TokensCanBeSplitAnywhere) {
  for (const Shape& shape :
       {Shape{16, 3, 235, 37, 0, true}, Shape{6, 1, 235, 37, 20, false},
        Shape{64, 8, 3, 37, 0, false}}) {
    const int64_t positions = shape.first_position + shape.tokens;
    PoisonedCache cache(GetParam(), shape.head_dim, positions);
    cache.Fill(positions, kSeed);
    Queries queries(cache.layout(), shape.first_position, shape.tokens,
                    shape.heads, kSeed);
    const auto attend = [&](int64_t begin, int64_t count) {
      Attend(cache.layout(), cache.bytes(), OptionsOf(shape),
             queries.Part(begin, count), queries.scratch());
    };
    attend(0, shape.tokens);
    const std::vector<float> whole = queries.out();
    for (int64_t split = 1; split < shape.tokens; ++split) {
      std::fill(queries.out().begin(), queries.out().end(), -1.0f);
      attend(0, split);
      attend(split, shape.tokens - split);
      ASSERT_EQ(queries.out(), whole) << split << ", " << Name(shape);
    }
    std::fill(queries.out().begin(), queries.out().end(), -1.0f);
    for (int64_t t = 0; t < shape.tokens; ++t) attend(t, 1);
    ASSERT_EQ(queries.out(), whole) << Name(shape);
  }
}

// Nor on what other tokens hold: a NaN reaches those that see it only.
TEST_P(AttendTest, NaNReachesOnlyWhoSeesIt) {
  const Shape shape{16, 3, 250, 20, 12, false};
  constexpr int64_t kBad = 260;
  const int64_t n = shape.head_dim;
  for (const float bad : {kNaN, kInfinity}) {
    for (const bool key : {true, false}) {
      PoisonedCache cache(GetParam(), n, 270);
      cache.Fill(270, kSeed);
      std::vector<float> k(static_cast<size_t>(n), 0.5f), v = k;
      (key ? k : v)[0] = bad;
      StoreKv(cache.layout(), cache.bytes(), kBad, 1, k, n, v, n);
      ForEachTarget([&] {
        Queries queries(cache.layout(), 250, 20, 3, kSeed);
        std::fill(queries.q().begin(), queries.q().end(), 1.0f);
        Attend(cache.layout(), cache.bytes(), OptionsOf(shape), queries.All(),
               queries.scratch());
        for (int64_t t = 0; t < 20; ++t) {
          const bool sees = 250 + t >= kBad && 250 + t < kBad + shape.window;
          const float out =
              queries.out()[static_cast<size_t>(t * queries.stride())];
          EXPECT_EQ(std::isfinite(out), !sees) << "token " << t;
        }
      });
    }
  }
}

// The example of the header.
TEST(AttendExampleTest, OneTokenSeesItself) {
  const KvLayout layout = *KvLayout::Create(DType::kF16, 2);
  AlignedArray<uint8_t> region(
      static_cast<size_t>(layout.RegionBytes(10).value()));
  AlignedArray<uint8_t> scratch(
      static_cast<size_t>(AttendScratchBytes(layout)));
  const std::vector<float> k = {1, 2}, v = {3, 4}, q = {5, 6};
  std::vector<float> out(2);
  StoreKv(layout, region.span(), 0, 1, k, 2, v, 2);
  Attend(layout, region.span(), {1, 0.5f}, {0, 1, q, 2, absl::MakeSpan(out), 2},
         scratch.span());
  EXPECT_EQ(out, v);
}

TEST(AttendInfinityTest, ScoresOfMinusInfinityHaveNoWeight) {
  PoisonedCache cache(DType::kF32, 2, 600);
  cache.Fill(600, kSeed);
  const std::vector<float> k(2 * 300, -kInfinity), v(2 * 300, 5.0f);
  StoreKv(cache.layout(), cache.bytes(), 0, 300, k, 2, v, 2);
  Queries queries(cache.layout(), 290, 20, 1, kSeed);
  std::fill(queries.q().begin(), queries.q().end(), 1.0f);
  Attend(cache.layout(), cache.bytes(), AttendOptions(), queries.All(),
         queries.scratch());
  for (int64_t t = 0; t < 20; ++t) {
    const float out = queries.out()[static_cast<size_t>(t * queries.stride())];
    EXPECT_EQ(std::isnan(out), t < 10) << "token " << t;
    EXPECT_TRUE(t < 10 || std::fabs(out) < 5) << "token " << t;
  }
}

// Large scores: only the maximum is subtracted, nothing overflows.
TEST_P(AttendTest, LargeScores) {
  PoisonedCache cache(GetParam(), 16, 300);
  cache.Fill(300, kSeed);
  Queries queries(cache.layout(), 280, 20, 2, kSeed);
  for (float& q : queries.q()) q *= 100;
  const Shape shape{16, 2, 280, 20, 0, false};
  Attend(cache.layout(), cache.bytes(), OptionsOf(shape), queries.All(),
         queries.scratch());
  ExpectExact(cache, shape, queries);
}

// What the types of the cache cost, root mean square over standard normal
// keys, values and queries; the bounds are twice what was measured.
TEST_P(AttendTest, ErrorOfTheType) {
  std::vector<float> outputs[2];
  for (int i = 0; i < 2; ++i) {
    PoisonedCache cache(i == 0 ? DType::kF32 : GetParam(), 64, 200);
    cache.Fill(200, kSeed);
    Queries queries(cache.layout(), 0, 200, 4, kSeed);
    Attend(cache.layout(), cache.bytes(), OptionsOf({64, 4, 0, 200, 0, false}),
           queries.All(), queries.scratch());
    outputs[i] = queries.out();
  }
  double error = 0, norm = 0;
  for (size_t i = 0; i < outputs[0].size(); ++i) {
    error += std::pow(outputs[1][i] - outputs[0][i], 2.0);
    norm += std::pow(outputs[0][i], 2.0);
  }
  const double relative = std::sqrt(error / norm);
  RecordProperty("relative_error", std::to_string(relative));
  EXPECT_LE(relative, GetParam() == DType::kF32   ? 0
                      : GetParam() == DType::kF16 ? 6e-4
                                                  : 0.02);
}

INSTANTIATE_TEST_SUITE_P(DTypes, AttendTest,
                         ::testing::Values(DType::kF32, DType::kF16,
                                           DType::kI8),
                         [](const ::testing::TestParamInfo<DType>& info) {
                           return std::string(DTypeName(info.param).data(),
                                              DTypeName(info.param).size());
                         });

TEST(AttendDeathTest, ChecksSizes) {
  PoisonedCache cache(DType::kF32, 8, 40);
  cache.Fill(40, kSeed);
  Queries queries(cache.layout(), 38, 2, 1, kSeed);
  const auto attend = [&](AttendTokens tokens, int64_t heads, size_t bytes) {
    AttendOptions options;
    options.heads = heads;
    Attend(cache.layout(), cache.bytes(), options, tokens,
           queries.scratch().first(bytes));
  };
  const size_t enough = queries.scratch().size();
  attend(queries.All(), 1, enough);
  EXPECT_DEATH(attend(queries.All(), 1, enough - 1), "check failed");
  EXPECT_DEATH(attend(queries.All(), 2, enough), "check failed");
  AttendTokens far = queries.All();
  far.first_position = 64;
  EXPECT_DEATH(attend(far, 1, enough), "check failed");
  AttendTokens none = queries.All();
  none.tokens = 0;
  EXPECT_DEATH(attend(none, 1, enough), "check failed");
}

}  // namespace
}  // namespace qeff
