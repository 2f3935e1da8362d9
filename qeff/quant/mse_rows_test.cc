// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/mse_rows.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/format/packing.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/quant/mse_search.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr int64_t kRows = 3, kCols = 72;  // the last group is shorter

struct Rows {
  absl::optional<int64_t> bad;
  std::vector<uint8_t> packed, scales, zeros;
};

Rows QuantizeAll(const QuantScheme& scheme, const std::vector<float>& weights) {
  const QuantizedShape shape(scheme, kRows, kCols);
  Rows rows;
  rows.packed.resize(static_cast<size_t>(kRows * 4 * shape.row_words));
  rows.scales.resize(static_cast<size_t>(kRows * shape.groups * 2));
  rows.zeros.resize(
      scheme.symmetric ? 0 : static_cast<size_t>(kRows * shape.groups));
  rows.bad = QuantizeRowsByError(
      scheme, DType::kBF16, DType::kF32,
      absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(weights.data()),
                          weights.size() * sizeof(float)),
      kRows, kCols,
      {absl::MakeSpan(rows.packed), absl::MakeSpan(rows.scales),
       absl::MakeSpan(rows.zeros)});
  return rows;
}

std::vector<float> Weights() {
  std::vector<float> weights(static_cast<size_t>(kRows * kCols));
  const Random random(1);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = random.NormalAt(i);
  return weights;
}

TEST(QuantizeRowsByError, CodesOfLeastErrorParams) {
  const std::vector<float> weights = Weights();
  for (const bool symmetric : {true, false}) {
    QuantScheme scheme = ParseQuantScheme("int3_g32").value();
    scheme.symmetric = symmetric;
    const Rows rows = QuantizeAll(scheme, weights);
    EXPECT_FALSE(rows.bad.has_value());
    const QuantizedShape shape(scheme, kRows, kCols);
    const size_t row_bytes = static_cast<size_t>(4 * shape.row_words);
    size_t group = 0;
    for (size_t r = 0; r < kRows; ++r) {
      std::vector<uint8_t> codes(kCols);
      UnpackCodes(
          3, absl::MakeConstSpan(rows.packed).subspan(r * row_bytes, row_bytes),
          absl::MakeSpan(codes));
      for (size_t begin = 0; begin < kCols; begin += 32, ++group) {
        const absl::Span<const float> part =
            absl::MakeConstSpan(weights).subspan(
                r * kCols + begin,
                std::min<size_t>(32, static_cast<size_t>(kCols) - begin));
        const GroupParams params =
            LeastErrorParams(scheme, part, {}, DType::kBF16);
        EXPECT_EQ(LoadScale(DType::kBF16, &rows.scales[group * 2]),
                  params.scale);
        if (!symmetric) {
          EXPECT_EQ(rows.zeros[group], params.zero);
        }
        for (size_t i = 0; i < part.size(); ++i) {
          EXPECT_EQ(codes[begin + i], QuantizeValue(part[i], params, 3));
        }
      }
    }
  }
}

TEST(QuantizeRowsByError, FindsTheFirstThatIsNotFinite) {
  std::vector<float> weights = Weights();
  weights[2 * kCols + 1] = INFINITY;
  weights[kCols + 40] = NAN;
  const QuantScheme scheme = ParseQuantScheme("int4").value();
  EXPECT_EQ(QuantizeAll(scheme, weights).bad, kCols + 40);
}

}  // namespace
}  // namespace qeff
