// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/rounded_weights.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr int64_t kRows = 40, kCols = 256;

Matrix<float> Weights() {
  Matrix<float> weights(kRows, kCols);
  const Random random(3);
  for (int64_t i = 0; i < kRows * kCols; ++i) {
    weights.data()[i] = random.NormalAt(static_cast<uint64_t>(i));
  }
  return weights;
}

// Values of codes and a scale for each group, no farther than with the range.
TEST(RoundWeights, IntegersWithSearchedGroups) {
  const auto pool = *CreateThreadPool(2);
  for (const bool symmetric : {true, false}) {
    QuantScheme scheme = *ParseQuantScheme("int3_g32");
    scheme.symmetric = symmetric;
    const Matrix<float> weights = Weights();
    Matrix<float> rounded = Weights();
    RoundWeights(scheme, DType::kBF16, rounded.view(), *pool);
    double error = 0, range_error = 0;
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t begin = 0; begin < kCols; begin += 32) {
        const float* group = weights.row(r) + begin;
        const auto range = std::minmax_element(group, group + 32);
        const GroupParams params = ComputeGroupParams(
            scheme, *range.first, *range.second, DType::kBF16);
        std::vector<float> values(rounded.row(r) + begin,
                                  rounded.row(r) + begin + 32);
        for (int64_t i = 0; i < 32; ++i) {
          const float plain = DequantizeValue(
              QuantizeValue(group[i], params, 3), params.zero, params.scale);
          const double d = group[i] - values[static_cast<size_t>(i)];
          error += d * d;
          range_error += (group[i] - plain) * (group[i] - plain);
        }
        std::sort(values.begin(), values.end());
        values.erase(std::unique(values.begin(), values.end()), values.end());
        EXPECT_LE(values.size(), 8u);
      }
    }
    EXPECT_LT(error, 0.95 * range_error);
  }
}

TEST(RoundWeights, BlocksOfGgml) {
  const auto pool = *CreateThreadPool(2);
  const QuantScheme scheme = *ParseQuantScheme("q4_k");
  Matrix<float> rounded = Weights(), expected = Weights();
  RoundWeights(scheme, DType::kBF16, rounded.view(), *pool);
  const std::vector<float> importance(kCols, 1.0f);
  for (int64_t r = 0; r < kRows; ++r) {
    std::vector<uint8_t> bytes(
        static_cast<size_t>(QuantizedShape(scheme, 1, kCols).block_row_bytes));
    const absl::Span<float> row(expected.row(r), kCols);
    EncodeGgmlRow(*scheme.ggml, row, importance, absl::MakeSpan(bytes));
    DecodeGgmlRow(*scheme.ggml, bytes, row);
  }
  EXPECT_EQ(rounded.span(), expected.span());
}

}  // namespace
}  // namespace qeff
