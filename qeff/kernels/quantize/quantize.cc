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

// What a target needs to know about a run of rows. Plain data, shared by all.
#ifndef QEFF_KERNELS_QUANTIZE_QUANTIZE_JOB_
#define QEFF_KERNELS_QUANTIZE_QUANTIZE_JOB_
namespace qeff {
namespace internal_quantize {

// Memory for one row. What belongs to a group is an array over the groups of
// the row with room for a whole vector after the last, zeroed at first.
struct Scratch {
  Scratch(int64_t cols, int64_t groups)
      : codes(static_cast<size_t>(cols) + kAlignment),
        range(static_cast<size_t>(groups) + kAlignment),
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

struct Job {
  QuantScheme scheme;
  DType scale_dtype;
  const uint8_t* from;
  int64_t rows;
  int64_t cols;
  int64_t group_elems;
  int64_t groups;    // a row
  size_t row_bytes;  // of packed
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

// The least number of codes whose packed form is whole words.
constexpr size_t kBlockCodes = 32;

// Packs a row of codes, which are followed by zeros up to a whole block.
template <int kBits>
void PackRow(const uint8_t* codes, size_t cols, size_t row_bytes,
             uint8_t* packed) {
  constexpr size_t kBlockLanes = kBlockCodes / kLaneCodes;
  const size_t blocks = cols / kBlockCodes;
  PackLaneRun<kBits>(codes, blocks * kBlockLanes, packed);
  const size_t done = blocks * 4 * kBits;
  if (done == row_bytes) return;
  uint8_t last[4 * kBits];
  PackLaneRun<kBits>(codes + blocks * kBlockCodes, kBlockLanes, last);
  std::memcpy(packed + done, last, row_bytes - done);
}

template <class Source>
int64_t FirstNotFinite(const uint8_t* from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const float value =
        Source::LoadOne(from + static_cast<size_t>(i) * Source::kBytes);
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

// ComputeGroupParams of the groups of a row, a vector of them at a time: two
// divisions a group would take longer than everything else.
template <class Source>
void RowParams(const Job& job, const RangeWords& ranges) {
  const hn::ScalableTag<float> df;
  const hn::Rebind<int32_t, decltype(df)> di;
  const hn::Rebind<uint8_t, decltype(df)> d8;
  internal_quantize::Scratch& scratch = *job.scratch;
  const size_t scale_bytes = DTypeBytes(job.scale_dtype);
  const auto middle = hn::Set(di, 1 << (job.scheme.bits - 1));
  const auto steps =
      hn::Set(df, static_cast<float>((1 << job.scheme.bits) - 1));
  const auto base = hn::Set(df, kRoundingBase);
  for (size_t g = 0; g < static_cast<size_t>(job.groups); g += hn::Lanes(df)) {
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

// Reads the row from the caches, where its ranges have left it, and meanwhile
// fetches the next one.
template <class Source, size_t kGroup>
void EncodeRow(const Job& job, const uint8_t* row, StreamFetcher* fetcher) {
  const size_t cols = static_cast<size_t>(job.cols);
  const size_t group =
      kGroup != 0 ? kGroup : static_cast<size_t>(job.group_elems);
  const float* inverse = job.scratch->inverse.data();
  const int32_t* zero = job.scratch->zero.data();
  uint8_t* codes = job.scratch->codes.data();
  GroupCode code;
  code.bits = job.scheme.bits;
  code.ahead_bytes = cols * Source::kBytes + StreamFetcher::kAheadBytes;
  size_t left = cols;
  for (; left != 0; row += group * Source::kBytes, codes += group) {
    fetcher->ReachPages(row + cols * Source::kBytes);
    code.inverse = *inverse++;
    code.zero = *zero++;
    if (left < group) return EncodeGroup<Source>(row, left, code, codes);
    EncodeGroup<Source>(row, group, code, codes);
    left -= group;
  }
}

// Both passes over a row. Returns false when an element is not finite.
template <class Source, size_t kGroup>
bool CodesOfRow(const Job& job, const uint8_t* row, StreamFetcher* fetcher) {
  const RangeWords ranges = {job.scratch->range.data(),
                             job.scratch->lowest.data()};
  if (!RowRanges<Source, kGroup>(row, static_cast<size_t>(job.cols),
                                 static_cast<size_t>(job.group_elems),
                                 ranges)) {
    return false;
  }
  RowParams<Source>(job, ranges);
  EncodeRow<Source, kGroup>(job, row, fetcher);
  return true;
}

// The usual sizes of groups are constants, which saves a fifth of the time.
template <class Source>
bool CodesOfRow(const Job& job, const uint8_t* row, StreamFetcher* fetcher) {
  switch (job.group_elems) {
    case 32:
      return CodesOfRow<Source, 32>(job, row, fetcher);
    case 64:
      return CodesOfRow<Source, 64>(job, row, fetcher);
    case 128:
      return CodesOfRow<Source, 128>(job, row, fetcher);
    default:
      return CodesOfRow<Source, 0>(job, row, fetcher);
  }
}

// Returns the index of the first element that is not finite, or -1.
template <class Source, int kBits>
int64_t QuantizeJob(const Job& job) {
  const size_t cols = static_cast<size_t>(job.cols);
  const size_t groups = static_cast<size_t>(job.groups);
  const size_t scale_bytes = groups * DTypeBytes(job.scale_dtype);
  StreamFetcher fetcher;
  for (size_t r = 0; r < static_cast<size_t>(job.rows); ++r) {
    const uint8_t* row = job.from + r * cols * Source::kBytes;
    if (!CodesOfRow<Source>(job, row, &fetcher)) {
      return static_cast<int64_t>(r) * job.cols +
             FirstNotFinite<Source>(row, job.cols);
    }
    std::memcpy(job.scales + r * scale_bytes, job.scratch->scale_bytes.data(),
                scale_bytes);
    if (job.zeros != nullptr) {
      std::memcpy(job.zeros + r * groups, job.scratch->zero_bytes.data(),
                  groups);
    }
    PackRow<kBits>(job.scratch->codes.data(), cols, job.row_bytes,
                   job.packed + r * job.row_bytes);
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

  internal_quantize::Scratch scratch(cols, shape.groups);
  const internal_quantize::Job job = {
      scheme,
      scale_dtype,
      from.data(),
      rows,
      cols,
      shape.group_elems,
      shape.groups,
      static_cast<size_t>(shape.row_words * 4),
      to.packed.data(),
      to.scales.data(),
      scheme.symmetric ? nullptr : to.zeros.data(),
      &scratch};
  const int64_t bad =
      dtype == DType::kF32   ? HWY_DYNAMIC_DISPATCH(QuantizeF32)(job)
      : dtype == DType::kF16 ? HWY_DYNAMIC_DISPATCH(QuantizeF16)(job)
                             : HWY_DYNAMIC_DISPATCH(QuantizeBF16)(job);
  if (bad >= 0) return bad;
  return absl::nullopt;
}

}  // namespace qeff
#endif  // HWY_ONCE
