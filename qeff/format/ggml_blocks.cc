// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/ggml_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "qeff/tensor/dtype.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

constexpr GgmlType Type(uint32_t number) {
  return static_cast<GgmlType>(number);
}

constexpr GgmlTypeTraits kTypes[] = {
    {GgmlType::kF32, "F32", 1, 4},
    {GgmlType::kF16, "F16", 1, 2},
    {GgmlType::kQ4_0, "Q4_0", 32, 18},
    {GgmlType::kQ4_1, "Q4_1", 32, 20},
    {GgmlType::kQ5_0, "Q5_0", 32, 22},
    {GgmlType::kQ5_1, "Q5_1", 32, 24},
    {GgmlType::kQ8_0, "Q8_0", 32, 34},
    {Type(9), "Q8_1", 32, 36},
    {Type(10), "Q2_K", 256, 84},
    {Type(11), "Q3_K", 256, 110},
    {GgmlType::kQ4_K, "Q4_K", 256, 144},
    {GgmlType::kQ5_K, "Q5_K", 256, 176},
    {GgmlType::kQ6_K, "Q6_K", 256, 210},
    {Type(15), "Q8_K", 256, 292},
    {Type(16), "IQ2_XXS", 256, 66},
    {Type(17), "IQ2_XS", 256, 74},
    {Type(18), "IQ3_XXS", 256, 98},
    {Type(19), "IQ1_S", 256, 50},
    {Type(20), "IQ4_NL", 32, 18},
    {Type(21), "IQ3_S", 256, 110},
    {Type(22), "IQ2_S", 256, 82},
    {Type(23), "IQ4_XS", 256, 136},
    {Type(24), "I8", 1, 1},
    {Type(25), "I16", 1, 2},
    {Type(26), "I32", 1, 4},
    {Type(27), "I64", 1, 8},
    {Type(28), "F64", 1, 8},
    {Type(29), "IQ1_M", 256, 56},
    {GgmlType::kBF16, "BF16", 1, 2},
    {Type(34), "TQ1_0", 256, 54},
    {Type(35), "TQ2_0", 256, 66},
    {GgmlType::kMXFP4, "MXFP4", 32, 17},
    {Type(40), "NVFP4", 64, 36},
};

constexpr int kElems = static_cast<int>(kGgmlBlockElems);
constexpr int kHalf = kElems / 2;

// The least value that rounds to infinity in F16.
constexpr float kF16Overflow = 65520.0f;

// The same of BF16.
constexpr float kBF16Overflow = 0x1.FFp127f;

void StoreF16(float value, uint8_t* to) {
  const uint16_t bits = FloatToF16(value);
  to[0] = static_cast<uint8_t>(bits);
  to[1] = static_cast<uint8_t>(bits >> 8);
}

float LoadF16(const uint8_t* from) {
  return F16ToFloat(static_cast<uint16_t>(from[0] | from[1] << 8));
}

// 1 / d; 0 for a d so small that it is 0 in F16 and its inverse may overflow.
float Inverse(float d) {
  return std::fabs(d) < std::numeric_limits<float>::min() ? 0.0f : 1.0f / d;
}

// Nearest integer of |x| <= 128, halves away from zero. Exact: what is cut off
// is a float without rounding.
int RoundAway(float x) {
  const int cut = static_cast<int>(x);
  const float rest = x - static_cast<float>(cut);
  return cut + (rest >= 0.5f ? 1 : 0) - (rest <= -0.5f ? 1 : 0);
}

void EncodeQ8_0Block(const float* x, uint8_t* block) {
  float absmax = 0;
  for (int i = 0; i < kElems; ++i) absmax = std::max(absmax, std::fabs(x[i]));
  const float d = absmax / 127.0f;
  const float inverse = Inverse(d);
  StoreF16(d, block);
  for (int i = 0; i < kElems; ++i) {
    block[2 + i] = static_cast<uint8_t>(RoundAway(x[i] * inverse));
  }
}

// The element of largest magnitude, the first of several; not -0 for a block
// of zeros, as in ggml.
float SignedMax(const float* x) {
  float absmax = 0;
  for (int i = 0; i < kElems; ++i) absmax = std::max(absmax, std::fabs(x[i]));
  float signed_max = 0;
  for (int i = kElems - 1; i >= 0 && absmax > 0; --i) {
    if (std::fabs(x[i]) == absmax) signed_max = x[i];
  }
  return signed_max;
}

