// SPDX-License-Identifier: Apache-2.0

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/matvec/matvec.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <cstring>

#include "qeff/kernels/matvec/matvec.h"
#include "qeff/kernels/prefetch/stream_fetcher.h"
#include "qeff/util/check.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_matvec {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using U32 = hn::RebindToUnsigned<F32>;
using U16 = hn::Rebind<uint16_t, F32>;
using V = hn::Vec<F32>;

constexpr int kN = static_cast<int>(hn::MaxLanes(F32()));
// Vectors that hold the partial sums of one row.
constexpr int kVectors = static_cast<int>(kMatVecLanes) / kN;
// Rows at a time: eight accumulators hide the latency of addition and, with
// the loaded x, fit the registers of every target.
constexpr int kRowsAtOnce = kN < 8 ? 1 : kN / 4;

// Loads `kN` elements at any address. One lane has no unaligned load of its
// own in Highway.
template <typename D>
hn::Vec<D> LoadBytes(D d, const uint8_t* p) {
  using T = hn::TFromD<D>;
#if HWY_TARGET == HWY_SCALAR
  T value;
  std::memcpy(&value, p, sizeof(value));
  return hn::Set(d, value);
#else
  return hn::LoadU(d, reinterpret_cast<const T*>(p));
#endif
}

struct LoadF32 {
  static constexpr int64_t kBytes = 4;
  static V Load(const uint8_t* p) { return LoadBytes(F32(), p); }
};

struct LoadBF16 {
  static constexpr int64_t kBytes = 2;
  static V Load(const uint8_t* p) {
    const auto wide = hn::PromoteTo(U32(), LoadBytes(U16(), p));
    return hn::BitCast(F32(), hn::ShiftLeft<16>(wide));
  }
};

struct LoadF16 {
  static constexpr int64_t kBytes = 2;
  static V Load(const uint8_t* p) {
    const auto half = LoadBytes(U16(), p);
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_SSSE3 || \
    HWY_TARGET == HWY_SSE4
    // Highway's emulation makes finite numbers of infinity and NaN. Here: the
    // exponent field of float counts from 127 and not 15, which a factor of
    // 2^112 corrects, subnormals included.
    const U32 du;
    const auto bits = hn::PromoteTo(du, half);
    const auto magnitude = hn::And(bits, hn::Set(du, 0x7FFF));
    const auto sign = hn::ShiftLeft<16>(hn::Xor(bits, magnitude));
    const auto scaled =
        hn::Mul(hn::BitCast(F32(), hn::ShiftLeft<13>(magnitude)),
                hn::Set(F32(), 5.192296858534828e33f));
    const auto special =
        hn::And(hn::VecFromMask(du, hn::Gt(magnitude, hn::Set(du, 0x7BFF))),
                hn::Set(du, 0x7F800000));
    return hn::BitCast(F32(),
                       hn::Or(hn::Or(hn::BitCast(du, scaled), special), sign));
#else
    const hn::Rebind<hwy::float16_t, F32> df16;
    return hn::PromoteTo(F32(), hn::BitCast(df16, half));
#endif
  }
};

// acc[r][v] += W[r, c + v * kN ...] * x[c + v * kN ...].
template <typename Loader, int kRows>
HWY_INLINE void MultiplyAdd(const uint8_t* w, int64_t stride_bytes,
                            const float* x, V (&acc)[kRows][kVectors]) {
  HWY_UNROLL(32)
  for (int v = 0; v < kVectors; ++v) {
    const V xv = hn::LoadU(F32(), x + v * kN);
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) {
      const uint8_t* p = w + r * stride_bytes + v * kN * Loader::kBytes;
      acc[r][v] = hn::Add(acc[r][v], hn::Mul(Loader::Load(p), xv));
    }
  }
}

