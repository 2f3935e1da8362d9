// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_int/pack_int_weights.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/kernels/matmul_int/matmul_int_testutil.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"

namespace qeff {
namespace {

PackedIntLayout Layout(int bits, int64_t rows, int64_t cols, int64_t group,
                       DType scale_dtype = DType::kBF16,
                       bool asymmetric = false) {
  return *PackedIntLayout::Create(bits, rows, cols, group, scale_dtype,
                                  asymmetric);
}

TEST(PackIntWeightsTest, RoundTrip) {
  for (int bits : {2, 3, 4, 8}) {
    for (DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
      for (int64_t rows : {1, 31, 32, 33, 70}) {
        for (int64_t cols : {1, 7, 8, 9, 31, 64, 75}) {
          for (int64_t group : {0, 8, 32}) {
            const PackedIntLayout layout =
                Layout(bits, rows, cols, group, dtype, rows % 2 == 1);
            const RandomIntMatrix matrix(layout, 3);
            const auto packed = matrix.Pack();
            std::vector<uint8_t> codes(matrix.codes().size());
            std::vector<uint8_t> scales(matrix.scales().size());
            std::vector<uint8_t> zeros(matrix.zeros().size());
            UnpackIntWeights(layout, packed.span(),
                             {absl::MakeSpan(codes), absl::MakeSpan(scales),
                              absl::MakeSpan(zeros)});
            ASSERT_EQ(zeros, matrix.zeros()) << rows << " x " << cols;
            ASSERT_EQ(codes, matrix.codes()) << rows << " x " << cols;
            ASSERT_EQ(scales, matrix.scales()) << rows << " x " << cols;
          }
        }
      }
    }
  }
}

TEST(PackIntWeightsTest, PanelsInAnyOrder) {
  const PackedIntLayout layout = Layout(4, 100, 40, 32);
  const RandomIntMatrix matrix(layout, 4);
  const auto whole = matrix.Pack();
  for (int64_t p = 0; p < layout.panels(); ++p) {
    std::vector<uint8_t> panel(static_cast<size_t>(layout.panel_bytes()), 0xEE);
    PackIntWeights(layout, matrix.view(), p, 1, absl::MakeSpan(panel));
    EXPECT_TRUE(std::equal(panel.begin(), panel.end(),
                           whole.data() + p * layout.panel_bytes()));
  }
}

// Row 0 has codes 1 to 9, row 1 codes 9 to 1; scales 1, 2 and -1, 0.5 in F16.
struct Tiny {
  QuantizedRowsView view() const {
    QuantizedRowsView view;
    view.bits = 4;
    view.cols = 9;
    view.group_elems = 8;
    view.scale_dtype = DType::kF16;
    view.packed = packed;
    view.scales = scales;
    return view;
  }

