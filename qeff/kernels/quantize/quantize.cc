// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/quantize/quantize.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/quantize/quantize.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/kernels/convert/convert-inl.h"
#include "qeff/kernels/prefetch/stream_fetcher.h"
#include "qeff/kernels/quantize/encode-inl.h"
#include "qeff/kernels/quantize/group_range-inl.h"
#include "qeff/kernels/quantize/packing-inl.h"
#include "qeff/util/aligned.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"

// What a target needs to know about a run of rows. Plain data, shared by all.
#ifndef QEFF_KERNELS_QUANTIZE_QUANTIZE_JOB_
#define QEFF_KERNELS_QUANTIZE_QUANTIZE_JOB_
namespace qeff {
namespace internal_quantize {

// Memory for one piece. What belongs to a group is an array over the groups of
// the piece with room for a whole vector after the last.
struct Scratch {
  Scratch(size_t cols, size_t groups)
      : codes(cols),
        range(groups + kAlignment),
        lowest(range.size()),
        inverse(range.size()),
        zero(range.size()),
        scale_bytes(range.size() * sizeof(float)),
        zero_bytes(range.size()) {}

  AlignedArray<uint8_t> codes;
  AlignedArray<uint32_t> range, lowest;  // see RangeWords
  AlignedArray<float> inverse;
  AlignedArray<int32_t> zero;
  AlignedArray<uint8_t> scale_bytes;  // as they are stored
  AlignedArray<uint8_t> zero_bytes;
};

// Groups of a row that are quantized together, so that the second pass over
// their elements finds them in the first-level cache.
struct PieceSize {
  size_t elems;
  size_t groups;
  size_t packed_bytes;
};

struct Job {
  QuantScheme scheme;
  DType scale_dtype;
  const uint8_t* from;
  size_t rows;
  size_t group_elems;
  size_t pieces;  // a row, whose last one has its own size
  PieceSize piece, last_piece;
  uint8_t* packed;
  uint8_t* scales;
  uint8_t* zeros;  // null when symmetric
  Scratch* scratch;
};

}  // namespace internal_quantize
}  // namespace qeff
#endif

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace HWY_NAMESPACE {

using internal_quantize::Job;
using internal_quantize::PieceSize;

// The least number of codes whose packed form is whole words.
constexpr size_t kBlockCodes = 32;

// Packs codes to `bytes` bytes, the last word of which zeros may fill.
template <int kBits>
void PackPiece(const uint8_t* codes, size_t count, size_t bytes, uint8_t* to) {
  constexpr size_t kBlockLanes = kBlockCodes / kLaneCodes;
  const size_t blocks = count / kBlockCodes;
  PackLaneRun<kBits>(codes, blocks * kBlockLanes, to);
  const size_t done = blocks * 4 * kBits;
  if (done == bytes) return;
  uint8_t block[kBlockCodes] = {};
  std::memcpy(block, codes + blocks * kBlockCodes, count % kBlockCodes);
  uint8_t last[4 * kBits];
  PackLaneRun<kBits>(block, kBlockLanes, last);
  std::memcpy(to + done, last, bytes - done);
}

template <class Source>
size_t FirstNotFinite(const uint8_t* from, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const float value = Source::LoadOne(from + i * Source::kBytes);
    if (!(value - value == 0)) return i;
  }
  return count;
}

// The scale of a group with range [lo, hi], before it is rounded.
template <class DF>
HWY_INLINE hn::Vec<DF> ExactScale(DF df, const QuantScheme& scheme,
                                  hn::Vec<DF> lo, hn::Vec<DF> hi) {
  const float steps = static_cast<float>((1 << scheme.bits) - 1);
  if (!scheme.symmetric) {
    const auto vsteps = hn::Set(df, steps);
    return hn::Sub(hn::Div(hi, vsteps), hn::Div(lo, vsteps));
  }
  const auto absmax = hn::Max(hn::Neg(lo), hi);
  if (scheme.bits == 8) return hn::Div(absmax, hn::Set(df, 127.0f));
  if (scheme.scale_rule == ScaleRule::kAbsMax) {
    return hn::Div(absmax, hn::Set(df, 0.5f * steps));
  }
  // A power of two: the product is the quotient.
  return hn::Mul(
      hn::CopySign(absmax, hn::Sub(hn::Neg(lo), hi)),
      hn::Set(df, 1.0f / static_cast<float>(1 << (scheme.bits - 1))));
}