// Lane l gets lane l + half of them, until there is one.
#if HWY_TARGET == HWY_SCALAR
HWY_INLINE float SumHalves(F32 /*d*/, V v) { return hn::GetLane(v); }
#else
template <class D>
HWY_INLINE float SumHalves(D /*d*/, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) == 1) {
    return hn::GetLane(v);
  } else {
    const hn::Half<D> half;
    return SumHalves(half,
                     hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}
#endif

// The tree: lane l of 32 gets lane l + 16, then l + 8, and so on.
HWY_INLINE float SumLanes(V (&acc)[kVectors]) {
  HWY_UNROLL(8)
  for (int half = kVectors / 2; half >= 1; half /= 2) {
    HWY_UNROLL(16)
    for (int v = 0; v < half; ++v) acc[v] = hn::Add(acc[v], acc[v + half]);
  }
  return SumHalves(F32(), acc[0]);
}

// `ahead` are rows of weights to fetch meanwhile: hardware follows a row only
// to the end of its 4 KiB page, which is all of it for 2048 columns of 16 bits
// (measured on a Zen 4 for rows larger than the caches: bf16 15 GB/s without
// and with lines that are fetched into L1, 22 with lines into L2; float32 20,
// 25). `x_tail` holds the last cols % 32 elements of x, then zeros.
template <typename Loader, int kRows>
void DotRows(const uint8_t* w, const uint8_t* ahead, int64_t stride_bytes,
             int64_t cols, const float* x, const float* x_tail, float* y) {
  V acc[kRows][kVectors];
  HWY_UNROLL(4)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(32)
    for (int v = 0; v < kVectors; ++v) acc[r][v] = hn::Zero(F32());
  }
  int64_t c = 0;
  for (; c + kMatVecLanes <= cols; c += kMatVecLanes) {
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) {
      HWY_UNROLL(2)
      for (int64_t i = 0; i < kMatVecLanes * Loader::kBytes; i += 64) {
        FetchIntoL2(ahead + r * stride_bytes + c * Loader::kBytes + i);
      }
    }
    MultiplyAdd<Loader, kRows>(w + c * Loader::kBytes, stride_bytes, x + c,
                               acc);
  }
  if (c < cols) {
    // Zeros add +0 to partial sums, which are never -0: no bit changes.
    constexpr int64_t kPaddedBytes = kMatVecLanes * Loader::kBytes;
    HWY_ALIGN uint8_t tail[kRows * kPaddedBytes] = {};
    for (int r = 0; r < kRows; ++r) {
      std::memcpy(tail + r * kPaddedBytes,
                  w + r * stride_bytes + c * Loader::kBytes,
                  static_cast<size_t>((cols - c) * Loader::kBytes));
    }
    MultiplyAdd<Loader, kRows>(tail, kPaddedBytes, x_tail, acc);
  }
  HWY_UNROLL(4)
  for (int r = 0; r < kRows; ++r) y[r] = SumLanes(acc[r]);
}

template <typename Loader>
void MatVecOf(const WeightRows& w, const float* x, float* y) {
  const int64_t stride_bytes = w.stride_elems * Loader::kBytes;
  const int64_t tail = w.cols % kMatVecLanes;
  HWY_ALIGN float x_tail[kMatVecLanes] = {};
  if (tail != 0) {
    std::memcpy(x_tail, x + w.cols - tail,
                static_cast<size_t>(tail) * sizeof(float));
  }
  int64_t r = 0;
  for (; r + kRowsAtOnce <= w.rows; r += kRowsAtOnce) {
    const uint8_t* rows = w.data + r * stride_bytes;
    const bool more = r + 2 * kRowsAtOnce <= w.rows;
    const uint8_t* ahead = more ? rows + kRowsAtOnce * stride_bytes : rows;
    DotRows<Loader, kRowsAtOnce>(rows, ahead, stride_bytes, w.cols, x, x_tail,
                                 y + r);
  }
  for (; r < w.rows; ++r) {
    const uint8_t* row = w.data + r * stride_bytes;
    DotRows<Loader, 1>(row, row, stride_bytes, w.cols, x, x_tail, y + r);
  }
}

