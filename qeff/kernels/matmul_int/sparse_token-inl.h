// SPDX-License-Identifier: Apache-2.0
//
// Per-target: the product of a sparse panel with one token, without the way
// through memory that expand_part-inl.h takes, where the target expands
// vectors. There reading bounds it, as it bounds the dense product.

#if defined(QEFF_KERNELS_MATMUL_INT_SPARSE_TOKEN_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef QEFF_KERNELS_MATMUL_INT_SPARSE_TOKEN_INL_H_
#undef QEFF_KERNELS_MATMUL_INT_SPARSE_TOKEN_INL_H_
#else
#define QEFF_KERNELS_MATMUL_INT_SPARSE_TOKEN_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "qeff/kernels/matmul_int/dot-inl.h"
#include "qeff/kernels/matmul_int/expand_part-inl.h"
#include "qeff/kernels/matmul_int/multiply_part-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_matmul_int {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX3_DL
constexpr bool kMultipliesSparseToken = true;

HWY_INLINE VI DotExpanded(VI sum, V8 codes, V8 zero, const TokenWord& token) {
  return Dot(sum, WeightWord(hn::BitCast(U32(), hn::Xor(codes, zero))), token);
}

HWY_INLINE int32_t LoadWord(const uint8_t* from) {
  int32_t word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

// sums[w][v] += rows of vector v of word w of a step times the two words of the
// token at `x`. Two sums a vector: each waits for itself only.
template <int kBits>
HWY_INLINE void MultiplySparseStep(const uint8_t* masks, const V8 (&zeros)[2],
                                   const uint8_t* x,
                                   const uint8_t* (&values)[2],
                                   VI (&sums)[2][kVectors]) {
  const TokenWord tokens[2] = {TokenWord(LoadWord(x)),
                               TokenWord(LoadWord(x + 4))};
  if (kBits == 8) {
    HWY_UNROLL(4)
    for (int i = 0; i < 4; ++i) {
      const uint64_t mask = LoadMask(masks + 8 * i);
      const V8 codes = ExpandBytes(mask, hn::LoadU(U8(), values[0]));
      values[0] += __builtin_popcountll(mask);
      sums[i / 2][i % 2] =
          DotExpanded(sums[i / 2][i % 2], codes, zeros[i % 2], tokens[i / 2]);
    }
    return;
  }
  const V8 nibble = hn::Set(U8(), 0x0F);
  const hn::Repartition<uint16_t, U8> u16;
  HWY_UNROLL(2)
  for (int v = 0; v < 2; ++v) {
    const uint64_t low_mask = LoadMask(masks + 16 * v);
    const uint64_t high_mask = LoadMask(masks + 16 * v + 8);
    const V8 low = hn::And(hn::LoadU(U8(), values[0]), nibble);
    const V8 high =
        hn::And(hn::BitCast(U8(), hn::ShiftRight<4>(hn::BitCast(
                                      u16, hn::LoadU(U8(), values[1])))),
                nibble);
    values[0] += __builtin_popcountll(low_mask);
    values[1] += __builtin_popcountll(high_mask);
    sums[0][v] = DotExpanded(sums[0][v], ExpandBytes(low_mask, low), zeros[v],
                             tokens[0]);
    sums[1][v] = DotExpanded(sums[1][v], ExpandBytes(high_mask, high), zeros[v],
                             tokens[1]);
  }
}

// The same where two of four are kept: activations are chosen, not weights
// expanded. sums[0][v] has products of codes as they are stored, sums[1][v] of
// the code of 0.
template <int kBits>
HWY_INLINE void MultiplyPairsStep(const uint8_t* indices, const V8 (&zeros)[2],
                                  const uint8_t* x, const uint8_t* values,
                                  VI (&sums)[2][kVectors]) {
  const V8 three = hn::Set(U8(), 3);
  // The last two kept codes of a word belong to the last four columns.
  const auto last = hn::BitCast(U8(), hn::Set(U32(), 0x04040000u));
  const V8 token =
      hn::BitCast(U8(), hn::Set(hn::Repartition<uint64_t, U8>(), LoadMask(x)));
  HWY_UNROLL(2)
  for (int v = 0; v < 2; ++v) {
    const V8 shifted =
        ShiftIndices(kShiftsOfIndices, hn::LoadDup128(U8(), indices + 16 * v));
    const V8 which = hn::Or(hn::And(shifted, three), last);
    const TokenWord chosen(
        hn::BitCast(I32(), hn::TableLookupBytes(token, which)));
    const V8 codes = LoadPairs<kBits>(values, v);
    sums[0][v] = DotExpanded(sums[0][v], codes, zeros[v], chosen);
    sums[1][v] =
        Dot(sums[1][v], WeightWord(hn::BitCast(U32(), zeros[v])), chosen);
  }
}

// All steps of a group, whose sums begin as BeginGroup has them; of pairs 0.
template <int kBits, bool kPairs>
HWY_INLINE void MultiplySparseGroup(int64_t steps, const ZeroCodes& codes,
                                    const uint8_t* x, SparseFetchers& fetchers,
                                    SparseCursor& cursor,
                                    VI (&total)[1][kVectors]) {
  constexpr int64_t kStepsOfPiece = 4;
  const int64_t ahead = fetchers.values.LineAheadBytes();
  V8 zeros[2] = {hn::Load(U8(), codes.bytes),
                 hn::Load(U8(), codes.bytes + kVectorBytes)};
  if (kBits == 4) {
    for (V8& zero : zeros) zero = hn::And(zero, hn::Set(U8(), 0x0F));
  }
  VI sums[2][kVectors] = {{total[0][0], total[0][1]},
                          {hn::Zero(I32()), hn::Zero(I32())}};
  const uint8_t* masks = cursor.masks;
  const uint8_t* values[2] = {cursor.values[0], cursor.values[1]};
  const uint8_t* const limit = cursor.limit;
  for (int64_t begin = 0; begin < steps; begin += kStepsOfPiece) {
    // Line by line: in bursts of 1 KiB it took a tenth to a quarter more time.
    // Values of a step take two lines with 8 bits, one or two with 4.
    fetchers.masks.ReachPages(masks);
    fetchers.values.ReachPages(values[0]);
    hwy::Prefetch(masks + ahead);
    hwy::Prefetch(masks + ahead + 64);
    const int64_t end = HWY_MIN(begin + kStepsOfPiece, steps);
    for (int64_t s = begin; s < end; ++s) {
      hwy::Prefetch(values[0] + ahead);
      if (kBits == 8 || !kPairs) {
        hwy::Prefetch(values[0] + ahead + 64);
      }
      if (kPairs) {
        MultiplyPairsStep<kBits>(masks, zeros, x, values[0], sums);
        values[0] += kBits * kPanelRows / 2;
      } else {
        MultiplySparseStep<kBits>(masks, zeros, x, values, sums);
        values[0] = HWY_MIN(values[0], limit);
        values[1] = HWY_MIN(values[1], limit);
      }
      masks += PackedIntLayout::kStepMaskBytes;
      x += 8;
    }
  }
  cursor.masks = masks;
  cursor.values[0] = values[0];
  cursor.values[1] = values[1];
  for (int v = 0; v < kVectors; ++v) {
    total[0][v] = kPairs ? hn::Sub(sums[0][v], sums[1][v])
                         : hn::Add(sums[0][v], sums[1][v]);
  }
}

// Panel `panel` times the only token of `tile`.
template <int kBits, bool kPairs>
HWY_NOINLINE void MultiplySparseTokenOf(const Product& product,
                                        const Tile& tile, int64_t panel,
                                        SparseFetchers& fetchers,
                                        PanelState& state) {
  SparseCursor cursor(*product.sparse, product.weights, panel);
  const int64_t scale_bytes = product.scales_bytes / kPanelRows;
  ZeroCodes codes;
  SetZeroCodes<kBits>(nullptr, codes);
  VF totals[1][kVectors];
  LoadTokens(F32(), state.totals, totals);
  const uint8_t* x = tile.codes;
  for (int64_t g = 0; g < product.groups; ++g) {
    const uint8_t* zeros =
        cursor.zeros == nullptr ? nullptr : cursor.zeros + g * kPanelRows;
    if (zeros != nullptr) SetZeroCodes<kBits>(zeros, codes);
    VI sums[1][kVectors];
    if (kPairs) {
      sums[0][0] = sums[0][1] = hn::Zero(I32());
    } else {
      BeginGroup<kBits>(tile.sums + g, zeros, sums);
    }
    const int64_t steps = cursor.StepsOf(g);
    MultiplySparseGroup<kBits, kPairs>(steps, codes, x, fetchers, cursor, sums);
    EndGroup(sums, product.scale_dtype, cursor.masks, scale_bytes, totals);
    cursor.masks += product.scales_bytes;
    x += 8 * steps;
  }
  StoreTokens(F32(), totals, state.totals);
}

template <int kBits>
HWY_INLINE void MultiplySparseToken(const Product& product, const Tile& tile,
                                    int64_t panel, SparseFetchers& fetchers,
                                    PanelState& state) {
  product.sparse->sparse_codes().two_of_four
      ? MultiplySparseTokenOf<kBits, true>(product, tile, panel, fetchers,
                                           state)
      : MultiplySparseTokenOf<kBits, false>(product, tile, panel, fetchers,
                                            state);
}

#else
constexpr bool kMultipliesSparseToken = false;

template <int kBits>
HWY_INLINE void MultiplySparseToken(const Product&, const Tile&, int64_t,
                                    SparseFetchers&, PanelState&) {}
#endif

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace internal_matmul_int
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#endif  // QEFF_KERNELS_MATMUL_INT_SPARSE_TOKEN_INL_H_