// Rounds scales to `dtype`, with 1 for those that are too small, and stores
// them at `to`. Returns which were too small.
template <class DF>
HWY_INLINE hn::Mask<DF> RoundScales(DF df, DType dtype, uint8_t* to,
                                    hn::Vec<DF>* scale) {
  const hn::Rebind<uint32_t, DF> d32;
  const hn::Rebind<uint16_t, DF> d16;
  const float smallest = dtype == DType::kF16 ? 0x1p-24f : 0x1p-126f;
  auto rounded = *scale;
  if (dtype == DType::kBF16) {
    rounded = hn::BitCast(df, hn::ShiftLeft<16>(ToBF16Bits(df, rounded)));
  } else if (dtype == DType::kF16) {
    rounded = FromF16Bits(df, ToF16Bits(df, rounded));
  }
  const auto small = hn::Lt(hn::Abs(rounded), hn::Set(df, smallest));
  rounded = hn::IfThenElse(small, hn::Set(df, 1.0f), rounded);
  if (dtype == DType::kF32) {
    StoreBytes(df, rounded, to);
  } else {
    const auto bits = dtype == DType::kF16
                          ? ToF16Bits(df, rounded)
                          : hn::ShiftRight<16>(hn::BitCast(d32, rounded));
    StoreBytes(d16, hn::TruncateTo(d16, bits), to);
  }
  *scale = rounded;
  return small;
}

// ComputeGroupParams of the groups of a piece, a vector of them at a time: two
// divisions a group would take longer than everything else.
template <class Source>
void PieceParams(const Job& job, size_t groups, const RangeWords& ranges) {
  const hn::ScalableTag<float> df;
  const hn::Rebind<int32_t, decltype(df)> di;
  const hn::Rebind<uint8_t, decltype(df)> d8;
  internal_quantize::Scratch& scratch = *job.scratch;
  const size_t scale_bytes = DTypeBytes(job.scale_dtype);
  const auto middle = hn::Set(di, 1 << (job.scheme.bits - 1));
  const auto steps =
      hn::Set(df, static_cast<float>((1 << job.scheme.bits) - 1));
  const auto base = hn::Set(df, kRoundingBase);
  for (size_t g = 0; g < groups; g += hn::Lanes(df)) {
    hn::Vec<decltype(df)> lo, hi;
    LoadRanges<Source>(df, ranges, g, &lo, &hi);
    auto scale = ExactScale(df, job.scheme, lo, hi);
    const auto small =
        RoundScales(df, job.scale_dtype,
                    scratch.scale_bytes.data() + g * scale_bytes, &scale);
    hn::Store(hn::Div(hn::Set(df, 1.0f), scale), df,
              scratch.inverse.data() + g);
    auto zero = middle;
    if (!job.scheme.symmetric) {
      auto exact = hn::Div(hn::Neg(lo), scale);
      exact = hn::Sub(hn::Add(exact, base), base);
      exact = hn::Min(hn::Max(exact, hn::Zero(df)), steps);
      zero = hn::IfThenElse(hn::RebindMask(di, small), middle,
                            hn::ConvertTo(di, exact));
      StoreBytes(d8, hn::DemoteTo(d8, zero), scratch.zero_bytes.data() + g);
    }
    hn::Store(zero, di, scratch.zero.data() + g);
  }
}

