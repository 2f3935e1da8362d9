// SPDX-License-Identifier: Apache-2.0
//
// Per-target: the product of a part of the columns of a panel with some tokens
// of a tile. Sums stay in registers within a part, and in a PanelState between
// parts.

// What all targets share.
#ifndef QEFF_KERNELS_MATMUL_INT_MULTIPLY_PART_ONCE_
#define QEFF_KERNELS_MATMUL_INT_MULTIPLY_PART_ONCE_

#include <cstdint>

#include "hwy/base.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/kernels/prefetch/stream_fetcher.h"
#include "qeff/tensor/dtype.h"

namespace qeff {
namespace internal_matmul_int {

// Bytes between two words of a row.
constexpr int64_t kWordRowBytes = kPanelRows * 4;

// A call of MatMulInt, in numbers that the inner loops use.
struct Product {
  const uint8_t* weights;
  int64_t panel_bytes;
  int64_t rows;
  int64_t groups;
  int64_t group_units;  // of kUnitElems columns
  int64_t last_group_units;
  int64_t group_steps;
  int64_t step_bytes;
  int64_t scales_bytes;
  int64_t zeros_offset;  // in a panel; 0: zero is 2^(bits-1)
  int bits;
  DType scale_dtype;
  const PackedIntLayout* sparse;  // null: `weights` are dense panels
  const ActivationLayout* layout;
  const uint8_t* activations;
  float* y;
  int64_t stride_elems;

  int64_t UnitsOf(int64_t group) const {
    return group + 1 < groups ? group_units : last_group_units;
  }
  int64_t GroupBytes() const { return group_steps * step_bytes + scales_bytes; }
};

// The activations of one tile of tokens.
struct Tile {
  const uint8_t* codes;
  const int32_t* sums;
  const float* scales;
  int64_t tokens;
  float* y;  // of the first token and row 0
};

// Where the bytes of a part of a panel are: its steps, with the scales of
// groups that end in it, and the zero points of the panel or null.
struct PartBytes {
  const uint8_t* steps;
  const uint8_t* zeros;
};

// Columns of a panel: whole groups, or some steps of one group.
struct Part {
  int64_t group_begin;
  int64_t group_end;
  int64_t step_begin;  // in each of the groups
  int64_t step_end;    // the same; a shorter last group ends sooner
};

// Of one panel and tile; element (t, r) is at t * kPanelRows + r.
struct PanelState {
  HWY_ALIGN int32_t sums[kMaxTileTokens * kPanelRows];  // of an open group
  HWY_ALIGN float totals[kMaxTileTokens * kPanelRows];  // of the groups before
};

}  // namespace internal_matmul_int
}  // namespace qeff
#endif  // QEFF_KERNELS_MATMUL_INT_MULTIPLY_PART_ONCE_

#if defined(QEFF_KERNELS_MATMUL_INT_MULTIPLY_PART_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef QEFF_KERNELS_MATMUL_INT_MULTIPLY_PART_INL_H_
#undef QEFF_KERNELS_MATMUL_INT_MULTIPLY_PART_INL_H_
#else
#define QEFF_KERNELS_MATMUL_INT_MULTIPLY_PART_INL_H_
#endif

