// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/tuned_layer.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/format/packing.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/gptq.h"
#include "qeff/quant/solve_rows.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using ::testing::ElementsAreArray;

// A layer that was rounded to nearest.
class TunedLayerTest : public ::testing::TestWithParam<bool> {
 protected:
  static constexpr int64_t kRows = 3, kCols = 40;

  TunedLayerTest() : weights_(kRows, kCols) {
    scheme_.bits = 2;
    scheme_.group_size = 16;  // the last of a row has 8
    scheme_.symmetric = !GetParam();
    const Random random(1);
    const QuantizedShape shape(scheme_, kRows, kCols);
    packed_.resize(static_cast<size_t>(kRows * shape.row_words * 4));
    for (int64_t r = 0; r < kRows; ++r) {
      std::vector<uint8_t> codes;
      for (int64_t c = 0; c < kCols; ++c) {
        weights_.row(r)[c] =
            random.NormalAt(static_cast<uint64_t>(r * kCols + c));
      }
      for (int64_t c = 0; c < kCols; c += 16) {
        const float* group = weights_.row(r) + c;
        const int64_t count = std::min<int64_t>(16, kCols - c);
        const auto range = std::minmax_element(group, group + count);
        const GroupParams params = ComputeGroupParams(
            scheme_, *range.first, *range.second, DType::kBF16);
        uint8_t scale[2];
        StoreScale(params.scale, DType::kBF16, scale);
        scales_.insert(scales_.end(), scale, scale + 2);
        if (!scheme_.symmetric) {
          zeros_.push_back(static_cast<uint8_t>(params.zero));
        }
        for (int64_t i = 0; i < count; ++i) {
          codes.push_back(QuantizeValue(group[i], params, scheme_.bits));
          values_.push_back(
              DequantizeValue(codes.back(), params.zero, params.scale));
        }
      }
      PackCodes(scheme_.bits, codes,
                absl::MakeSpan(packed_).subspan(
                    static_cast<size_t>(r * shape.row_words * 4),
                    static_cast<size_t>(shape.row_words * 4)));
    }
  }

  TunedLayer Make() const {
    TunedLayer layer(scheme_, DType::kBF16, kRows, kCols);
    layer.SetRows(0, weights_.view(), {packed_, scales_, zeros_});
    return layer;
  }

  static std::vector<float> ValuesOf(const TunedLayer& layer) {
    std::vector<float> values(static_cast<size_t>(kRows * kCols));
    for (int64_t r = 0; r < kRows; ++r) {
      layer.Render(r, values.data() + r * kCols);
    }
    return values;
  }

  QuantScheme scheme_;
  Matrix<float> weights_;
  std::vector<uint8_t> packed_, scales_, zeros_;
  std::vector<float> values_;
};

INSTANTIATE_TEST_SUITE_P(SymmetricAndNot, TunedLayerTest, ::testing::Bool());

TEST_P(TunedLayerTest, BeginsAsItWasSolved) {
  const TunedLayer layer = Make();
  EXPECT_EQ(ValuesOf(layer), values_);
  const auto pool = CreateThreadPool(2).value();
  const StoredSteps packed = layer.Pack(*pool);
  EXPECT_EQ(packed.codes, packed_);
  EXPECT_EQ(packed.scales, scales_);
  EXPECT_EQ(packed.zeros, zeros_);
}

// Of sum (value - wanted)^2: scales come close to those that are wanted, and
// codes to those that are; both come back when they are returned.
TEST_P(TunedLayerTest, FollowsGradients) {
  const auto descend = [&](const std::vector<float>& wanted, float code_rate,
                           float scale_rate, TunedLayer* layer) {
    for (int i = 0; i < 100; ++i) {
      std::vector<float> gradient = ValuesOf(*layer);
      for (size_t j = 0; j < gradient.size(); ++j) gradient[j] -= wanted[j];
      const float left = static_cast<float>(100 - i) / 100;
      for (int64_t r = 0; r < kRows; ++r) {
        layer->Update(r, gradient.data() + r * kCols, code_rate * left,
                      scale_rate * left);
      }
    }
  };
  std::vector<float> scaled = values_;
  for (float& value : scaled) value *= 1.1f;
  TunedLayer layer = Make();
  layer.Keep();
  descend(scaled, 0, 0.005f, &layer);
  const std::vector<float> found = ValuesOf(layer);
  for (size_t i = 0; i < found.size(); ++i) {
    // BF16's rounding.
    EXPECT_NEAR(found[i], scaled[i], 0.008 * std::abs(scaled[i])) << i;
  }
  layer.Return();
  EXPECT_EQ(ValuesOf(layer), values_);

  // Of the other sign: codes pass 0.
  std::vector<float> turned = values_;
  for (float& value : turned) value = -value;
  descend(turned, 0.1f, 0, &layer);
  const std::vector<float> moved = ValuesOf(layer);
  for (size_t i = 0; i < moved.size(); ++i) {
    EXPECT_LE(moved[i] * values_[i], 0) << i;
  }
}

// Codes stay within their bits, and scales neither vanish nor turn.
TEST_P(TunedLayerTest, StaysInRange) {
  TunedLayer layer = Make();
  for (int i = 0; i < 200; ++i) {
    const std::vector<float> gradient(kCols, i < 100 ? 1.0f : -1.0f);
    for (int64_t r = 0; r < kRows; ++r) {
      layer.Update(r, gradient.data(), 0.5f, 0.1f);
    }
  }
  const auto pool = CreateThreadPool(1).value();
  const StoredSteps packed = layer.Pack(*pool);
  for (size_t i = 0; i < packed.scales.size(); i += 2) {
    const float before = LoadScale(DType::kBF16, scales_.data() + i);
    const float after = LoadScale(DType::kBF16, packed.scales.data() + i);
    EXPECT_GT(after / before, 0.2f);
  }
  for (const float value : ValuesOf(layer)) EXPECT_TRUE(std::isfinite(value));
  EXPECT_THAT(packed.zeros, ElementsAreArray(zeros_));
}

