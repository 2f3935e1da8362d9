// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_int/matmul_int_peak.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/matmul_int/matmul_int_peak.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <cstdint>

#include "qeff/kernels/matmul_int/dot-inl.h"
#include "qeff/kernels/prefetch/stream_fetcher.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_matmul_int {
namespace HWY_NAMESPACE {

constexpr int kSums = 12;
constexpr int64_t kPageBytes = StreamFetcher::kPageBytes;

// Returned so that the work is not removed.
int32_t DotProducts(int64_t steps) {
  VI sums[kSums];
  HWY_UNROLL(12)
  for (int i = 0; i < kSums; ++i) sums[i] = hn::Set(I32(), i);
  const WeightWord w(hn::Set(U32(), 0x01020304u));
  const TokenWord x(0x04030201);
  for (int64_t s = 0; s < steps; ++s) {
    HWY_UNROLL(12)
    for (int i = 0; i < kSums; ++i) sums[i] = Dot(sums[i], w, x);
  }
  auto total = sums[0];
  HWY_UNROLL(12)
  for (int i = 1; i < kSums; ++i) total = hn::Add(total, sums[i]);
  return hn::GetLane(total);
}

int64_t OperationsOfStep() { return kSums * kLanes * 4 * 2; }

// `kPages`: a line of each page is fetched long before the rest.
template <bool kPages>
int32_t ReadAll(const uint8_t* from, int64_t size_bytes) {
  constexpr int64_t kVectorBytes = 4 * kLanes;
  auto total0 = hn::Zero(U32()), total1 = hn::Zero(U32());
  for (int64_t begin = 0; begin + kPageBytes <= size_bytes;
       begin += kPageBytes) {
    const uint8_t* page = from + begin;
    if (kPages) hwy::Prefetch(page + StreamFetcher::kPageAheadBytes);
    for (int64_t i = 0; i < kPageBytes; i += 2 * kVectorBytes) {
      const uint32_t* p = reinterpret_cast<const uint32_t*>(page + i);
      total0 = hn::Xor(total0, hn::Load(U32(), p));
      total1 = hn::Xor(total1, hn::Load(U32(), p + kLanes));
    }
  }
  return hn::GetLane(hn::BitCast(I32(), hn::Xor(total0, total1)));
}

int32_t Read(const uint8_t* from, int64_t size_bytes, bool fetch_pages) {
  return fetch_pages ? ReadAll<true>(from, size_bytes)
                     : ReadAll<false>(from, size_bytes);
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_matmul_int
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_matmul_int {
HWY_EXPORT(DotProducts);
HWY_EXPORT(OperationsOfStep);
HWY_EXPORT(Read);

void RunDotProductsOnce(int64_t steps) {
  volatile int32_t sink = HWY_DYNAMIC_DISPATCH(DotProducts)(steps);
  (void)sink;
}
int64_t Operations() { return HWY_DYNAMIC_DISPATCH(OperationsOfStep)(); }
void ReadOnce(const uint8_t* from, int64_t size_bytes, bool fetch_pages) {
  volatile int32_t sink =
      HWY_DYNAMIC_DISPATCH(Read)(from, size_bytes, fetch_pages);
  (void)sink;
}
}  // namespace internal_matmul_int

void RunDotProducts(int64_t steps) {
  internal_matmul_int::RunDotProductsOnce(steps);
}

int64_t OperationsOfDotProducts() { return internal_matmul_int::Operations(); }

void ReadMemory(const uint8_t* from, int64_t size_bytes, bool fetch_pages) {
  internal_matmul_int::ReadOnce(from, size_bytes, fetch_pages);
}

}  // namespace qeff
#endif  // HWY_ONCE
