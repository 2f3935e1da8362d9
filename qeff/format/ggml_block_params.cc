// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/ggml_block_params.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>

#include "qeff/tensor/dtype.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

constexpr GgmlBlockFormat kFormats[] = {
    {GgmlType::kQ8_0, 32, 32, -128, 127, kQ8_0BlockBytes},
    {GgmlType::kQ4_0, 32, 32, -8, 7, kQ4_0BlockBytes},
    {GgmlType::kQ5_0, 32, 32, -16, 15, kQ5_0BlockBytes},
    {GgmlType::kQ4_1, 32, 32, 0, 15, kQ4_1BlockBytes},
    {GgmlType::kQ5_1, 32, 32, 0, 31, kQ5_1BlockBytes},
    {GgmlType::kMXFP4, 32, 32, -12, 12, kMXFP4BlockBytes},
    {GgmlType::kQ4_K, 256, 32, 0, 15, 144},
    {GgmlType::kQ5_K, 256, 32, 0, 31, 176},
    {GgmlType::kQ6_K, 256, 16, -32, 31, 210},
};

// Where the parts of a block begin.
constexpr int kDminByte = 2;       // with offsets; d is at 0
constexpr int kScalesByte = 4;     // 12 bytes
constexpr int kQ4KCodesByte = 16;  // 128 bytes
constexpr int kQ5KHighByte = 16;   // 32 bytes
constexpr int kQ5KCodesByte = 48;  // 128 bytes
constexpr int kQ6KHighByte = 128;  // 64 bytes, after 128 of low halves
constexpr int kQ6KScalesByte = 192;
constexpr int kQ6KDByte = 208;

void StoreF16(float value, uint8_t* to) {
  const uint16_t bits = FloatToF16(value);
  to[0] = static_cast<uint8_t>(bits);
  to[1] = static_cast<uint8_t>(bits >> 8);
}

float LoadF16(const uint8_t* from) {
  return F16ToFloat(static_cast<uint16_t>(from[0] | from[1] << 8));
}

const GgmlBlockFormat& Format(GgmlType type) {
  const GgmlBlockFormat* format = FindGgmlBlockFormat(type);
  QEFF_CHECK(format != nullptr);
  return *format;
}

// The 6-bit codes of 8 sub-blocks in 12 bytes: bytes 0 to 3 and 4 to 7 have
// scales and minimums of the first four in their low 6 bits; bytes 8 to 11 the
// low 4 bits of the others, whose upper 2 bits are on top of the first eight.
void PackScales(const GgmlBlockParams& params, uint8_t* bytes) {
  for (int i = 0; i < 4; ++i) {
    const int scale = params.scale_codes[i];
    const int high_scale = params.scale_codes[4 + i];
    const int min = params.min_codes[i];
    const int high_min = params.min_codes[4 + i];
    bytes[i] = static_cast<uint8_t>(scale | high_scale >> 4 << 6);
    bytes[4 + i] = static_cast<uint8_t>(min | high_min >> 4 << 6);
    bytes[8 + i] =
        static_cast<uint8_t>((high_scale & 15) | (high_min & 15) << 4);
  }
}

void UnpackScales(const uint8_t* bytes, GgmlBlockParams* params) {
  for (int i = 0; i < 4; ++i) {
    params->scale_codes[i] = static_cast<int8_t>(bytes[i] & 63);
    params->min_codes[i] = bytes[4 + i] & 63;
    params->scale_codes[4 + i] =
        static_cast<int8_t>((bytes[8 + i] & 15) | bytes[i] >> 6 << 4);
    params->min_codes[4 + i] =
        static_cast<uint8_t>(bytes[8 + i] >> 4 | bytes[4 + i] >> 6 << 4);
  }
}

// Low 4 bits of codes: each 64 elements take 32 bytes, the first half of them
// the low nibbles.
void PackNibbles(const int8_t* codes, uint8_t* bytes) {
  for (int i = 0; i < 128; ++i) {
    const int8_t* pair = codes + i / 32 * 64 + i % 32;
    bytes[i] = static_cast<uint8_t>((pair[0] & 15) | (pair[32] & 15) << 4);
  }
}

void UnpackNibbles(const uint8_t* bytes, int8_t* codes) {
  for (int i = 0; i < 128; ++i) {
    int8_t* pair = codes + i / 32 * 64 + i % 32;
    pair[0] = static_cast<int8_t>(bytes[i] & 15);
    pair[32] = static_cast<int8_t>(bytes[i] >> 4);
  }
}

// Bit 4 of the codes of Q5_K: bit s of byte i is that of element 32 s + i.
void PackFifthBits(const int8_t* codes, uint8_t* bytes) {
  std::fill_n(bytes, 32, uint8_t{0});
  for (int i = 0; i < 256; ++i) {
    bytes[i % 32] =
        static_cast<uint8_t>(bytes[i % 32] | (codes[i] >> 4 & 1) << i / 32);
  }
}

