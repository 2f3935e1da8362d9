// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/ggml/ggml_rows.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "hwy/tests/hwy_gtest.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr uint8_t kPoison = 0xA5;

class GgmlRowsTest : public hwy::TestWithParamTarget {};
HWY_TARGET_INSTANTIATE_TEST_SUITE_P(GgmlRowsTest);

// Blocks of all sizes: normal values, zeros, exact halves of a step, ties of
// both signs, and scales that are subnormal in F16 or as floats.
std::vector<float> Values(uint64_t seed, size_t blocks) {
  const Random random(seed, 0);
  std::vector<float> values(blocks * 32);
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t block = i / 32;
    const int exponent = static_cast<int>(random.At(block) % 170) - 155;
    values[i] = std::ldexp(random.NormalAt(i), block % 4 == 0 ? 0 : exponent);
    if (block % 5 == 1) values[i] = std::round(values[i] * 2) / 2;
    if (block % 7 == 2) values[i] = i % 3 == 0 ? -1.5f : 1.5f;
    if (block % 11 == 3) values[i] = i % 2 == 0 ? 0.0f : -0.0f;
  }
  return values;
}

struct Codec {
  void (*encode)(absl::Span<const float>, absl::Span<uint8_t>);
  void (*scalar_encode)(absl::Span<const float>, absl::Span<uint8_t>);
  void (*decode)(absl::Span<const uint8_t>, absl::Span<float>);
  void (*scalar_decode)(absl::Span<const uint8_t>, absl::Span<float>);
  size_t block_bytes;
};

const Codec kCodecs[] = {
    {EncodeRowsQ4_0, EncodeQ4_0, DecodeRowsQ4_0, DecodeQ4_0, kQ4_0BlockBytes},
    {EncodeRowsQ8_0, EncodeQ8_0, DecodeRowsQ8_0, DecodeQ8_0, kQ8_0BlockBytes},
};

TEST_P(GgmlRowsTest, TheBitsOfTheScalarEncoders) {
  for (const Codec& codec : kCodecs) {
    for (const size_t blocks :
         {size_t{0}, size_t{1}, size_t{3}, size_t{4096}}) {
      const std::vector<float> values = Values(blocks, blocks);
      std::vector<uint8_t> expected(blocks * codec.block_bytes);
      codec.scalar_encode(values, absl::MakeSpan(expected));
      for (const size_t misaligned : {0, 1}) {
        std::vector<uint8_t> found(misaligned + expected.size() + 64, kPoison);
        codec.encode(
            values, absl::MakeSpan(found).subspan(misaligned, expected.size()));
        for (size_t i = 0; i < found.size(); ++i) {
          const bool inside =
              i >= misaligned && i < misaligned + expected.size();
          ASSERT_EQ(found[i], inside ? expected[i - misaligned] : kPoison)
              << blocks << " blocks of " << codec.block_bytes << ", byte " << i;
        }
      }
    }
  }
}

// Any bytes; of NaN the sign and payload may differ.
TEST_P(GgmlRowsTest, TheBitsOfTheScalarDecoders) {
  constexpr size_t kBlocks = 3000;
  const Random random(5, 0);
  for (const Codec& codec : kCodecs) {
    std::vector<uint8_t> bytes(1 + kBlocks * codec.block_bytes);
    for (size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<uint8_t>(random.At(i) >> 40);
    }
    const auto blocks = absl::MakeConstSpan(bytes).subspan(1);
    std::vector<float> expected(kBlocks * 32), found(kBlocks * 32 + 16, -1.0f);
    codec.scalar_decode(blocks, absl::MakeSpan(expected));
    codec.decode(blocks, absl::MakeSpan(found).subspan(0, expected.size()));
    for (size_t i = 0; i < expected.size(); ++i) {
      if (std::isnan(expected[i]) && std::isnan(found[i])) continue;
      ASSERT_EQ(std::memcmp(&expected[i], &found[i], sizeof(float)), 0) << i;
    }
    for (size_t i = expected.size(); i < found.size(); ++i) {
      ASSERT_EQ(found[i], -1.0f);
    }
  }
}

}  // namespace
}  // namespace qeff
