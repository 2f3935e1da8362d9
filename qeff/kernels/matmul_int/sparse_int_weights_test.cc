// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_int/sparse_int_weights.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "qeff/kernels/matmul_int/matmul_int_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

class SparseIntWeightsTest : public ::testing::Test {
 protected:
  std::vector<uint8_t> Compressed(const PackedIntLayout& sparse,
                                  const AlignedArray<uint8_t>& packed) {
    std::vector<uint8_t> bytes(static_cast<size_t>(sparse.total_bytes()), 1);
    CompressIntWeights(sparse, packed.span(), absl::MakeSpan(bytes),
                       pool_.get());
    return bytes;
  }

  void CheckRoundTrip(const PackedIntLayout& layout, int percent) {
    const Random random(9);
    RandomIntMatrix matrix(layout, 1);
    matrix.Remove([&](int64_t r, int64_t c) {
      const uint64_t at = static_cast<uint64_t>(r * layout.cols() + c);
      // -24 stands for two of four.
      if (percent == -24) return (random.At(at / 4) + at) % 4 < 2;
      return static_cast<int>((random.At(at) >> 32) % 100) < percent;
    });
    const auto packed = matrix.Pack();
    const auto sparse = SparseLayoutOf(layout, packed.span(), pool_.get());
    ASSERT_TRUE(sparse.has_value());
    const std::vector<uint8_t> bytes = Compressed(*sparse, packed);
    std::vector<uint8_t> back(packed.size(), 7);
    ExpandIntWeights(*sparse, bytes, absl::MakeSpan(back));
    EXPECT_EQ(back, std::vector<uint8_t>(packed.begin(), packed.end()))
        << "int" << layout.bits() << " " << percent << " %";
  }

  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

TEST_F(SparseIntWeightsTest, RoundTrips) {
  for (int bits : {4, 8}) {
    for (bool asymmetric : {false, true}) {
      for (int64_t cols : {8, 20, 72, 300}) {
        for (int64_t group : {0, 8, 32}) {
          for (int percent : {-24, 0, 50, 90, 100}) {
            CheckRoundTrip(*PackedIntLayout::Create(bits, 37, cols, group,
                                                    DType::kBF16, asymmetric),
                           percent);
          }
        }
      }
    }
  }
}

// 1 bit a weight, half of the values, and what the dense form has.
TEST_F(SparseIntWeightsTest, BytesOfHalfOfTheWeights) {
  const auto ratio = [&](int bits, int64_t group, bool fixed) {
    const auto layout =
        PackedIntLayout::Create(bits, 256, 2048, group, DType::kBF16);
    RandomIntMatrix matrix(*layout, 1);
    const Random random(3);
    matrix.Remove([&](int64_t r, int64_t c) {
      return fixed ? (r + c) % 4 < 2
                   : random.At(static_cast<uint64_t>(r * 2048 + c)) >> 63 != 0;
    });
    const auto packed = matrix.Pack();
    const auto sparse = SparseLayoutOf(*layout, packed.span(), pool_.get());
    EXPECT_EQ(sparse->sparse_codes().two_of_four, fixed);
    return static_cast<double>(sparse->total_bytes()) /
           static_cast<double>(layout->total_bytes());
  };
  EXPECT_NEAR(ratio(8, 0, false), 0.625, 0.002);
  EXPECT_NEAR(ratio(4, 128, true), 3.125 / 4.125, 0.001);
  EXPECT_NEAR(ratio(4, 32, true), 3.5 / 4.5, 0.001);
  // Of two streams of half of the values the longer one counts, of a sixteenth
  // of which was 0 before.
  EXPECT_NEAR(ratio(4, 128, false), 3.0 / 4.125, 0.005);
}

// The code 4 in row 1 and column 9, 250 in row 31 and column 2; 8 and 128 are
// 0.
TEST_F(SparseIntWeightsTest, GoldenBytes) {
  const auto layout = PackedIntLayout::Create(8, 32, 16, 0, DType::kF16);
  AlignedArray<uint8_t> packed(static_cast<size_t>(layout->total_bytes()));
  std::memset(packed.data(), 0x80, 512);
  packed[512] = 0x3C;           // a scale
  packed[256 + 1 * 4 + 1] = 4;  // step 1, word 0, row 1
  packed[31 * 4 + 2] = 250;     // step 0, word 0, row 31
  const auto sparse = layout->Sparse({320, false});
  ASSERT_TRUE(sparse.ok());
  EXPECT_EQ(sparse->MasksOffset(), 64);
  EXPECT_EQ(sparse->panel_masks_bytes(), 2 * 32 + 64);
  EXPECT_EQ(sparse->ValuesOffset(), 192);
  EXPECT_EQ(sparse->total_bytes(), 512);
  std::vector<uint8_t> expected(512);
  expected[64 + 15] = 0x40;  // step 0, mask 1, bit 62
  expected[64 + 32] = 0x20;  // step 1, mask 0, bit 5
  expected[64 + 64] = 0x3C;
  expected[192] = 250 ^ 0x80;
  expected[193] = 4 ^ 0x80;
  EXPECT_EQ(Compressed(*sparse, packed), expected);
}

// Row 16 has the code 10 in column 7, row 18 has 5 in column 1, row 3 has 9 in
// column 6 and 6 in column 5; all else is 0, zero points too.
TEST_F(SparseIntWeightsTest, GoldenBytesOfTwoOfFour) {
  const auto layout =
      PackedIntLayout::Create(4, 32, 8, 0, DType::kF16, /*asymmetric=*/true);
  AlignedArray<uint8_t> packed(static_cast<size_t>(layout->total_bytes()));
  packed[64 + 3] = 0xA0;
  packed[64 + 9] = 0x05;
  packed[12 + 2] = 0x90;
  packed[12 + 1] = 0x60;
  const auto sparse = layout->Sparse({64, true});
  ASSERT_TRUE(sparse.ok());
  EXPECT_EQ(sparse->MasksOffset(), 0);
  EXPECT_EQ(sparse->panel_masks_bytes(), 128 + 64);
  EXPECT_EQ(sparse->ValuesOffset(), 192);
  std::vector<uint8_t> expected(256);
  // Columns 0, 1, 4 and 5 are kept where nothing else is.
  for (int i = 0; i < 32; ++i) expected[i] = 0x44;
  expected[16 + 0] = 0xC4;           // row 16: 0, 1, 4, 7
  expected[8 + 1] = 0x94;            // row 3: 0, 1, 5, 6
  expected[192 + 3] = 0xA0;          // row 16, the last
  expected[192 + 4 * 2 + 1] = 0x50;  // row 18, the second
  expected[192 + 4 * 3 + 2] = 0x06;  // row 3
  expected[192 + 4 * 3 + 3] = 0x09;
  EXPECT_EQ(Compressed(*sparse, packed), expected);
}

TEST_F(SparseIntWeightsTest, RefusesWhatItCannotHold) {
  const auto layout = *PackedIntLayout::Create(4, 64, 64, 32, DType::kF16);
  const auto message = [&](int64_t values, bool two_of_four) {
    const auto sparse = layout.Sparse({values, two_of_four});
    return sparse.ok() ? std::string() : std::string(sparse.status().message());
  };
  const int64_t most = 2 * 8 * 128 + kSparseSlackBytes;
  EXPECT_EQ(message(256, false), "");
  EXPECT_EQ(message(most, false), "");
  EXPECT_EQ(message(2 * 8 * 64, true), "");
  for (int64_t values : {int64_t{0}, int64_t{192}, most + 64, int64_t{300},
                         int64_t{-64}, INT64_MAX, INT64_MIN}) {
    for (bool two_of_four : {false, true}) {
      EXPECT_NE(message(values, two_of_four).find("bytes of values"),
                std::string::npos)
          << values;
    }
  }
  EXPECT_FALSE(PackedIntLayout::Create(3, 64, 64, 32, DType::kF16)
                   ->Sparse({256, false})
                   .ok());
  EXPECT_EQ(layout.Sparse({256, false})->Dense().total_bytes(),
            layout.total_bytes());
}

}  // namespace
}  // namespace qeff
