// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/quantize/quantize.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "hwy/tests/hwy_gtest.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/kernels/prefetch/stream_fetcher.h"
#include "qeff/kernels/quantize/quantize_reference.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr uint8_t kPoison = 0xA5;
constexpr size_t kPoisonBytes = 64;

// Bytes with poison around them, whose payload begins `misaligned` after a
// multiple of 64.
class PoisonedBytes {
 public:
  PoisonedBytes(size_t size, size_t misaligned)
      : size_(size),
        begin_(kPoisonBytes + misaligned),
        bytes_(begin_ + size + kPoisonBytes, kPoison) {}

  absl::Span<uint8_t> span() {
    return absl::MakeSpan(bytes_).subspan(begin_, size_);
  }
  std::vector<uint8_t> payload() {
    return std::vector<uint8_t>(span().begin(), span().end());
  }
  bool PoisonIntact() const {
    for (size_t i = 0; i < bytes_.size(); ++i) {
      const bool inside = i >= begin_ && i < begin_ + size_;
      if (!inside && bytes_[i] != kPoison) return false;
    }
    return true;
  }

 private:
  size_t size_;
  size_t begin_;
  std::vector<uint8_t> bytes_;
};

// Rounds `weights` to `dtype` and returns the bytes.
std::vector<uint8_t> Store(DType dtype, std::vector<float>* weights) {
  std::vector<uint8_t> bytes(weights->size() * DTypeBytes(dtype));
  for (size_t i = 0; i < weights->size(); ++i) {
    StoreScale((*weights)[i], dtype, &bytes[i * DTypeBytes(dtype)]);
    (*weights)[i] = LoadScale(dtype, &bytes[i * DTypeBytes(dtype)]);
  }
  return bytes;
}

// Normal weights with, in some groups, all zeros, equal values, one huge
// value, ties and values near the smallest that the types hold.
std::vector<float> Weights(int64_t count, uint64_t seed) {
  const Random random(seed);
  std::vector<float> weights(static_cast<size_t>(count));
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = random.NormalAt(i);
    switch (i / 16 % 8) {
      case 1:
        weights[i] = 0;
        break;
      case 2:
        weights[i] = -0.0f;
        break;
      case 3:
        weights[i] = static_cast<float>(static_cast<int>(i % 16) - 8) * 0.5f;
        break;
      case 4:
        weights[i] *= 1e-7f;
        break;
      case 5:
        if (i % 16 == 3) weights[i] = 1000;
        break;
      case 6:
        weights[i] = std::abs(weights[i]) + 1;
        break;
      default:
        break;
    }
  }
  return weights;
}

struct Case {
  QuantScheme scheme;
  DType dtype;
  int64_t rows;
  int64_t cols;
  size_t misaligned;

  std::string ToString() const {
    return absl::StrCat(QuantSchemeName(scheme),
                        scheme.symmetric ? " symmetric " : " asymmetric ",
                        ScaleRuleName(scheme.scale_rule), " ", DTypeName(dtype),
                        " [", rows, ", ", cols, "] + ", misaligned);
  }
};

void RunCase(const Case& c) {
  SCOPED_TRACE(c.ToString());
  const DType scale_dtype = ScaleDType(c.dtype);
  std::vector<float> weights = Weights(c.rows * c.cols, 3);
  const std::vector<uint8_t> stored = Store(c.dtype, &weights);
  const ReferenceRows expected =
      ReferenceQuantize(c.scheme, scale_dtype, weights, c.rows, c.cols);

  PoisonedBytes from(stored.size(), c.misaligned);
  std::copy(stored.begin(), stored.end(), from.span().begin());
  PoisonedBytes packed(expected.packed.size(), c.misaligned);
  PoisonedBytes scales(expected.scales.size(), c.misaligned);
  PoisonedBytes zeros(expected.zeros.size(), c.misaligned);
  // Cases take turns: both give the same.
  StreamFetcher::SetHelpsForTest(!StreamFetcher::Helps());
  const auto bad =
      QuantizeRows(c.scheme, scale_dtype, c.dtype, from.span(), c.rows, c.cols,
                   {packed.span(), scales.span(), zeros.span()});
  ASSERT_EQ(bad, absl::nullopt);
  ASSERT_EQ(packed.payload(), expected.packed);
  ASSERT_EQ(scales.payload(), expected.scales);
  ASSERT_EQ(zeros.payload(), expected.zeros);
  ASSERT_TRUE(packed.PoisonIntact());
  ASSERT_TRUE(scales.PoisonIntact());
  ASSERT_TRUE(zeros.PoisonIntact());

  QuantizedRowsView view;
  view.bits = c.scheme.bits;
  view.cols = c.cols;
  view.group_elems = QuantizedShape(c.scheme, c.rows, c.cols).group_elems;
  view.scale_dtype = scale_dtype;
  view.packed = packed.span();
  view.scales = scales.span();
  view.zeros = zeros.span();
  std::vector<float> values(expected.values.size() + 16, -7.0f);
  DequantizeRows(view, 0, c.rows,
                 absl::MakeSpan(values).subspan(0, expected.values.size()));
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(values[i],
              i < expected.values.size() ? expected.values[i] : -7.0f)
        << i;
  }
}