#include <cstring>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "qeff/kernels/convert/convert-inl.h"
#include "qeff/kernels/matmul_int/dot-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_matmul_int {
namespace HWY_NAMESPACE {

using F32 = hn::RebindToFloat<I32>;
using VF = hn::Vec<F32>;

// Sums that stay in registers: kVectors vectors of rows for each token.
constexpr int kVectors = 2;
constexpr int kRowsAtOnce = kVectors * kLanes;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
constexpr int kTokensAtOnce = static_cast<int>(kMaxTileTokens);
#else
// 16 registers. NEON has 32: with 12 tokens it would take a tenth fewer
// instructions, and 100 KB more of a static binary.
constexpr int kTokensAtOnce = 4;
#endif

HWY_INLINE VF LoadScales(DType dtype, const uint8_t* from) {
  switch (dtype) {
    case DType::kF16:
      return ::qeff::HWY_NAMESPACE::F16Bytes::LoadNumbers(F32(), from);
    case DType::kBF16:
      return ::qeff::HWY_NAMESPACE::BF16Bytes::Load(F32(), from);
    default:
      return ::qeff::HWY_NAMESPACE::F32Bytes::Load(F32(), from);
  }
}

// sums[t][v] += words of rows v times word of token t.
template <int kTokens>
HWY_INLINE void MultiplyWord(const VU (&words)[kVectors], const uint8_t* x,
                             VI (&sums)[kTokens][kVectors]) {
  const WeightWord w0(words[0]), w1(words[1]);
  HWY_UNROLL(12)
  for (int t = 0; t < kTokens; ++t) {
    int32_t word;
    std::memcpy(&word, x + 4 * t, sizeof(word));
    const TokenWord token(word);
    sums[t][0] = Dot(sums[t][0], w0, token);
    sums[t][1] = Dot(sums[t][1], w1, token);
  }
}

HWY_INLINE VU LoadWords(const uint8_t* from) {
  return hn::Load(U32(), reinterpret_cast<const uint32_t*>(from));
}

// Units of a step.
template <int kBits>
constexpr int64_t kStepUnits = kBits == 3   ? 4
                               : kBits == 2 ? 2
                                            : 1;

// A step of 8 bits: two words of memory.
template <int kTokens>
HWY_INLINE void MultiplyInt8(const uint8_t* w, const uint8_t* x,
                             int64_t x_stride_bytes,
                             VI (&sums)[kTokens][kVectors]) {
  HWY_UNROLL(2)
  for (int half = 0; half < 2; ++half) {
    const VU words[kVectors] = {WithoutInt8Bias(LoadWords(w)),
                                WithoutInt8Bias(LoadWords(w + 4 * kLanes))};
    MultiplyWord<kTokens>(words, x, sums);
    w += kWordRowBytes;
    x += x_stride_bytes;
  }
}

// A step of 4 bits: one word of memory. `high_sums` may be `sums`.
template <int kTokens>
HWY_INLINE void MultiplyInt4(const uint8_t* w, const uint8_t* x,
                             int64_t x_stride_bytes,
                             VI (&sums)[kTokens][kVectors],
                             VI (&high_sums)[kTokens][kVectors]) {
  const auto mask = hn::Set(U32(), 0x0F0F0F0Fu);
  const VU both[kVectors] = {LoadWords(w), LoadWords(w + 4 * kLanes)};
  const VU low[kVectors] = {hn::And(both[0], mask), hn::And(both[1], mask)};
  MultiplyWord<kTokens>(low, x, sums);
  const VU high[kVectors] = {hn::And(hn::ShiftRight<4>(both[0]), mask),
                             hn::And(hn::ShiftRight<4>(both[1]), mask)};
  MultiplyWord<kTokens>(high, x + x_stride_bytes, high_sums);
}

// The first `count` words of a step of 2 bits, or of half of one of 3 bits,
// whose third bits are in `top`: each byte's lowest belongs to the next word.
template <int kBits, int kTokens>
HWY_INLINE void MultiplyInt2(const uint8_t* w, const uint8_t* x,
                             int64_t x_stride_bytes, int64_t count,
                             VU (&top)[kVectors],
                             VI (&sums)[kTokens][kVectors]) {
  const auto mask = hn::Set(U32(), 0x03030303u);
  VU rest[kVectors] = {LoadWords(w), LoadWords(w + 4 * kLanes)};
  for (int64_t i = 0; i < count; ++i, x += x_stride_bytes) {
    VU words[kVectors];
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) {
      words[v] = hn::And(rest[v], mask);
      rest[v] = hn::ShiftRight<2>(rest[v]);
      if (kBits == 3) {
        const auto bit = hn::And(top[v], hn::Set(U32(), 0x01010101u));
        words[v] = hn::Or(words[v], hn::ShiftLeft<2>(bit));
        top[v] = hn::ShiftRight<1>(top[v]);
      }
    }
    MultiplyWord<kTokens>(words, x, sums);
  }
}

