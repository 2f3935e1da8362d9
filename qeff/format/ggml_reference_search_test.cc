// SPDX-License-Identifier: Apache-2.0
//
// The bits are compared with ggml's in ggml_codec_test (golden blocks) and
// ggml_interop_test (ggml itself); here are the cases that the search treats
// specially.

#include "qeff/format/ggml_reference_search.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/format/ggml_block_params.h"

namespace qeff {
namespace {

constexpr GgmlType kTypes[] = {GgmlType::kQ4_K, GgmlType::kQ5_K,
                               GgmlType::kQ6_K};

TEST(GgmlReferenceSearchTest, ZerosHaveNoScale) {
  for (const GgmlType type : kTypes) {
    const std::vector<float> x(256, 0.0f);
    std::vector<int8_t> codes(256, 9);
    const GgmlBlockParams params =
        ChooseReferenceParams(type, x, absl::MakeSpan(codes));
    EXPECT_EQ(params.d, 0);
    EXPECT_EQ(params.dmin, 0);
    // ggml's bytes are all 0.
    EXPECT_EQ(codes,
              std::vector<int8_t>(256, type == GgmlType::kQ6_K ? -32 : 0));
  }
}

TEST(GgmlReferenceSearchTest, ValuesOnAGridAreExact) {
  for (const GgmlType type : kTypes) {
    const GgmlBlockFormat& format = *FindGgmlBlockFormat(type);
    const int count = format.max_code - format.min_code + 1;
    std::vector<float> x(256);
    for (size_t i = 0; i < x.size(); ++i) {
      // All codes, with both ends in every sub-block.
      const int code = static_cast<int>(i * 7 % 16) * (count - 1) / 15;
      x[i] = 0.5f * static_cast<float>(code + format.min_code);
    }
    std::vector<int8_t> codes(256);
    const GgmlBlockParams params =
        ChooseReferenceParams(type, x, absl::MakeSpan(codes));
    RoundToGgmlCodes(type, params, x, absl::MakeSpan(codes));
    for (size_t i = 0; i < x.size(); ++i) {
      const int s = static_cast<int>(i) / format.sub_block_elems;
      const float value =
          params.scale(s) * static_cast<float>(codes[i]) - params.offset(s);
      EXPECT_NEAR(value, x[i], 0.01) << i;
    }
  }
}

TEST(GgmlReferenceSearchTest, MinimumsAreNotAboveZero) {
  std::vector<float> x(256);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = 5 + static_cast<float>(i % 32) / 31;
  }
  for (const GgmlType type : {GgmlType::kQ4_K, GgmlType::kQ5_K}) {
    std::vector<int8_t> codes(256);
    const GgmlBlockParams params =
        ChooseReferenceParams(type, x, absl::MakeSpan(codes));
    EXPECT_GE(params.dmin, 0);
    EXPECT_EQ(params.offset(0), 0);
    EXPECT_NEAR(params.scale(0) * FindGgmlBlockFormat(type)->max_code, 6, 0.5);
  }
}

TEST(GgmlReferenceSearchTest, HugeAndTinyValuesAreNoTrouble) {
  for (const GgmlType type : kTypes) {
    for (const float size : {1e-44f, 1e-30f, 1e-8f, 65504.0f, 2e6f}) {
      std::vector<float> x(256);
      for (size_t i = 0; i < x.size(); ++i) {
        x[i] = std::sin(static_cast<float>(i)) * size;
      }
      std::vector<int8_t> codes(256);
      const GgmlBlockParams params =
          ChooseReferenceParams(type, x, absl::MakeSpan(codes));
      EXPECT_TRUE(std::isfinite(params.d)) << size;
      EXPECT_TRUE(std::isfinite(params.dmin)) << size;
      const GgmlBlockFormat& format = *FindGgmlBlockFormat(type);
      for (const int8_t code : codes) {
        EXPECT_GE(code, format.min_code);
        EXPECT_LE(code, format.max_code);
      }
    }
  }
}

}  // namespace
}  // namespace qeff
