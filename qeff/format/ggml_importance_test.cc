// SPDX-License-Identifier: Apache-2.0
//
// Errors of whole rows are pinned in ggml_codec_test.

#include "qeff/format/ggml_importance.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/format/ggml_block_params.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr GgmlType kTypes[] = {GgmlType::kQ4_0, GgmlType::kQ4_K,
                               GgmlType::kQ5_K, GgmlType::kQ6_K};

double WeightedError(GgmlType type, const GgmlBlockParams& params,
                     const std::vector<float>& x,
                     const std::vector<float>& importance) {
  const GgmlBlockFormat& format = *FindGgmlBlockFormat(type);
  std::vector<int8_t> codes(x.size());
  RoundToGgmlCodes(type, params, x, absl::MakeSpan(codes));
  double error = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const int s = static_cast<int>(i) / format.sub_block_elems;
    const double value =
        params.scale(s) * static_cast<float>(codes[i]) - params.offset(s);
    error += importance[i] * (value - x[i]) * (value - x[i]);
  }
  return error;
}

// The best scale of a sub-block of 32 by trying 200,000 of them.
double BestQ4_0Error(const std::vector<float>& x,
                     const std::vector<float>& importance) {
  float largest = 0;
  for (const float v : x) largest = std::max(largest, std::fabs(v));
  double best = 1e30;
  for (int i = 20000; i <= 120000; ++i) {
    for (const float sign : {-1.0f, 1.0f}) {
      GgmlBlockParams params;
      params.d = sign * largest * static_cast<float>(i) / 8e5f;
      params.scale_codes[0] = 1;
      best =
          std::min(best, WeightedError(GgmlType::kQ4_0, params, x, importance));
    }
  }
  return best;
}

TEST(GgmlImportanceTest, NearTheBestScaleThereIs) {
  const Random random(2, 0);
  double found = 0;
  double best = 0;
  for (uint64_t block = 0; block < 8; ++block) {
    std::vector<float> x(32);
    std::vector<float> importance(32);
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = random.NormalAt(block * 64 + i);
      importance[i] = std::exp(random.NormalAt(block * 64 + 32 + i));
    }
    found += WeightedError(GgmlType::kQ4_0,
                           ChooseGgmlParams(GgmlType::kQ4_0, x, importance), x,
                           importance);
    best += BestQ4_0Error(x, importance);
  }
  EXPECT_LE(found, best * 1.01);
}

// What one block costs more than the next is not what another importance
// says; scaling all of it changes nothing.
TEST(GgmlImportanceTest, OnlyRatiosMatter) {
  const Random random(3, 0);
  std::vector<float> x(256);
  std::vector<float> importance(256);
  std::vector<float> scaled(256);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = random.NormalAt(i);
    importance[i] = std::fabs(random.NormalAt(1000 + i));
    scaled[i] = importance[i] * 0x1p80f;
  }
  for (const GgmlType type :
       {GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K}) {
    const GgmlBlockParams a = ChooseGgmlParams(type, x, importance);
    const GgmlBlockParams b = ChooseGgmlParams(type, x, scaled);
    EXPECT_EQ(a.d, b.d);
    EXPECT_EQ(a.dmin, b.dmin);
  }
}

TEST(GgmlImportanceTest, WhatMattersIsExact) {
  const Random random(4, 0);
  for (const GgmlType type : kTypes) {
    const GgmlBlockFormat& format = *FindGgmlBlockFormat(type);
    std::vector<float> x(static_cast<size_t>(format.block_elems));
    std::vector<float> importance(x.size(), 1e-3f);
    for (size_t i = 0; i < x.size(); ++i) x[i] = random.NormalAt(i);
    for (size_t i = 0; i < x.size(); i += 32) importance[i] = 1e3f;
    const GgmlBlockParams params = ChooseGgmlParams(type, x, importance);
    std::vector<int8_t> codes(x.size());
    RoundToGgmlCodes(type, params, x, absl::MakeSpan(codes));
    for (size_t i = 0; i < x.size(); i += 32) {
      const int s = static_cast<int>(i) / format.sub_block_elems;
      const float value =
          params.scale(s) * static_cast<float>(codes[i]) - params.offset(s);
      EXPECT_NEAR(value, x[i], 0.03) << FindGgmlType(type)->name << " " << i;
    }
  }
}

TEST(GgmlImportanceTest, ZerosAndTinyValues) {
  for (const GgmlType type : kTypes) {
    const size_t n =
        static_cast<size_t>(FindGgmlBlockFormat(type)->block_elems);
    for (const float v : {0.0f, -0.0f, 1e-45f, -1e-30f}) {
      const GgmlBlockParams params = ChooseGgmlParams(
          type, std::vector<float>(n, v), std::vector<float>(n, 1.0f));
      EXPECT_EQ(params.d, 0) << v;
      EXPECT_EQ(params.dmin, 0) << v;
    }
  }
}

}  // namespace
}  // namespace qeff