// The first `units` units of a step, all of them if kBits is 4 or 8.
// `x_stride_bytes` separates words of a token.
template <int kBits, int kTokens>
HWY_INLINE void MultiplyStep(const uint8_t* w, const uint8_t* x,
                             int64_t x_stride_bytes, int64_t units,
                             VI (&sums)[kTokens][kVectors],
                             VI (&high_sums)[kTokens][kVectors]) {
  if (kBits == 8) return MultiplyInt8(w, x, x_stride_bytes, sums);
  if (kBits == 4) return MultiplyInt4(w, x, x_stride_bytes, sums, high_sums);
  const uint8_t* top_bits = w + (kBits == 3 ? 2 * kWordRowBytes : 0);
  VU top[kVectors] = {LoadWords(top_bits), LoadWords(top_bits + 4 * kLanes)};
  for (int64_t begin = 0; begin < units; begin += 2) {
    const int64_t words = 2 * HWY_MIN(int64_t{2}, units - begin);
    MultiplyInt2<kBits>(w, x, x_stride_bytes, words, top, sums);
    w += kWordRowBytes;
    x += 4 * x_stride_bytes;
  }
}

HWY_INLINE VI LoadZeros(const uint8_t* from) {
  return hn::PromoteTo(I32(), hn::LoadU(hn::Rebind<uint8_t, I32>(), from));
}

// sums = what the codes of a group, which are unsigned, make too much: minus
// the zero point times the sum of the codes of each token. `offsets` is -8
// times the latter; `zeros` are those of the rows, or null for 2^(bits-1). What
// the codes have lost already does not count.
template <int kBits, int kTokens>
HWY_INLINE void BeginGroup(const int32_t* offsets, const uint8_t* zeros,
                           VI (&sums)[kTokens][kVectors]) {
  if (zeros != nullptr) {
    const auto bias = hn::Set(I32(), kBits == 8 ? kInt8Bias : 0);
    const VI zero0 = hn::Sub(LoadZeros(zeros), bias);
    const VI zero1 = hn::Sub(LoadZeros(zeros + kLanes), bias);
    HWY_UNROLL(12)
    for (int t = 0; t < kTokens; ++t) {
      const auto sum = hn::Set(I32(), offsets[t] / 8);
      sums[t][0] = hn::Mul(zero0, sum);
      sums[t][1] = hn::Mul(zero1, sum);
    }
    return;
  }
  HWY_UNROLL(12)
  for (int t = 0; t < kTokens; ++t) {
    const int32_t offset = kBits == 8 ? offsets[t] * (16 - kInt8Bias / 8)
                                      : offsets[t] / (16 >> kBits);
    sums[t][0] = sums[t][1] = hn::Set(I32(), offset);
  }
}

// totals += sums * scales, for each token.
template <int kTokens>
HWY_INLINE void EndGroup(const VI (&sums)[kTokens][kVectors], DType scale_dtype,
                         const uint8_t* scales, int64_t scale_bytes,
                         VF (&totals)[kTokens][kVectors]) {
  const VF scale0 = LoadScales(scale_dtype, scales);
  const VF scale1 = LoadScales(scale_dtype, scales + kLanes * scale_bytes);
  HWY_UNROLL(12)
  for (int t = 0; t < kTokens; ++t) {
    const VF d0 = hn::Mul(hn::ConvertTo(F32(), sums[t][0]), scale0);
    const VF d1 = hn::Mul(hn::ConvertTo(F32(), sums[t][1]), scale1);
    totals[t][0] = hn::Add(totals[t][0], d0);
    totals[t][1] = hn::Add(totals[t][1], d1);
  }
}

// Sums or totals of tokens, of which kPanelRows numbers lie between two.
template <int kTokens, class D>
HWY_INLINE void LoadTokens(D d, const hn::TFromD<D>* from,
                           hn::Vec<D> (&to)[kTokens][kVectors]) {
  HWY_UNROLL(12)
  for (int t = 0; t < kTokens; ++t) {
    to[t][0] = hn::Load(d, from + t * kPanelRows);
    to[t][1] = hn::Load(d, from + t * kPanelRows + kLanes);
  }
}