// Reads the piece from the caches, where its ranges have left it, and
// meanwhile fetches what is one piece and kAheadBytes further. One piece alone
// is a fifth slower from memory, two pieces are no faster.
template <class Source, size_t kGroup>
void EncodePiece(const Job& job, const uint8_t* from, size_t count,
                 StreamFetcher* fetcher) {
  const size_t group = kGroup != 0 ? kGroup : job.group_elems;
  const size_t piece_bytes = job.piece.elems * Source::kBytes;
  const float* inverse = job.scratch->inverse.data();
  const int32_t* zero = job.scratch->zero.data();
  uint8_t* codes = job.scratch->codes.data();
  GroupCode code;
  code.bits = job.scheme.bits;
  code.ahead_bytes = piece_bytes + StreamFetcher::kAheadBytes;
  for (size_t left = count; left != 0;
       from += group * Source::kBytes, codes += group) {
    fetcher->ReachPages(from + piece_bytes);
    code.inverse = *inverse++;
    code.zero = *zero++;
    if (left < group) return EncodeGroup<Source>(from, left, code, codes);
    EncodeGroup<Source>(from, group, code, codes);
    left -= group;
  }
}

// Both passes over a piece. Returns false when an element is not finite.
template <class Source, size_t kGroup>
bool CodesOfPiece(const Job& job, const PieceSize& size, const uint8_t* from,
                  StreamFetcher* fetcher) {
  const RangeWords ranges = {job.scratch->range.data(),
                             job.scratch->lowest.data()};
  if (!PieceRanges<Source, kGroup>(from, size.elems, job.group_elems, ranges)) {
    return false;
  }
  PieceParams<Source>(job, size.groups, ranges);
  EncodePiece<Source, kGroup>(job, from, size.elems, fetcher);
  return true;
}

// The usual sizes of groups are constants: no loop is left within a group.
template <class Source>
bool CodesOfPiece(const Job& job, const PieceSize& size, const uint8_t* from,
                  StreamFetcher* fetcher) {
  switch (job.group_elems) {
    case 32:
      return CodesOfPiece<Source, 32>(job, size, from, fetcher);
    case 64:
      return CodesOfPiece<Source, 64>(job, size, from, fetcher);
    case 128:
      return CodesOfPiece<Source, 128>(job, size, from, fetcher);
    default:
      return CodesOfPiece<Source, 0>(job, size, from, fetcher);
  }
}

// Where the results of the next piece go.
struct Output {
  uint8_t* packed;
  uint8_t* scales;
  uint8_t* zeros;  // null when symmetric
};

// Stores the codes and parameters that are in job.scratch.
template <int kBits>
void StorePiece(const Job& job, const PieceSize& size, Output* to) {
  PackPiece<kBits>(job.scratch->codes.data(), size.elems, size.packed_bytes,
                   to->packed);
  to->packed += size.packed_bytes;
  const size_t scale_bytes = size.groups * DTypeBytes(job.scale_dtype);
  std::memcpy(to->scales, job.scratch->scale_bytes.data(), scale_bytes);
  to->scales += scale_bytes;
  if (to->zeros == nullptr) return;
  std::memcpy(to->zeros, job.scratch->zero_bytes.data(), size.groups);
  to->zeros += size.groups;
}

// Returns the index of the first element that is not finite, or -1.
template <class Source, int kBits>
int64_t QuantizeJob(const Job& job) {
  Output to = {job.packed, job.scales, job.zeros};
  StreamFetcher fetcher;
  size_t done = 0;
  for (size_t row = 0; row < job.rows; ++row) {
    for (size_t i = 0; i < job.pieces; ++i) {
      const PieceSize& size = i + 1 < job.pieces ? job.piece : job.last_piece;
      const uint8_t* from = job.from + done * Source::kBytes;
      if (!CodesOfPiece<Source>(job, size, from, &fetcher)) {
        return static_cast<int64_t>(done +
                                    FirstNotFinite<Source>(from, size.elems));
      }
      StorePiece<kBits>(job, size, &to);
      done += size.elems;
    }
  }
  return -1;
}

template <class Source>
int64_t QuantizeBits(const Job& job) {
  switch (job.scheme.bits) {
    case 2:
      return QuantizeJob<Source, 2>(job);
    case 3:
      return QuantizeJob<Source, 3>(job);
    case 4:
      return QuantizeJob<Source, 4>(job);
    case 5:
      return QuantizeJob<Source, 5>(job);
    case 6:
      return QuantizeJob<Source, 6>(job);
    case 7:
      return QuantizeJob<Source, 7>(job);
    default:
      return QuantizeJob<Source, 8>(job);
  }
}