// A block of rows and vectors shares its loads: 4 * 3 * 2 sums fill the
// registers of AVX-512, 3 * 4 those of AVX2.
constexpr int kRowsOfBlock = kN == 16 ? 4 : 1;
constexpr int kVectorsOfBlock = kN >= 8 ? 3 : 1;

// acc[r][t] += 32 columns of row r times those of vector t.
template <typename Loader, int kRows, int kCount>
HWY_INLINE void MultiplyAddBlock(const uint8_t* w, int64_t stride_bytes,
                                 const float* x, int64_t x_stride_elems,
                                 V (&acc)[kRows][kCount][kVectors]) {
  HWY_UNROLL(32)
  for (int v = 0; v < kVectors; ++v) {
    V weights[kRows];
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) {
      weights[r] = Loader::Load(w + r * stride_bytes + v * kN * Loader::kBytes);
    }
    HWY_UNROLL(4)
    for (int t = 0; t < kCount; ++t) {
      const V xv = hn::LoadU(F32(), x + t * x_stride_elems + v * kN);
      HWY_UNROLL(4)
      for (int r = 0; r < kRows; ++r) {
        acc[r][t][v] = hn::Add(acc[r][t][v], hn::Mul(weights[r], xv));
      }
    }
  }
}

// Rows and vectors of a block; `y` is that of its first row and vector.
template <typename Loader, int kRows, int kCount>
void DotBlock(const uint8_t* w, int64_t stride_bytes, int64_t cols,
              const float* x, int64_t x_stride_elems, float* y,
              int64_t y_stride_elems) {
  V acc[kRows][kCount][kVectors];
  HWY_UNROLL(4)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(4)
    for (int t = 0; t < kCount; ++t) {
      HWY_UNROLL(32)
      for (int v = 0; v < kVectors; ++v) acc[r][t][v] = hn::Zero(F32());
    }
  }
  int64_t c = 0;
  for (; c + kMatVecLanes <= cols; c += kMatVecLanes) {
    MultiplyAddBlock<Loader, kRows, kCount>(
        w + c * Loader::kBytes, stride_bytes, x + c, x_stride_elems, acc);
  }
  if (c < cols) {
    // Zeros add +0 to partial sums, which are never -0: no bit changes.
    constexpr int64_t kPaddedBytes = kMatVecLanes * Loader::kBytes;
    HWY_ALIGN uint8_t w_tail[kRows * kPaddedBytes] = {};
    HWY_ALIGN float x_tail[kCount * kMatVecLanes] = {};
    for (int r = 0; r < kRows; ++r) {
      std::memcpy(w_tail + r * kPaddedBytes,
                  w + r * stride_bytes + c * Loader::kBytes,
                  static_cast<size_t>((cols - c) * Loader::kBytes));
    }
    for (int t = 0; t < kCount; ++t) {
      std::memcpy(x_tail + t * kMatVecLanes, x + t * x_stride_elems + c,
                  static_cast<size_t>(cols - c) * sizeof(float));
    }
    MultiplyAddBlock<Loader, kRows, kCount>(w_tail, kPaddedBytes, x_tail,
                                            kMatVecLanes, acc);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kCount; ++t) {
      y[t * y_stride_elems + r] = SumLanes(acc[r][t]);
    }
  }
}

// kRows rows, which stay in L1, times all vectors.
template <typename Loader, int kRows>
void DotRowsWithAll(const uint8_t* w, int64_t stride_bytes, int64_t cols,
                    const VectorRows& x, float* y, int64_t y_stride_elems) {
  int64_t t = 0;
  for (; t + kVectorsOfBlock <= x.count; t += kVectorsOfBlock) {
    DotBlock<Loader, kRows, kVectorsOfBlock>(
        w, stride_bytes, cols, x.x.data() + t * x.stride_elems, x.stride_elems,
        y + t * y_stride_elems, y_stride_elems);
  }
  for (; t < x.count; ++t) {
    DotBlock<Loader, kRows, 1>(w, stride_bytes, cols,
                               x.x.data() + t * x.stride_elems, x.stride_elems,
                               y + t * y_stride_elems, y_stride_elems);
  }
}