template <int kTokens, class D>
HWY_INLINE void StoreTokens(D d, const hn::Vec<D> (&from)[kTokens][kVectors],
                            hn::TFromD<D>* to) {
  HWY_UNROLL(12)
  for (int t = 0; t < kTokens; ++t) {
    hn::Store(from[t][0], d, to + t * kPanelRows);
    hn::Store(from[t][1], d, to + t * kPanelRows + kLanes);
  }
}

// Rows [row, row + kRowsAtOnce) of a panel times tokens [token, token +
// kTokens) of the tile, over the columns of `part`, which are at `bytes`.
// `fetcher` is null for bytes that are in the cache.
template <int kBits, int kTokens>
HWY_NOINLINE void MultiplyPart(const Product& product, const Tile& tile,
                               const Part& part, const PartBytes& bytes,
                               int64_t row, int64_t token,
                               StreamFetcher* fetcher, PanelState& state) {
  constexpr int64_t kUnits = kStepUnits<kBits>;
  constexpr int64_t kStepBytes = kPanelRows * kBits * kUnits;
  // With more tokens dot products take longer than reading, and hardware does
  // not look far enough ahead.
  constexpr bool kFetchesAlways = kTokens >= (kBits == 8 ? 8 : 4);
  const int64_t ahead = fetcher == nullptr ? 0
                        : kFetchesAlways   ? StreamFetcher::kLineAheadBytes
                                           : fetcher->LineAheadBytes();
  constexpr int64_t kPieceUnits =
      StreamFetcher::kPieceBytes / kStepBytes * kUnits;
  const int64_t x_stride_bytes = 4 * (kLanes == 16 ? kTokens : tile.tokens);
  int32_t* open = state.sums + token * kPanelRows + row;
  float* closed = state.totals + token * kPanelRows + row;
  // Totals stay in registers, too, as far as there are any: to load and store
  // them at the end of each group of 32 took a tenth of the time of 8 tokens.
  // With 8 bits, where groups are whole rows, they would only be in the way,
  // and for 6 tokens of 4 bits g++ 12 would spill weights in each step.
  constexpr bool kKeepTotals = kBits < 8 && !(kBits == 4 && kTokens == 6);
  // With few tokens dot products wait for one another: from the caches one
  // token of int4_g128 then takes a quarter less.
  constexpr bool kTwoSums = kBits == 4 && kTokens <= 2;
  VF totals[kTokens][kVectors];
  if (kKeepTotals) LoadTokens(F32(), closed, totals);
  const uint8_t* w = bytes.steps;
  const int64_t scale_bytes = product.scales_bytes / kPanelRows;
  for (int64_t g = part.group_begin; g < part.group_end; ++g) {
    VI sums[kTokens][kVectors];
    if (part.step_begin == 0) {
      BeginGroup<kBits>(
          tile.sums + g * tile.tokens + token,
          bytes.zeros != nullptr ? bytes.zeros + g * kPanelRows + row : nullptr,
          sums);
    } else {
      LoadTokens(I32(), open, sums);
    }
    VI more_sums[kTokens][kVectors];
    auto& high_sums = kTwoSums ? more_sums : sums;
    if (kTwoSums) {
      HWY_UNROLL(2)
      for (int t = 0; t < kTokens; ++t) {
        more_sums[t][0] = more_sums[t][1] = hn::Zero(I32());
      }
    }
    const int64_t units = product.UnitsOf(g);
    const int64_t end = HWY_MIN(part.step_end * kUnits, units);
    int64_t unit = part.step_begin * kUnits;
    const uint8_t* x = tile.codes + 4 * token +
                       (g * product.group_units + unit) * 2 * x_stride_bytes;
    while (unit + kUnits <= end) {
      if (fetcher != nullptr) fetcher->ReachPages(w);
      const int64_t piece_end = HWY_MIN(unit + kPieceUnits, end);
      for (; unit + kUnits <= piece_end; unit += kUnits) {
        HWY_UNROLL(6)
        for (int line = 0; line < kStepBytes; line += 64) {
          FetchLine<kFetchesAlways>(w + ahead + line);
        }
        MultiplyStep<kBits, kTokens>(w + 4 * row, x, x_stride_bytes, kUnits,
                                     sums, high_sums);
        w += kStepBytes;
        x += 2 * kUnits * x_stride_bytes;
      }
    }
    if (kUnits > 1 && unit < end) {
      MultiplyStep<kBits, kTokens>(w + 4 * row, x, x_stride_bytes, end - unit,
                                   sums, sums);
      w += kStepBytes;
    }
    if (kTwoSums) {
      HWY_UNROLL(2)
      for (int t = 0; t < kTokens; ++t) {
        sums[t][0] = hn::Add(sums[t][0], more_sums[t][0]);
        sums[t][1] = hn::Add(sums[t][1], more_sums[t][1]);
      }
    }
    if (end < units) {
      StoreTokens(I32(), sums, open);
      return;  // such a part ends no group, so totals are as they were
    }
    if (!kKeepTotals) LoadTokens(F32(), closed, totals);
    EndGroup(sums, product.scale_dtype, w + row * scale_bytes, scale_bytes,
             totals);
    if (!kKeepTotals) StoreTokens(F32(), totals, closed);
    FetchLine<kFetchesAlways>(w + ahead);
    w += product.scales_bytes;
  }
  if (kKeepTotals) StoreTokens(F32(), totals, closed);
}