class QuantizeTest : public hwy::TestWithParamTarget {
 protected:
  // Every combination of bits, symmetry, rule and type.
  template <typename Function>
  void ForEachScheme(Function body) {
    for (int bits = kMinQuantBits; bits <= kMaxQuantBits; ++bits) {
      for (bool symmetric : {true, false}) {
        for (ScaleRule rule : {ScaleRule::kSignedMax, ScaleRule::kAbsMax}) {
          for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
            QuantScheme scheme;
            scheme.bits = bits;
            scheme.symmetric = symmetric;
            scheme.scale_rule = rule;
            body(scheme, dtype);
          }
        }
      }
    }
  }
};
HWY_TARGET_INSTANTIATE_TEST_SUITE_P(QuantizeTest);

TEST_P(QuantizeTest, EveryRemainderPerRow) {
  ForEachScheme([](const QuantScheme& scheme, DType dtype) {
    for (int64_t cols = 0; cols <= 70; ++cols) {
      RunCase({scheme, dtype, 2, cols, static_cast<size_t>(cols % 3)});
      if (testing::Test::HasFatalFailure()) return;
    }
  });
}

TEST_P(QuantizeTest, GroupsAndShorterLastGroups) {
  ForEachScheme([](QuantScheme scheme, DType dtype) {
    for (int64_t group : {8, 24, 32, 64, 128}) {
      scheme.group_size = group;
      for (int64_t cols : {1, 31, 64, 172, 257, 1025, 2048 + 36}) {
        for (size_t misaligned : {0, 1}) {
          RunCase({scheme, dtype, 3, cols, misaligned});
          if (testing::Test::HasFatalFailure()) return;
        }
      }
    }
  });
}

TEST_P(QuantizeTest, GroupsOfAnySize) {
  QuantScheme scheme;
  for (int64_t group = 1; group < 40; ++group) {
    scheme.group_size = group;
    RunCase({scheme, DType::kBF16, 2, 83, 1});
  }
}

// Rows that are quantized in several pieces, the last of which is shorter.
TEST_P(QuantizeTest, WideRows) {
  ForEachScheme([](QuantScheme scheme, DType dtype) {
    for (int64_t group : {5, 8, 32, 128}) {
      scheme.group_size = group;
      RunCase({scheme, dtype, 2, 2 * 4096 + 36, 1});
      if (testing::Test::HasFatalFailure()) return;
    }
  });
}

TEST_P(QuantizeTest, ReportsElementsOfAnyPiece) {
  const size_t rows = 2, cols = 5000;
  QuantScheme scheme;
  scheme.group_size = 32;
  const size_t groups = 157;
  for (size_t index = 0; index < rows * cols; index += 331) {
    std::vector<float> weights(rows * cols);
    weights[index] = std::numeric_limits<float>::infinity();
    const std::vector<uint8_t> stored = Store(DType::kBF16, &weights);
    std::vector<uint8_t> packed(rows * cols / 2), scales(rows * groups * 2);
    EXPECT_EQ(
        QuantizeRows(scheme, DType::kBF16, DType::kBF16, stored, rows, cols,
                     {absl::MakeSpan(packed), absl::MakeSpan(scales), {}}),
        static_cast<int64_t>(index));
  }
}