void UnpackFifthBits(const uint8_t* bytes, int8_t* codes) {
  for (int i = 0; i < 256; ++i) {
    const int bit = bytes[i % 32] >> i / 32 & 1;
    codes[i] = static_cast<int8_t>(codes[i] | bit << 4);
  }
}

// Codes of Q6_K, plus 32: of each 128 elements, quarter k of 32, element l has
// its low 4 bits in byte 32 (k % 2) + l (upper nibble from k = 2 on) and bits 4
// and 5 in bits 2 k of byte l of the high parts.
void PackQ6K(const int8_t* codes, uint8_t* block) {
  for (int half = 0; half < 2; ++half) {
    for (int l = 0; l < 32; ++l) {
      int q[4];
      for (int k = 0; k < 4; ++k) q[k] = codes[128 * half + 32 * k + l] + 32;
      uint8_t* low = block + 64 * half + l;
      low[0] = static_cast<uint8_t>((q[0] & 15) | (q[2] & 15) << 4);
      low[32] = static_cast<uint8_t>((q[1] & 15) | (q[3] & 15) << 4);
      block[kQ6KHighByte + 32 * half + l] = static_cast<uint8_t>(
          q[0] >> 4 | q[1] >> 4 << 2 | q[2] >> 4 << 4 | q[3] >> 4 << 6);
    }
  }
}

void UnpackQ6K(const uint8_t* block, int8_t* codes) {
  for (int half = 0; half < 2; ++half) {
    for (int l = 0; l < 32; ++l) {
      const uint8_t* low = block + 64 * half + l;
      const int high = block[kQ6KHighByte + 32 * half + l];
      for (int k = 0; k < 4; ++k) {
        const int nibble = low[32 * (k % 2)] >> (k / 2 * 4) & 15;
        const int q = nibble | (high >> (2 * k) & 3) << 4;
        codes[128 * half + 32 * k + l] = static_cast<int8_t>(q - 32);
      }
    }
  }
}

// Low 4 bits of 32 codes, of which `min_code` is stored as 0.
void PackHalves(const int8_t* codes, int min_code, uint8_t* bytes) {
  for (int i = 0; i < 16; ++i) {
    bytes[i] = static_cast<uint8_t>(((codes[i] - min_code) & 15) |
                                    (codes[16 + i] - min_code) << 4);
  }
}

void UnpackHalves(const uint8_t* bytes, int min_code, int8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = static_cast<int8_t>((bytes[i] & 15) + min_code);
    codes[16 + i] = static_cast<int8_t>((bytes[i] >> 4) + min_code);
  }
}

// The same of 5 bits: bit i of the first 4 bytes is bit 4 of code i.
void PackFiveBits(const int8_t* codes, int min_code, uint8_t* bytes) {
  std::fill_n(bytes, 4, uint8_t{0});
  for (int i = 0; i < 32; ++i) {
    bytes[i / 8] = static_cast<uint8_t>(
        bytes[i / 8] | ((codes[i] - min_code) >> 4 & 1) << i % 8);
  }
  PackHalves(codes, min_code, bytes + 4);
}

void UnpackFiveBits(const uint8_t* bytes, int min_code, int8_t* codes) {
  UnpackHalves(bytes + 4, min_code, codes);
  for (int i = 0; i < 32; ++i) {
    const int bit = bytes[i / 8] >> i % 8 & 1;
    codes[i] = static_cast<int8_t>(codes[i] + (bit << 4));
  }
}

// Twice the values of E2M1 without its sign.
constexpr int kDoubledE2M1[] = {0, 1, 2, 3, 4, 6, 8, 12};

void PackMXFP4(const GgmlBlockParams& params, const int8_t* codes,
               uint8_t* block) {
  int8_t nibbles[32];
  for (int i = 0; i < 32; ++i) {
    const int magnitude = std::abs(codes[i]);
    int nibble = 0;
    while (nibble < 7 && kDoubledE2M1[nibble] < magnitude) ++nibble;
    nibbles[i] = static_cast<int8_t>(codes[i] < 0 ? nibble | 8 : nibble);
  }
  block[0] = static_cast<uint8_t>(std::ilogb(params.d) + 128);
  PackHalves(nibbles, 0, block + 1);
}

void UnpackMXFP4(const uint8_t* block, GgmlBlockParams* params, int8_t* codes) {
  params->d = std::ldexp(1.0f, block[0] - 128);
  UnpackHalves(block + 1, 0, codes);
  for (int i = 0; i < 32; ++i) {
    const int value = kDoubledE2M1[codes[i] & 7];
    codes[i] = static_cast<int8_t>((codes[i] & 8) != 0 ? -value : value);
  }
}

}  // namespace

const GgmlBlockFormat* FindGgmlBlockFormat(GgmlType type) {
  for (const GgmlBlockFormat& format : kFormats) {
    if (format.type == type) return &format;
  }
  return nullptr;
}

