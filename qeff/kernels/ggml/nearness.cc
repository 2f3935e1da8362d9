// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/ggml/nearness.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/ggml/nearness.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "qeff/util/check.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Below these sizes whole vectors of any target may be missing.
constexpr size_t kRun = 256;

// Whether all of kRun values are below `limit`.
HWY_INLINE bool AllBelow(const float* HWY_RESTRICT x, float limit) {
  const hn::ScalableTag<float> df;
  const auto bound = hn::Set(df, limit);
  auto good = hn::FirstN(df, hn::Lanes(df));
  for (size_t i = 0; i < kRun; i += hn::Lanes(df)) {
    good = hn::And(good, hn::Lt(hn::Abs(hn::LoadU(df, x + i)), bound));
  }
  return hn::AllTrue(df, good);
}

size_t RunsBelow(const float* x, size_t runs, float limit) {
  size_t run = 0;
  while (run < runs && AllBelow(x + run * kRun, limit)) ++run;
  return run;
}

// Whether |b - a| <= relative * |a| + absolute for all of kRun elements.
HWY_INLINE bool AllNear(const float* HWY_RESTRICT a,
                        const float* HWY_RESTRICT b, float relative,
                        float absolute) {
  const hn::ScalableTag<float> df;
  const auto factor = hn::Set(df, relative);
  const auto offset = hn::Set(df, absolute);
  auto good = hn::FirstN(df, hn::Lanes(df));
  for (size_t i = 0; i < kRun; i += hn::Lanes(df)) {
    const auto v = hn::LoadU(df, a + i);
    const auto limit = hn::Add(hn::Mul(factor, hn::Abs(v)), offset);
    const auto far = hn::Abs(hn::Sub(hn::LoadU(df, b + i), v));
    good = hn::And(good, hn::Le(far, limit));
  }
  return hn::AllTrue(df, good);
}

size_t RunsNear(const float* a, const float* b, size_t runs, float relative,
                float absolute) {
  size_t run = 0;
  while (run < runs &&
         AllNear(a + run * kRun, b + run * kRun, relative, absolute)) {
    ++run;
  }
  return run;
}

// Blocks of a multiple of 32 elements before the first with one that is
// further.
size_t BlocksNear(const float* a, const float* b, size_t blocks,
                  size_t block_elems, float relative, float absolute) {
  const hn::CappedTag<float, 32> df;
  const size_t lanes = hn::Lanes(df);
  for (size_t block = 0; block < blocks; ++block) {
    auto largest = hn::Zero(df);
    for (size_t i = 0; i < block_elems; i += lanes) {
      largest = hn::Max(largest, hn::Abs(hn::LoadU(df, a + i)));
    }
    const float m = hn::GetLane(hn::MaxOfLanes(df, largest));
    const auto limit = hn::Set(df, relative * m + absolute);
    auto good = hn::FirstN(df, lanes);
    for (size_t i = 0; i < block_elems; i += lanes) {
      const auto far =
          hn::Abs(hn::Sub(hn::LoadU(df, b + i), hn::LoadU(df, a + i)));
      good = hn::And(good, hn::Le(far, limit));
    }
    if (!hn::AllTrue(df, good)) return block;
    a += block_elems;
    b += block_elems;
  }
  return blocks;
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {

HWY_EXPORT(RunsBelow);
HWY_EXPORT(RunsNear);
HWY_EXPORT(BlocksNear);

namespace {

constexpr size_t kRun = 256;

}  // namespace

int64_t FirstNotBelow(float limit, absl::Span<const float> values) {
  size_t i = kRun * HWY_DYNAMIC_DISPATCH(RunsBelow)(
                        values.data(), values.size() / kRun, limit);
  while (i < values.size() && std::fabs(values[i]) < limit) ++i;
  return static_cast<int64_t>(i);
}

int64_t FirstFurther(absl::Span<const float> a, absl::Span<const float> b,
                     int64_t block_elems, float relative, float absolute) {
  QEFF_CHECK(block_elems >= 1 && a.size() == b.size());
  const size_t block = static_cast<size_t>(block_elems);
  QEFF_CHECK(a.size() % block == 0);
  size_t first = 0;
  if (block == 1) {
    first = kRun * HWY_DYNAMIC_DISPATCH(RunsNear)(
                       a.data(), b.data(), a.size() / kRun, relative, absolute);
  } else if (block % 32 == 0) {
    first = block * HWY_DYNAMIC_DISPATCH(BlocksNear)(a.data(), b.data(),
                                                     a.size() / block, block,
                                                     relative, absolute);
  }
  for (; first < a.size(); first += block) {
    float largest = 0;
    for (size_t i = first; i < first + block; ++i) {
      largest = std::max(largest, std::fabs(a[i]));
    }
    const float limit = relative * largest + absolute;
    for (size_t i = first; i < first + block; ++i) {
      // Not of a NaN either.
      if (!(std::fabs(b[i] - a[i]) <= limit)) return static_cast<int64_t>(i);
    }
  }
  return static_cast<int64_t>(a.size());
}

}  // namespace qeff
#endif  // HWY_ONCE