// Calls MultiplyPart with as many tokens as there are, at most kTokens.
template <int kBits, int kTokens>
HWY_INLINE void MultiplyTokens(const Product& product, const Tile& tile,
                               const Part& part, const PartBytes& bytes,
                               int64_t row, int64_t token,
                               StreamFetcher* fetcher, PanelState& state) {
  if constexpr (kTokens > 1) {
    if (tile.tokens - token < kTokens) {
      return MultiplyTokens<kBits, kTokens - 1>(product, tile, part, bytes, row,
                                                token, fetcher, state);
    }
  }
  MultiplyPart<kBits, kTokens>(product, tile, part, bytes, row, token, fetcher,
                               state);
}

// All rows of a panel times all tokens of the tile.
template <int kBits>
HWY_INLINE void MultiplyPanel(const Product& product, const Tile& tile,
                              const Part& part, const PartBytes& bytes,
                              StreamFetcher* fetcher, PanelState& state) {
  for (int64_t row = 0; row < kPanelRows; row += kRowsAtOnce) {
    for (int64_t token = 0; token < tile.tokens; token += kTokensAtOnce) {
      MultiplyTokens<kBits, kTokensAtOnce>(product, tile, part, bytes, row,
                                           token, fetcher, state);
      fetcher = nullptr;
    }
  }
}

// Sets totals to 0, and fetches the lines of `y` that are to be written at the
// end: a tenth of the time of wide matrices.
HWY_INLINE void BeginPanel(const Product& product, const Tile& tile,
                           int64_t row, PanelState& state) {
  std::memset(state.totals, 0,
              static_cast<size_t>(tile.tokens * kPanelRows) * sizeof(float));
  for (int64_t t = 0; t < tile.tokens; ++t) {
    hwy::Prefetch(tile.y + t * product.stride_elems + row);
    hwy::Prefetch(tile.y + t * product.stride_elems + row + kPanelRows - 1);
  }
}

// Writes totals * scale for the rows from `row` on that are in the matrix.
HWY_INLINE void EndPanel(const Product& product, const Tile& tile, int64_t row,
                         const PanelState& state) {
  const int64_t rows = HWY_MIN(kPanelRows, product.rows - row);
  for (int64_t t = 0; t < tile.tokens; ++t) {
    const VF scale = hn::Set(F32(), tile.scales[t]);
    const float* totals = state.totals + t * kPanelRows;
    float* y = tile.y + t * product.stride_elems + row;
    HWY_ALIGN float some[kPanelRows];
    float* to = rows == kPanelRows ? y : some;
    for (int64_t r = 0; r < kPanelRows; r += kLanes) {
      hn::StoreU(hn::Mul(hn::Load(F32(), totals + r), scale), F32(), to + r);
    }
    if (rows < kPanelRows) {
      std::memcpy(y, some, static_cast<size_t>(rows) * sizeof(float));
    }
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace internal_matmul_int
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#endif  // QEFF_KERNELS_MATMUL_INT_MULTIPLY_PART_INL_H_