// Any scheme: what is stored comes back, codes follow gradients to what can be
// had, and the values are those of a reader.
class SchemeTest : public ::testing::TestWithParam<const char*> {
 protected:
  static constexpr int64_t kRows = 3, kCols = 512;

  SchemeTest() : weights_(kRows, kCols) {
    scheme_ = *ParseQuantScheme(GetParam());
    dtype_ = scheme_.ggml.has_value() ? DType::kF16
                                      : ScaleDType(scheme_, DType::kBF16);
    const Random random(1);
    for (int64_t i = 0; i < kRows * kCols; ++i) {
      weights_.data()[i] = random.NormalAt(static_cast<uint64_t>(i));
    }
    const auto pool = CreateThreadPool(1).value();
    GptqOptions options;
    options.scheme = scheme_;
    options.scale_dtype = dtype_;
    options.propagate = false;  // rounding
    Matrix<float> identity(kCols, kCols);
    for (int64_t c = 0; c < kCols; ++c) identity.row(c)[c] = 1;
    const FactoredHessian hessian =
        FactorHessian(std::move(identity), options, *pool);
    Matrix<float> values = Copy(weights_);
    solved_ = *SolveRows(values.view(), hessian, options, *pool);
    values_ = std::move(values);
  }

  static Matrix<float> Copy(const Matrix<float>& from) {
    Matrix<float> to(from.rows(), from.cols());
    std::copy_n(from.data(), from.rows() * from.cols(), to.data());
    return to;
  }

  TunedLayer Make() const {
    TunedLayer layer(scheme_, dtype_, kRows, kCols);
    layer.SetRows(0, weights_.view(), solved_.bytes());
    return layer;
  }

  static Matrix<float> ValuesOf(const TunedLayer& layer) {
    Matrix<float> values(kRows, kCols);
    for (int64_t r = 0; r < kRows; ++r) layer.Render(r, values.row(r));
    return values;
  }

  static double Distance(const Matrix<float>& a, const Matrix<float>& b) {
    double sum = 0;
    for (int64_t i = 0; i < kRows * kCols; ++i) {
      const double d = a.data()[i] - b.data()[i];
      sum += d * d;
    }
    return sum;
  }

  QuantScheme scheme_;
  DType dtype_;
  Matrix<float> weights_;
  Matrix<float> values_;  // what a reader makes of solved_
  SolvedRows solved_;
};

INSTANTIATE_TEST_SUITE_P(Schemes, SchemeTest,
                         ::testing::Values("int3_g64", "q4_0", "q8_0", "q4_k",
                                           "q5_k", "q6_k", "nf4", "fp8_e4m3",
                                           "mxfp4", "mxfp6", "mxint8"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST_P(SchemeTest, BeginsAsItWasSolved) {
  const TunedLayer layer = Make();
  EXPECT_EQ(ValuesOf(layer).span(), values_.span());
  const auto pool = CreateThreadPool(2).value();
  const StoredSteps packed = layer.Pack(*pool);
  // But for the sign of zeros.
  if (!scheme_.codebook.has_value()) {
    EXPECT_EQ(packed.codes, solved_.packed);
  }
  EXPECT_EQ(packed.scales, solved_.scales);
  EXPECT_EQ(packed.blocks, solved_.blocks);
}

// As TunedLayerTest's.
TEST_P(SchemeTest, FollowsGradients) {
  const auto descend = [&](float factor, float code_rate, float scale_rate,
                           TunedLayer* layer) {
    Matrix<float> wanted = Copy(values_);
    for (int64_t i = 0; i < kRows * kCols; ++i) wanted.data()[i] *= factor;
    const double before = Distance(ValuesOf(*layer), wanted);
    for (int i = 0; i < 200; ++i) {
      Matrix<float> gradient = ValuesOf(*layer);
      for (int64_t j = 0; j < kRows * kCols; ++j) {
        gradient.data()[j] -= wanted.data()[j];
      }
      const float left = static_cast<float>(200 - i) / 200;
      for (int64_t r = 0; r < kRows; ++r) {
        layer->Update(r, gradient.row(r), code_rate * left, scale_rate * left);
      }
    }
    return Distance(ValuesOf(*layer), wanted) / before;
  };
  TunedLayer layer = Make();
  layer.Keep();
  if (dtype_ == DType::kU8) {
    EXPECT_EQ(descend(1.1f, 0, 0.003f, &layer), 1);  // powers of two stay
  } else {
    EXPECT_LT(descend(1.1f, 0, 0.003f, &layer), 0.02);
  }
  layer.Return();
  EXPECT_EQ(ValuesOf(layer).span(), values_.span());

  const float levels = static_cast<float>(1 << layer.bits());
  EXPECT_LT(descend(-1, 0.02f * levels, 0, &layer), 0.1);

  // What was found is stored.
  const auto pool = CreateThreadPool(2).value();
  const StoredSteps packed = layer.Pack(*pool);
  TunedLayer again(scheme_, dtype_, kRows, kCols);
  again.SetRows(0, ValuesOf(layer).view(), packed.bytes());
  EXPECT_EQ(ValuesOf(again).span(), ValuesOf(layer).span());
}

}  // namespace
}  // namespace qeff