  std::vector<uint8_t> packed = {0x21, 0x43, 0x65, 0x87, 0x09, 0, 0, 0,
                                 0x89, 0x67, 0x45, 0x23, 0x01, 0, 0, 0};
  std::vector<uint8_t> scales = {0x00, 0x3C, 0x00, 0x40,
                                 0x00, 0xBC, 0x00, 0x38};
};

TEST(PackIntWeightsTest, GoldenBytesOfInt4) {
  const Tiny tiny;
  const PackedIntLayout layout = Layout(4, 2, 9, 8, DType::kF16);
  std::vector<uint8_t> packed(static_cast<size_t>(layout.total_bytes()));
  PackIntWeights(layout, tiny.view(), 0, 1, absl::MakeSpan(packed));
  // Two groups of one step of 128 bytes and 64 of scales.
  std::vector<uint8_t> want(384, 0);
  std::fill_n(want.begin(), 128, 0x88);
  std::fill_n(want.begin() + 192, 128, 0x88);
  const auto put = [&want](size_t at, std::vector<uint8_t> bytes) {
    std::copy(bytes.begin(), bytes.end(), want.begin() + static_cast<int>(at));
  };
  put(0, {0x51, 0x62, 0x73, 0x84, 0x59, 0x48, 0x37, 0x26});
  put(128, {0x00, 0x3C, 0x00, 0xBC});
  put(192, {0x89, 0x88, 0x88, 0x88, 0x81, 0x88, 0x88, 0x88});
  put(320, {0x00, 0x40, 0x00, 0x38});
  EXPECT_EQ(packed, want);
}

TEST(PackIntWeightsTest, GoldenBytesOfInt8) {
  const PackedIntLayout layout = Layout(8, 2, 5, 0, DType::kF32);
  const std::vector<uint8_t> codes = {1,   2,   3,   4,   5,   0, 0, 0,
                                      255, 254, 253, 252, 251, 0, 0, 0};
  const std::vector<uint8_t> scales = {0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0};
  QuantizedRowsView view;
  view.bits = 8;
  view.cols = 5;
  view.group_elems = 5;
  view.scale_dtype = DType::kF32;
  view.packed = codes;
  view.scales = scales;
  std::vector<uint8_t> packed(static_cast<size_t>(layout.total_bytes()));
  PackIntWeights(layout, view, 0, 1, absl::MakeSpan(packed));
  // One step of two words a row, then 32 scales.
  std::vector<uint8_t> want(384, 0);
  std::fill_n(want.begin(), 256, 0x80);
  const uint8_t first[] = {1, 2, 3, 4, 255, 254, 253, 252};
  const uint8_t second[] = {5, 0x80, 0x80, 0x80, 251, 0x80, 0x80, 0x80};
  std::copy(first, first + 8, want.begin());
  std::copy(second, second + 8, want.begin() + 128);
  std::copy(scales.begin(), scales.end(), want.begin() + 256);
  EXPECT_EQ(packed, want);
}

// The codes of one row, scale 1 in F16 and zero point 1.
std::vector<uint8_t> PackOneRow(int bits, std::vector<uint8_t> dense,
                                int64_t cols) {
  const PackedIntLayout layout = Layout(bits, 1, cols, 0, DType::kF16, true);
  const std::vector<uint8_t> scale = {0x00, 0x3C}, zero = {1};
  QuantizedRowsView view;
  view.bits = bits;
  view.cols = cols;
  view.group_elems = cols;
  view.scale_dtype = DType::kF16;
  view.packed = dense;
  view.scales = scale;
  view.zeros = zero;
  std::vector<uint8_t> packed(static_cast<size_t>(layout.total_bytes()));
  PackIntWeights(layout, view, 0, 1, absl::MakeSpan(packed));
  return packed;
}

void ExpectWord(const std::vector<uint8_t>& packed, size_t at,
                std::vector<uint8_t> want) {
  const std::vector<uint8_t> found(
      packed.begin() + static_cast<int>(at),
      packed.begin() + static_cast<int>(at + want.size()));
  EXPECT_EQ(found, want) << "at " << at;
}

// Codes 0, 1, 2, 3 and again: each byte holds columns 4 apart.
TEST(PackIntWeightsTest, GoldenBytesOfInt2WithZeros) {
  const auto packed = PackOneRow(2, {0xE4, 0xE4, 0xE4, 0xE4}, 16);
  // One step, 64 bytes of scales, 64 of zero points.
  ASSERT_EQ(packed.size(), 256u);
  ExpectWord(packed, 0, {0x00, 0x55, 0xAA, 0xFF, 0xAA, 0xAA, 0xAA, 0xAA});
  ExpectWord(packed, 128, {0x00, 0x3C, 0, 0});
  ExpectWord(packed, 192, {1, 0, 0, 0});
}

// Codes 0 to 7 four times: the low bits of 16 columns, those of 16 more, and
// the top bits of 32.
TEST(PackIntWeightsTest, GoldenBytesOfInt3WithZeros) {
  const auto packed = PackOneRow(
      3,
      {0x88, 0xC6, 0xFA, 0x88, 0xC6, 0xFA, 0x88, 0xC6, 0xFA, 0x88, 0xC6, 0xFA},
      32);
  ASSERT_EQ(packed.size(), 512u);
  ExpectWord(packed, 0, {0x00, 0x55, 0xAA, 0xFF, 0x00, 0x00, 0x00, 0x00});
  ExpectWord(packed, 128, {0x00, 0x55, 0xAA, 0xFF, 0x00, 0x00, 0x00, 0x00});
  ExpectWord(packed, 256, {0xAA, 0xAA, 0xAA, 0xAA, 0xFF, 0xFF, 0xFF, 0xFF});
  ExpectWord(packed, 384, {0x00, 0x3C, 0, 0});
  ExpectWord(packed, 448, {1, 0, 0, 0});
}

}  // namespace
}  // namespace qeff
