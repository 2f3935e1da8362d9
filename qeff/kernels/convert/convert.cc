// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/convert/convert.h"

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/convert/convert.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "qeff/kernels/convert/convert-inl.h"
#include "qeff/util/check.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace HWY_NAMESPACE {

template <class Source>
void Widen(const uint8_t* from, size_t count, float* to) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(Source::Load(df, from + i * Source::kBytes), df, to + i);
  }
  for (; i < count; ++i) to[i] = Source::LoadOne(from + i * Source::kBytes);
}

void BF16ToFloats(const uint8_t* from, size_t count, float* to) {
  Widen<BF16Bytes>(from, count, to);
}

void F16ToFloats(const uint8_t* from, size_t count, float* to) {
  Widen<F16Bytes>(from, count, to);
}

void FloatsToBF16(const float* from, size_t count, uint8_t* to) {
  const hn::ScalableTag<float> df;
  const hn::Rebind<uint16_t, decltype(df)> d16;
  const size_t lanes = hn::Lanes(df);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto bits = ToBF16Bits(df, hn::LoadU(df, from + i));
    StoreBytes(d16, hn::TruncateTo(d16, bits), to + 2 * i);
  }
  for (; i < count; ++i) {
    const uint16_t bits = FloatToBF16(from[i]);
    std::memcpy(to + 2 * i, &bits, sizeof(bits));
  }
}

void FloatsToF16(const float* from, size_t count, uint8_t* to) {
  const hn::ScalableTag<float> df;
  const hn::Rebind<uint16_t, decltype(df)> d16;
  const size_t lanes = hn::Lanes(df);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto bits = ToF16Bits(df, hn::LoadU(df, from + i));
    StoreBytes(d16, hn::TruncateTo(d16, bits), to + 2 * i);
  }
  for (; i < count; ++i) {
    const uint16_t bits = FloatToF16(from[i]);
    std::memcpy(to + 2 * i, &bits, sizeof(bits));
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {

HWY_EXPORT(BF16ToFloats);
HWY_EXPORT(F16ToFloats);
HWY_EXPORT(FloatsToBF16);
HWY_EXPORT(FloatsToF16);

namespace {

// One element at a time, for types that are too rare for vectors.
template <typename T, typename Function>
void WidenScalar(const uint8_t* from, absl::Span<float> to, Function widen) {
  for (float& value : to) {
    T element;
    std::memcpy(&element, from, sizeof(element));
    from += sizeof(element);
    value = widen(element);
  }
}

}  // namespace

void ConvertToFloat(DType dtype, absl::Span<const uint8_t> from,
                    absl::Span<float> to) {
  QEFF_CHECK(from.size() == to.size() * DTypeBytes(dtype));
  if (to.empty()) return;
  switch (dtype) {
    case DType::kF32:
      std::memcpy(to.data(), from.data(), from.size());
      return;
    case DType::kBF16:
      HWY_DYNAMIC_DISPATCH(BF16ToFloats)(from.data(), to.size(), to.data());
      return;
    case DType::kF16:
      HWY_DYNAMIC_DISPATCH(F16ToFloats)(from.data(), to.size(), to.data());
      return;
    case DType::kF64:
      return WidenScalar<double>(
          from.data(), to, [](double x) { return static_cast<float>(x); });
    case DType::kF8E4M3:
      return WidenScalar<uint8_t>(from.data(), to, F8E4M3ToFloat);
    case DType::kF8E5M2:
      return WidenScalar<uint8_t>(from.data(), to, F8E5M2ToFloat);
    default:
      QEFF_CHECK(IsFloating(dtype));
  }
}

void ConvertFromFloat(absl::Span<const float> from, DType dtype,
                      absl::Span<uint8_t> to) {
  QEFF_CHECK(to.size() == from.size() * DTypeBytes(dtype));
  QEFF_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 ||
             dtype == DType::kF16);
  if (from.empty()) return;
  if (dtype == DType::kF32) {
    std::memcpy(to.data(), from.data(), to.size());
  } else if (dtype == DType::kBF16) {
    HWY_DYNAMIC_DISPATCH(FloatsToBF16)(from.data(), from.size(), to.data());
  } else {
    HWY_DYNAMIC_DISPATCH(FloatsToF16)(from.data(), from.size(), to.data());
  }
}

}  // namespace qeff
#endif  // HWY_ONCE