template <typename Loader>
void MatVecsOf(const WeightRows& w, const VectorRows& x, float* y,
               int64_t y_stride_elems) {
  const int64_t stride_bytes = w.stride_elems * Loader::kBytes;
  int64_t r = 0;
  for (; r + kRowsOfBlock <= w.rows; r += kRowsOfBlock) {
    DotRowsWithAll<Loader, kRowsOfBlock>(w.data + r * stride_bytes,
                                         stride_bytes, w.cols, x, y + r,
                                         y_stride_elems);
  }
  for (; r < w.rows; ++r) {
    DotRowsWithAll<Loader, 1>(w.data + r * stride_bytes, stride_bytes, w.cols,
                              x, y + r, y_stride_elems);
  }
}

void MatVecsAny(const WeightRows& w, const VectorRows& x, float* y,
                int64_t y_stride_elems) {
  switch (w.dtype) {
    case DType::kBF16:
      return MatVecsOf<LoadBF16>(w, x, y, y_stride_elems);
    case DType::kF16:
      return MatVecsOf<LoadF16>(w, x, y, y_stride_elems);
    default:
      return MatVecsOf<LoadF32>(w, x, y, y_stride_elems);
  }
}

void MatVecAny(const WeightRows& w, const float* x, float* y) {
  switch (w.dtype) {
    case DType::kBF16:
      return MatVecOf<LoadBF16>(w, x, y);
    case DType::kF16:
      return MatVecOf<LoadF16>(w, x, y);
    default:
      return MatVecOf<LoadF32>(w, x, y);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_matvec
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_matvec {
HWY_EXPORT(MatVecAny);
HWY_EXPORT(MatVecsAny);

// HWY_DYNAMIC_DISPATCH names a function of this namespace, also when the
// target is chosen at compile time.
void Run(const WeightRows& w, const float* x, float* y) {
  HWY_DYNAMIC_DISPATCH(MatVecAny)(w, x, y);
}
void Run(const WeightRows& w, const VectorRows& x, float* y,
         int64_t y_stride_elems) {
  HWY_DYNAMIC_DISPATCH(MatVecsAny)(w, x, y, y_stride_elems);
}

}  // namespace internal_matvec

WeightRows WeightRows::Rows(int64_t begin, int64_t count) const {
  QEFF_DCHECK(begin >= 0 && count >= 0 && begin + count <= rows);
  WeightRows part = *this;
  part.data += begin * stride_elems * static_cast<int64_t>(DTypeBytes(dtype));
  part.rows = count;
  return part;
}

void MatVec(const WeightRows& w, absl::Span<const float> x,
            absl::Span<float> y) {
  QEFF_CHECK(MatVecSupports(w.dtype) && w.cols >= 0 &&
             w.stride_elems >= w.cols);
  QEFF_CHECK(static_cast<int64_t>(x.size()) == w.cols &&
             static_cast<int64_t>(y.size()) == w.rows);
  internal_matvec::Run(w, x.data(), y.data());
}

void MatVecs(const WeightRows& w, const VectorRows& x, absl::Span<float> y,
             int64_t y_stride_elems) {
  QEFF_CHECK(MatVecSupports(w.dtype) && w.cols >= 0 &&
             w.stride_elems >= w.cols);
  QEFF_CHECK(x.count >= 1 && x.stride_elems >= w.cols &&
             static_cast<int64_t>(x.x.size()) >=
                 (x.count - 1) * x.stride_elems + w.cols);
  QEFF_CHECK(y_stride_elems >= w.rows &&
             static_cast<int64_t>(y.size()) >=
                 (x.count - 1) * y_stride_elems + w.rows);
  internal_matvec::Run(w, x, y.data(), y_stride_elems);
}

}  // namespace qeff
#endif  // HWY_ONCE
