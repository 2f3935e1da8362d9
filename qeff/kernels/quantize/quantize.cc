// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/quantize/quantize.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/quantize/quantize.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/kernels/convert/convert-inl.h"
#include "qeff/kernels/quantize/packing-inl.h"
#include "qeff/util/aligned.h"
#include "qeff/util/check.h"

// What a target needs to know about a run of rows. Plain data, shared by all.
#ifndef QEFF_KERNELS_QUANTIZE_QUANTIZE_JOB_
#define QEFF_KERNELS_QUANTIZE_QUANTIZE_JOB_
namespace qeff {
namespace internal_quantize {

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
  uint8_t* zeros;       // null when symmetric
  uint8_t* codes;       // room for a row, rounded up to whole blocks
  GroupParams* params;  // room for the groups of a row
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

// The bits of a floating type as an integer of the same order: the magnitude's
// bits are flipped where the sign is set. Its own inverse. -0 is below +0.
template <typename T>
constexpr T OrderedKey(T bits) {
  using U = std::make_unsigned_t<T>;
  return static_cast<T>(bits ^ ((bits >> (8 * sizeof(T) - 1)) &
                                static_cast<T>(static_cast<U>(-1) >> 1)));
}

// How a source's elements are compared: as integers, which are as narrow as
// the type and have NaN and infinities at both ends.
template <class Source>
struct Keys {
  using T = int16_t;
  static constexpr T kInfinity =
      std::is_same<Source, F16Bytes>::value ? 0x7C00 : 0x7F80;
};
template <>
struct Keys<F32Bytes> {
  using T = int32_t;
  static constexpr T kInfinity = 0x7F800000;
};

// The smallest and largest of `count` elements and 0. Returns false when one
// is not finite.
template <class Source>
HWY_INLINE bool GroupRange(const uint8_t* from, size_t count, float* min,
                           float* max) {
  using T = typename Keys<Source>::T;
  const hn::ScalableTag<T> d;
  auto lowest = hn::Zero(d), highest = hn::Zero(d);
  const auto magnitude = hn::Set(d, std::numeric_limits<T>::max());
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto bits = LoadBytes(d, from + i * sizeof(T));
    const auto key = hn::Xor(
        bits, hn::And(hn::ShiftRight<8 * sizeof(T) - 1>(bits), magnitude));
    lowest = hn::Min(lowest, key);
    highest = hn::Max(highest, key);
  }
  T low = hn::GetLane(hn::MinOfLanes(d, lowest));
  T high = hn::GetLane(hn::MaxOfLanes(d, highest));
  for (; i < count; ++i) {
    T bits;
    std::memcpy(&bits, from + i * sizeof(T), sizeof(T));
    low = std::min(low, OrderedKey(bits));
    high = std::max(high, OrderedKey(bits));
  }
  const T low_bits = OrderedKey(low);
  uint8_t bytes[sizeof(T)];
  std::memcpy(bytes, &low_bits, sizeof(T));
  *min = Source::LoadOne(bytes);
  std::memcpy(bytes, &high, sizeof(T));
  *max = Source::LoadOne(bytes);
  constexpr T kInfinity = Keys<Source>::kInfinity;
  return high < kInfinity &&
         low > OrderedKey(
                   static_cast<T>(kInfinity | std::numeric_limits<T>::min()));
}

// QuantizeValue of `count` elements, a byte each.
template <class Source>
HWY_INLINE void EncodeGroup(const uint8_t* from, size_t count,
                            const GroupParams& params, int bits,
                            uint8_t* codes) {
  const hn::ScalableTag<float> df;
  const hn::Rebind<uint32_t, decltype(df)> d32;
  const hn::Rebind<int32_t, decltype(df)> di;
  const hn::Rebind<uint8_t, decltype(df)> d8;
  const auto inverse = hn::Set(df, params.inverse);
  const auto lo = hn::Set(df, static_cast<float>(-params.zero));
  const auto hi =
      hn::Set(df, static_cast<float>((1 << bits) - 1 - params.zero));
  // Adding 1.5 * 2^23 rounds to a whole number, in the low bits of the sum.
  const auto base = hn::Set(df, 12582912.0f);
  const auto zero =
      hn::Set(d32, static_cast<uint32_t>(params.zero) - 0x4B400000u);
  size_t i = 0;
  for (; i + hn::Lanes(df) <= count; i += hn::Lanes(df)) {
    auto v = hn::Mul(Source::Load(df, from + i * Source::kBytes), inverse);
    v = hn::Min(hn::Max(v, lo), hi);
    const auto code = hn::Add(hn::BitCast(d32, hn::Add(v, base)), zero);
    // Not TruncateTo: Highway 1.0.3 gets it wrong in AVX3_DL for these types.
    StoreBytes(d8, hn::DemoteTo(d8, hn::BitCast(di, code)), codes + i);
  }
  for (; i < count; ++i) {
    codes[i] =
        QuantizeValue(Source::LoadOne(from + i * Source::kBytes), params, bits);
  }
}

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

// Parameters of the groups of a row. Returns false when an element is not
// finite. Apart from the encoding, so that the latencies of one group's
// reduction and divisions overlap with the next group's.
template <class Source>
bool RowParams(const Job& job, const uint8_t* row) {
  const size_t cols = static_cast<size_t>(job.cols);
  const size_t group = static_cast<size_t>(job.group_elems);
  GroupParams* params = job.params;
  bool finite = true;
  for (size_t begin = 0; begin < cols; begin += group) {
    float min, max;
    finite &= GroupRange<Source>(row + begin * Source::kBytes,
                                 std::min(group, cols - begin), &min, &max);
    *params++ = ComputeGroupParams(job.scheme, min, max, job.scale_dtype);
  }
  return finite;
}

template <class Source>
void EncodeRow(const Job& job, const uint8_t* row) {
  const size_t cols = static_cast<size_t>(job.cols);
  const size_t group = static_cast<size_t>(job.group_elems);
  const GroupParams* params = job.params;
  for (size_t begin = 0; begin < cols; begin += group) {
    EncodeGroup<Source>(row + begin * Source::kBytes,
                        std::min(group, cols - begin), *params++,
                        job.scheme.bits, job.codes + begin);
  }
}

// Returns the index of the first element that is not finite, or -1.
template <class Source, int kBits>
int64_t QuantizeJob(const Job& job) {
  const size_t cols = static_cast<size_t>(job.cols);
  const size_t scale_bytes = DTypeBytes(job.scale_dtype);
  uint8_t* scale = job.scales;
  uint8_t* zero = job.zeros;
  for (int64_t r = 0; r < job.rows; ++r) {
    const uint8_t* row =
        job.from + static_cast<size_t>(r) * cols * Source::kBytes;
    if (!RowParams<Source>(job, row)) {
      return r * job.cols + FirstNotFinite<Source>(row, job.cols);
    }
    for (int64_t g = 0; g < job.groups; ++g) {
      StoreScale(job.params[g].scale, job.scale_dtype, scale);
      scale += scale_bytes;
      if (zero != nullptr) *zero++ = static_cast<uint8_t>(job.params[g].zero);
    }
    EncodeRow<Source>(job, row);
    PackRow<kBits>(job.codes, cols, job.row_bytes,
                   job.packed + static_cast<size_t>(r) * job.row_bytes);
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

  // Zeroed, so that the padding of the last block is.
  AlignedArray<uint8_t> codes(static_cast<size_t>(cols) + kAlignment);
  AlignedArray<GroupParams> params(static_cast<size_t>(shape.groups));
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
      codes.data(),
      params.data()};
  const int64_t bad =
      dtype == DType::kF32   ? HWY_DYNAMIC_DISPATCH(QuantizeF32)(job)
      : dtype == DType::kF16 ? HWY_DYNAMIC_DISPATCH(QuantizeF16)(job)
                             : HWY_DYNAMIC_DISPATCH(QuantizeBF16)(job);
  if (bad >= 0) return bad;
  return absl::nullopt;
}

}  // namespace qeff
#endif  // HWY_ONCE