// Low 4 bits of 32 codes.
void StoreNibbles(const uint8_t* codes, uint8_t* to) {
  for (int i = 0; i < kHalf; ++i) {
    to[i] = static_cast<uint8_t>((codes[i] & 15) | codes[kHalf + i] << 4);
  }
}

// Their bits 4.
void StoreFifthBits(const uint8_t* codes, uint8_t* to) {
  uint32_t bits = 0;
  for (int i = 0; i < kElems; ++i) bits |= uint32_t{codes[i]} >> 4 << i;
  for (int i = 0; i < 4; ++i) to[i] = static_cast<uint8_t>(bits >> (8 * i));
}

// Q4_0 and Q5_0, by the code of 0.
void SymmetricCodes(const float* x, int zero, uint8_t* block, uint8_t* codes) {
  const float d = SignedMax(x) / static_cast<float>(-zero);
  const float inverse = Inverse(d);
  const float half_up = static_cast<float>(zero) + 0.5f;
  StoreF16(d, block);
  for (int i = 0; i < kElems; ++i) {
    const int code = static_cast<int>(x[i] * inverse + half_up);
    codes[i] = static_cast<uint8_t>(std::min(2 * zero - 1, code));
  }
}

// Q4_1 and Q5_1, by the largest code.
void AffineCodes(const float* x, int max_code, uint8_t* block, uint8_t* codes) {
  const float lo = *std::min_element(x, x + kElems);
  const float hi = *std::max_element(x, x + kElems);
  const float d = (hi - lo) / static_cast<float>(max_code);
  const float inverse = Inverse(d);
  StoreF16(d, block);
  StoreF16(lo, block + 2);
  for (int i = 0; i < kElems; ++i) {
    const int code = static_cast<int>((x[i] - lo) * inverse + 0.5f);
    codes[i] = static_cast<uint8_t>(std::min(max_code, code));
  }
}

void EncodeQ4_0Block(const float* x, uint8_t* block) {
  uint8_t codes[kElems];
  SymmetricCodes(x, 8, block, codes);
  StoreNibbles(codes, block + 2);
}

void EncodeQ4_1Block(const float* x, uint8_t* block) {
  uint8_t codes[kElems];
  AffineCodes(x, 15, block, codes);
  StoreNibbles(codes, block + 4);
}

void EncodeQ5_0Block(const float* x, uint8_t* block) {
  uint8_t codes[kElems];
  SymmetricCodes(x, 16, block, codes);
  StoreFifthBits(codes, block + 2);
  StoreNibbles(codes, block + 6);
}

void EncodeQ5_1Block(const float* x, uint8_t* block) {
  uint8_t codes[kElems];
  AffineCodes(x, 31, block, codes);
  StoreFifthBits(codes, block + 4);
  StoreNibbles(codes, block + 8);
}

void EncodeMXFP4Block(const float* x, uint8_t* block) {
  // Between the values 0, .5, 1, 1.5, 2, 3, 4 and 6.
  constexpr float kMiddles[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
  const float absmax = std::fabs(SignedMax(x));
  const int exponent =
      absmax > 0 ? std::max(std::ilogb(absmax) - 2, -127) : -127;
  const float inverse = std::ldexp(1.0f, -exponent);
  block[0] = static_cast<uint8_t>(exponent + 127);
  uint8_t codes[kElems] = {};
  for (int i = 0; i < kElems; ++i) {
    const float magnitude = std::fabs(x[i]) * inverse;
    int code = 0;
    for (const float middle : kMiddles) code += magnitude > middle;
    codes[i] = static_cast<uint8_t>(code | (x[i] < 0 && code > 0 ? 8 : 0));
  }
  StoreNibbles(codes, block + 1);
}

// Checks the sizes and returns the number of blocks.
size_t NumBlocks(size_t row_elems, size_t bytes, int64_t block_bytes) {
  const size_t blocks = row_elems / kElems;
  QEFF_CHECK(row_elems == blocks * kElems);
  QEFF_CHECK(bytes == blocks * static_cast<size_t>(block_bytes));
  return blocks;
}

// Encodes every block of a row.
template <typename EncodeBlock>
void EncodeBlocks(absl::Span<const float> row, absl::Span<uint8_t> blocks,
                  int64_t block_bytes, EncodeBlock encode_block) {
  const size_t n = NumBlocks(row.size(), blocks.size(), block_bytes);
  for (size_t b = 0; b < n; ++b) {
    encode_block(row.data() + b * kElems,
                 blocks.data() + b * static_cast<size_t>(block_bytes));
  }
}

}  // namespace