int64_t QuantizeF32(const Job& job) { return QuantizeBits<F32Bytes>(job); }
int64_t QuantizeF16(const Job& job) { return QuantizeBits<F16Bytes>(job); }
int64_t QuantizeBF16(const Job& job) { return QuantizeBits<BF16Bytes>(job); }

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {

HWY_EXPORT(QuantizeF32);
HWY_EXPORT(QuantizeF16);
HWY_EXPORT(QuantizeBF16);

namespace {

// Pieces are of 2048 elements or more, and of so many groups that each but the
// last is whole words and its parameters are whole vectors: 4 to 16 KiB with
// the usual groups.
void SetPieces(const QuantizedShape& shape, size_t cols,
               internal_quantize::Job* job) {
  constexpr size_t kElems = 2048, kGroups = 32;
  const size_t group = static_cast<size_t>(shape.group_elems);
  const size_t groups = static_cast<size_t>(shape.groups);
  const size_t bits = static_cast<size_t>(job->scheme.bits);
  job->group_elems = group;
  job->piece.groups =
      std::min(groups, CeilDiv(kElems, kGroups * group) * kGroups);
  job->piece.elems = std::min(cols, job->piece.groups * group);
  job->piece.packed_bytes = job->piece.elems / 8 * bits;
  job->pieces = CeilDiv(cols, job->piece.elems);
  const size_t before = job->pieces - 1;
  job->last_piece.groups = groups - before * job->piece.groups;
  job->last_piece.elems = cols - before * job->piece.elems;
  job->last_piece.packed_bytes = static_cast<size_t>(shape.row_words * 4) -
                                 before * job->piece.packed_bytes;
}

}  // namespace

absl::optional<int64_t> QuantizeRows(const QuantScheme& scheme,
                                     DType scale_dtype, DType dtype,
                                     absl::Span<const uint8_t> from,
                                     int64_t rows, int64_t cols,
                                     const QuantizedRows& to) {
  QEFF_CHECK(rows >= 0 && cols >= 0);
  QEFF_CHECK(scheme.bits >= kMinQuantBits && scheme.bits <= kMaxQuantBits);
  QEFF_CHECK(dtype == DType::kF32 || dtype == DType::kF16 ||
             dtype == DType::kBF16);
  QEFF_CHECK(IsScaleDType(scale_dtype));
  const QuantizedShape shape(scheme, rows, cols);
  const size_t groups = static_cast<size_t>(rows * shape.groups);
  QEFF_CHECK(from.size() ==
             static_cast<size_t>(rows * cols) * DTypeBytes(dtype));
  QEFF_CHECK(to.packed.size() ==
             static_cast<size_t>(rows * shape.row_words * 4));
  QEFF_CHECK(to.scales.size() == groups * DTypeBytes(scale_dtype));
  QEFF_CHECK(to.zeros.size() == (scheme.symmetric ? 0 : groups));
  if (rows == 0 || cols == 0) return absl::nullopt;

  internal_quantize::Job job;
  job.scheme = scheme;
  job.scale_dtype = scale_dtype;
  job.from = from.data();
  job.rows = static_cast<size_t>(rows);
  job.packed = to.packed.data();
  job.scales = to.scales.data();
  job.zeros = scheme.symmetric ? nullptr : to.zeros.data();
  SetPieces(shape, static_cast<size_t>(cols), &job);
  internal_quantize::Scratch scratch(job.piece.elems, job.piece.groups);
  job.scratch = &scratch;
  const int64_t bad =
      dtype == DType::kF32   ? HWY_DYNAMIC_DISPATCH(QuantizeF32)(job)
      : dtype == DType::kF16 ? HWY_DYNAMIC_DISPATCH(QuantizeF16)(job)
                             : HWY_DYNAMIC_DISPATCH(QuantizeBF16)(job);
  if (bad >= 0) return bad;
  return absl::nullopt;
}

}  // namespace qeff
#endif  // HWY_ONCE
