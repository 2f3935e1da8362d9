// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/weight_rows.h"

#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/kernels/convert/convert.h"

namespace qeff {
namespace {

// [rows, cols] of 0, 1, 2, ... as `dtype`, one byte off alignment.
struct Stored {
  Stored(DType dtype, int64_t rows, int64_t cols)
      : values(static_cast<size_t>(rows * cols)),
        bytes(values.size() * DTypeBytes(dtype) + 1) {
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(i);
    }
    const auto payload = absl::MakeSpan(bytes).subspan(1);
    if (dtype == DType::kF64) {
      for (size_t i = 0; i < values.size(); ++i) {
        const double value = values[i];
        std::memcpy(payload.data() + 8 * i, &value, 8);
      }
    } else {
      ConvertFromFloat(values, dtype, payload);
    }
    view.dtype = dtype;
    view.shape = Shape({rows, cols});
    view.bytes = payload;
  }

  std::vector<float> values;
  std::vector<uint8_t> bytes;
  TensorView view;
};

std::vector<float> Floats(const WeightRows& rows) {
  std::vector<float> values(rows.bytes.size() / DTypeBytes(rows.dtype));
  ConvertToFloat(rows.dtype, rows.bytes, absl::MakeSpan(values));
  return values;
}

TEST(WeightRows, InPlaceWherePossible) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const Stored stored(dtype, 5, 7);
    std::vector<float> buffer;
    const WeightRows rows = ReadWeightRows(stored.view, false, 2, 2, &buffer);
    EXPECT_EQ(rows.dtype, dtype);
    EXPECT_EQ(rows.bytes.data(),
              stored.view.bytes.data() + 14 * DTypeBytes(dtype));
    EXPECT_TRUE(buffer.empty());
    EXPECT_EQ(Floats(rows), std::vector<float>(stored.values.begin() + 14,
                                               stored.values.begin() + 28));
  }
}

TEST(WeightRows, ConvertsOtherTypes) {
  const Stored stored(DType::kF64, 5, 7);
  std::vector<float> buffer;
  const WeightRows rows = ReadWeightRows(stored.view, false, 4, 1, &buffer);
  EXPECT_EQ(rows.dtype, DType::kF32);
  EXPECT_EQ(Floats(rows),
            std::vector<float>(stored.values.end() - 7, stored.values.end()));
}

TEST(WeightRows, Transposes) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
    for (int64_t in : {1, 15, 16, 17, 40}) {
      const Stored stored(dtype, in, 6);
      std::vector<float> buffer;
      const WeightRows rows = ReadWeightRows(stored.view, true, 1, 4, &buffer);
      std::vector<float> expected;
      for (int64_t r = 1; r < 5; ++r) {
        for (int64_t k = 0; k < in; ++k) {
          expected.push_back(static_cast<float>(k * 6 + r));
        }
      }
      EXPECT_EQ(Floats(rows), expected) << DTypeName(dtype) << " " << in;
    }
  }
}

}  // namespace
}  // namespace qeff