void RoundToGgmlCodes(GgmlType type, const GgmlBlockParams& params,
                      absl::Span<const float> x, absl::Span<int8_t> codes) {
  const GgmlBlockFormat& format = Format(type);
  const size_t elems = static_cast<size_t>(format.block_elems);
  QEFF_CHECK(type != GgmlType::kMXFP4);
  QEFF_CHECK(x.size() == elems && codes.size() == elems);
  const float lo = static_cast<float>(format.min_code);
  const float hi = static_cast<float>(format.max_code);
  for (int s = 0; s < format.num_sub_blocks(); ++s) {
    const float scale = params.scale(s);
    const float offset = params.offset(s);
    if (scale == 0) continue;
    const int begin = s * format.sub_block_elems;
    for (int i = begin; i < begin + format.sub_block_elems; ++i) {
      // Bounds first: a quotient may be too large for an integer.
      const float code = (x[static_cast<size_t>(i)] + offset) / scale;
      codes[static_cast<size_t>(i)] =
          static_cast<int8_t>(std::nearbyint(std::min(std::max(code, lo), hi)));
    }
  }
}

void PackGgmlBlock(GgmlType type, const GgmlBlockParams& params,
                   absl::Span<const int8_t> codes, absl::Span<uint8_t> bytes) {
  const GgmlBlockFormat& format = Format(type);
  QEFF_CHECK(codes.size() == static_cast<size_t>(format.block_elems));
  QEFF_CHECK(bytes.size() == static_cast<size_t>(format.block_bytes));
  uint8_t* block = bytes.data();
  if (type == GgmlType::kMXFP4) return PackMXFP4(params, codes.data(), block);
  StoreF16(params.d, block + (type == GgmlType::kQ6_K ? kQ6KDByte : 0));
  if (format.has_offsets()) {
    const bool negated = !format.has_scale_codes();
    StoreF16(negated ? -params.dmin : params.dmin, block + kDminByte);
    if (format.has_scale_codes()) PackScales(params, block + kScalesByte);
  }
  switch (type) {
    case GgmlType::kQ8_0:
      std::copy(codes.begin(), codes.end(), block + 2);
      break;
    case GgmlType::kQ4_0:
    case GgmlType::kQ4_1:
      PackHalves(codes.data(), format.min_code,
                 block + format.block_bytes - 16);
      break;
    case GgmlType::kQ5_0:
    case GgmlType::kQ5_1:
      PackFiveBits(codes.data(), format.min_code,
                   block + format.block_bytes - 20);
      break;
    case GgmlType::kQ4_K:
      PackNibbles(codes.data(), block + kQ4KCodesByte);
      break;
    case GgmlType::kQ5_K:
      PackFifthBits(codes.data(), block + kQ5KHighByte);
      PackNibbles(codes.data(), block + kQ5KCodesByte);
      break;
    default:
      PackQ6K(codes.data(), block);
      std::copy_n(params.scale_codes, 16, block + kQ6KScalesByte);
      break;
  }
}

void UnpackGgmlBlock(GgmlType type, absl::Span<const uint8_t> bytes,
                     GgmlBlockParams* params, absl::Span<int8_t> codes) {
  const GgmlBlockFormat& format = Format(type);
  QEFF_CHECK(codes.size() == static_cast<size_t>(format.block_elems));
  QEFF_CHECK(bytes.size() == static_cast<size_t>(format.block_bytes));
  const uint8_t* block = bytes.data();
  *params = GgmlBlockParams();
  params->scale_codes[0] = 1;
  if (type == GgmlType::kMXFP4) {
    return UnpackMXFP4(block, params, codes.data());
  }
  params->d = LoadF16(block + (type == GgmlType::kQ6_K ? kQ6KDByte : 0));
  if (format.has_offsets()) {
    params->dmin = LoadF16(block + kDminByte);
    if (format.has_scale_codes()) {
      UnpackScales(block + kScalesByte, params);
    } else {
      params->dmin = -params->dmin;
      params->min_codes[0] = 1;
    }
  }
  const auto to_signed = [](uint8_t b) { return static_cast<int8_t>(b); };
  switch (type) {
    case GgmlType::kQ8_0:
      std::transform(block + 2, block + 34, codes.begin(), to_signed);
      break;
    case GgmlType::kQ4_0:
    case GgmlType::kQ4_1:
      UnpackHalves(block + format.block_bytes - 16, format.min_code,
                   codes.data());
      break;
    case GgmlType::kQ5_0:
    case GgmlType::kQ5_1:
      UnpackFiveBits(block + format.block_bytes - 20, format.min_code,
                     codes.data());
      break;
    case GgmlType::kQ4_K:
      UnpackNibbles(block + kQ4KCodesByte, codes.data());
      break;
    case GgmlType::kQ5_K:
      UnpackNibbles(block + kQ5KCodesByte, codes.data());
      UnpackFifthBits(block + kQ5KHighByte, codes.data());
      break;
    default:
      UnpackQ6K(block, codes.data());
      std::transform(block + kQ6KScalesByte, block + kQ6KDByte,
                     params->scale_codes, to_signed);
      break;
  }
}

}  // namespace qeff