const GgmlTypeTraits* FindGgmlType(GgmlType type) {
  for (const GgmlTypeTraits& traits : kTypes) {
    if (traits.type == type) return &traits;
  }
  return nullptr;
}

void EncodeQ8_0(absl::Span<const float> row, absl::Span<uint8_t> blocks) {
  EncodeBlocks(row, blocks, kQ8_0BlockBytes, EncodeQ8_0Block);
}

void EncodeQ4_0(absl::Span<const float> row, absl::Span<uint8_t> blocks) {
  EncodeBlocks(row, blocks, kQ4_0BlockBytes, EncodeQ4_0Block);
}

void EncodeQ4_1(absl::Span<const float> row, absl::Span<uint8_t> blocks) {
  EncodeBlocks(row, blocks, kQ4_1BlockBytes, EncodeQ4_1Block);
}

void EncodeQ5_0(absl::Span<const float> row, absl::Span<uint8_t> blocks) {
  EncodeBlocks(row, blocks, kQ5_0BlockBytes, EncodeQ5_0Block);
}

void EncodeQ5_1(absl::Span<const float> row, absl::Span<uint8_t> blocks) {
  EncodeBlocks(row, blocks, kQ5_1BlockBytes, EncodeQ5_1Block);
}

void EncodeMXFP4(absl::Span<const float> row, absl::Span<uint8_t> blocks) {
  EncodeBlocks(row, blocks, kMXFP4BlockBytes, EncodeMXFP4Block);
}

float GgmlLimit(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
    case GgmlType::kMXFP4:  // the largest becomes 6/8 of its power of two
      return std::numeric_limits<float>::infinity();
    case GgmlType::kF16:
    case GgmlType::kQ4_1:  // the minimum is stored
    case GgmlType::kQ5_1:
      return kF16Overflow;
    case GgmlType::kQ8_0:
      return kF16Overflow * 127;  // exact, as is the quotient's comparison
    case GgmlType::kQ4_0:
      return kF16Overflow * 8;
    case GgmlType::kQ5_0:
      return kF16Overflow * 16;
    // Scales and minimums are fitted by least squares, within a factor of 2 of
    // those that cover the range: at most 2 |x| / 15 and 2 |x|, of which F16
    // holds a 63rd; of Q6_K 2 |x| / 31, and a 128th.
    case GgmlType::kQ4_K:
    case GgmlType::kQ5_K:
    case GgmlType::kQ6_K:
      return kF16Overflow * 31;
    case GgmlType::kBF16:
      return kBF16Overflow;
  }
  QEFF_CHECK(false && "a type that is not encoded");
}

int64_t FirstUnfitForGgml(GgmlType type, absl::Span<const float> row) {
  const float limit = GgmlLimit(type);
  const auto unfit = [limit](float x) { return !(std::fabs(x) < limit); };
  return std::find_if(row.begin(), row.end(), unfit) - row.begin();
}

void DecodeQ8_0(absl::Span<const uint8_t> blocks, absl::Span<float> row) {
  const size_t n = NumBlocks(row.size(), blocks.size(), kQ8_0BlockBytes);
  for (size_t b = 0; b < n; ++b) {
    const uint8_t* block = blocks.data() + b * kQ8_0BlockBytes;
    const float d = LoadF16(block);
    for (int i = 0; i < kElems; ++i) {
      const int q = static_cast<int8_t>(block[2 + i]);
      row[b * kElems + i] = static_cast<float>(q) * d;
    }
  }
}

void DecodeQ4_0(absl::Span<const uint8_t> blocks, absl::Span<float> row) {
  const size_t n = NumBlocks(row.size(), blocks.size(), kQ4_0BlockBytes);
  for (size_t b = 0; b < n; ++b) {
    const uint8_t* block = blocks.data() + b * kQ4_0BlockBytes;
    const float d = LoadF16(block);
    float* out = row.data() + b * kElems;
    for (int i = 0; i < kHalf; ++i) {
      out[i] = static_cast<float>((block[2 + i] & 15) - 8) * d;
      out[kHalf + i] = static_cast<float>((block[2 + i] >> 4) - 8) * d;
    }
  }
}

}  // namespace qeff