TEST_P(QuantizeTest, ReportsTheFirstElementThatIsNotFinite) {
  const int64_t rows = 3, cols = 77;
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (float value : {std::numeric_limits<float>::quiet_NaN(),
                        -std::numeric_limits<float>::quiet_NaN(),
                        std::numeric_limits<float>::infinity(),
                        -std::numeric_limits<float>::infinity()}) {
      for (size_t index : {size_t{0}, size_t{40}, size_t{76}, size_t{100},
                           static_cast<size_t>(rows * cols - 1)}) {
        std::vector<float> weights = Weights(rows * cols, 5);
        weights[index] = value;
        weights.back() = value;
        const std::vector<uint8_t> stored = Store(dtype, &weights);
        QuantScheme scheme;
        scheme.group_size = 32;
        std::vector<uint8_t> packed(rows * 40), scales(rows * 3 * 2);
        const auto bad =
            QuantizeRows(scheme, ScaleDType(dtype), dtype, stored, rows, cols,
                         {absl::MakeSpan(packed), absl::MakeSpan(scales), {}});
        EXPECT_EQ(bad, static_cast<int64_t>(index)) << DTypeName(dtype);
      }
    }
  }
}

TEST_P(QuantizeTest, LargestFiniteValuesAreNotErrors) {
  const std::vector<float> f32 = {std::numeric_limits<float>::max(),
                                  std::numeric_limits<float>::lowest(), 0, 1};
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    std::vector<float> weights = f32;
    if (dtype == DType::kF16) weights = {65504, -65504, 0, 1};
    if (dtype == DType::kBF16) weights = {3.3e38f, -3.3e38f, 0, 1};
    const std::vector<uint8_t> stored = Store(dtype, &weights);
    std::vector<uint8_t> packed(4), scales(2);
    EXPECT_EQ(
        QuantizeRows(QuantScheme(), ScaleDType(dtype), dtype, stored, 1, 4,
                     {absl::MakeSpan(packed), absl::MakeSpan(scales), {}}),
        absl::nullopt);
    EXPECT_TRUE(std::isfinite(LoadScale(ScaleDType(dtype), scales.data())));
  }
}

// All 2^(8 b) words of one lane would be too many; every code in every place
// of a lane is enough, because lanes merge by shifts only.
TEST_P(QuantizeTest, UnpacksEveryCodeInEveryPlace) {
  for (int bits = kMinQuantBits; bits <= kMaxQuantBits; ++bits) {
    for (size_t place = 0; place < 32; ++place) {
      for (int code = 0; code < 1 << bits; ++code) {
        std::vector<uint8_t> codes(32);
        codes[place] = static_cast<uint8_t>(code);
        std::vector<uint8_t> packed(static_cast<size_t>(4 * bits));
        PackCodes(bits, codes, absl::MakeSpan(packed));
        const std::vector<uint8_t> scale = {0x80, 0x3F};  // BF16 1
        const std::vector<uint8_t> zero = {0};
        QuantizedRowsView view;
        view.bits = bits;
        view.cols = 32;
        view.group_elems = 32;
        view.packed = packed;
        view.scales = scale;
        view.zeros = zero;
        std::vector<float> values(32);
        DequantizeRows(view, 0, 1, absl::MakeSpan(values));
        for (size_t i = 0; i < 32; ++i) {
          ASSERT_EQ(values[i], i == place ? static_cast<float>(code) : 0.0f);
        }
      }
    }
  }
}

TEST_P(QuantizeTest, DequantizesAnyRange) {
  QuantScheme scheme;
  scheme.group_size = 32;
  scheme.symmetric = false;
  std::vector<float> weights = Weights(5 * 100, 9);
  const std::vector<uint8_t> stored = Store(DType::kF32, &weights);
  std::vector<uint8_t> packed(5 * 52), scales(5 * 4 * 2), zeros(5 * 4);
  ASSERT_EQ(QuantizeRows(scheme, DType::kBF16, DType::kF32, stored, 5, 100,
                         {absl::MakeSpan(packed), absl::MakeSpan(scales),
                          absl::MakeSpan(zeros)}),
            absl::nullopt);
  QuantizedRowsView view;
  view.bits = 4;
  view.cols = 100;
  view.group_elems = 32;
  view.packed = packed;
  view.scales = scales;
  view.zeros = zeros;
  std::vector<float> all(500), part(200);
  DequantizeRows(view, 0, 5, absl::MakeSpan(all));
  DequantizeRows(view, 2, 2, absl::MakeSpan(part));
  EXPECT_EQ(part, std::vector<float>(all.begin() + 200, all.begin() + 400));
}

}  // namespace
}  // namespace qeff
