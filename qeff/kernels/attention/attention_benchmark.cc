// SPDX-License-Identifier: Apache-2.0
//
// Attention of one layer of llama-1b (32 heads, 4 key-value heads of 64),
// beside the limits of the machine: float32 multiplications and additions for
// prefill, reading for decoding. Every figure is a median over rounds in which
// limits and attention take turns, so that other work on the machine slows all
// of them alike.
//
//   attention_benchmark [threads [milliseconds per cell]]
//
// One thread is measured in CPU time, which does not count what others do.
// Prefill also has its share of the time that the layer's int8 products take
// at 65 % of the peak of 8-bit dot products. Decoding takes turns over 256 MiB
// of layers, so that keys and values come from memory.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "hwy/highway.h"
#include "qeff/kernels/attention/attend.h"
#include "qeff/kernels/attention/attention_testutil.h"
#include "qeff/kernels/attention/kv_layout.h"
#include "qeff/kernels/attention/store_kv.h"
#include "qeff/kernels/limits/machine_limits.h"
#include "qeff/kernels/matmul_int/matmul_int_peak.h"
#include "qeff/kernels/sgemm/fma_peak.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/aligned.h"

namespace qeff {
namespace {

constexpr int64_t kKvHeads = 4;
constexpr int64_t kHeads = 8;  // a key-value head
constexpr int64_t kHeadDim = 64;
constexpr double kLayerWeights = 44.0e6;
constexpr double kProductsOfPeak = 0.65;
constexpr int64_t kColdBytes = int64_t{256} << 20;

struct Case {
  DType dtype;
  int64_t before;  // positions before the tokens
  int64_t tokens;
};
constexpr Case kPrefills[] = {
    {DType::kF32, 0, 256},  {DType::kF16, 0, 256},    {DType::kI8, 0, 256},
    {DType::kF32, 0, 32},   {DType::kF32, 7936, 256}, {DType::kF16, 7936, 256},
    {DType::kI8, 7936, 256}};
constexpr Case kDecodes[] = {{DType::kF32, 8191, 1}, {DType::kF16, 8191, 1},
                             {DType::kI8, 8191, 1},  {DType::kF32, 255, 1},
                             {DType::kF16, 255, 1},  {DType::kI8, 255, 1}};

// Operations a second.
double FloatPeak(ThreadPool& pool) {
  return PeakRate(pool, RunFusedMultiplyAdds, OperationsOfFusedMultiplyAdds());
}
double Int8Peak(ThreadPool& pool) {
  return PeakRate(pool, RunDotProducts, OperationsOfDotProducts());
}

// The caches of several layers, and one layer's queries.
class Layers {
 public:
  Layers(const Case& c, int64_t cold_bytes, ThreadPool& pool)
      : case_(c),
        pool_(pool),
        layout_(*KvLayout::Create(c.dtype, kHeadDim)),
        region_bytes_(static_cast<int64_t>(
            layout_.RegionBytes(c.before + c.tokens).value())),
        layers_(1 + cold_bytes / (kKvHeads * region_bytes_)),
        cache_(static_cast<size_t>(layers_ * layer_bytes())),
        q_(RandomFloats(c.tokens * kStride, 3)),
        out_(q_.size()),
        scratch_bytes_(AttendScratchBytes(layout_)),
        scratch_(static_cast<size_t>(pool.num_threads() * scratch_bytes_)) {
    const int64_t positions = c.before + c.tokens;
    const std::vector<float> kv = RandomFloats(positions * kHeadDim, 1);
    for (int64_t i = 0; i < layers_ * kKvHeads; ++i) {
      StoreKv(layout_, Region(i), 0, positions, kv, kHeadDim, kv, kHeadDim);
    }
  }

  // All key-value heads; tokens in 16 parts, the longest first.
  void Attend(int64_t layer) {
    const int64_t parts = std::min<int64_t>(16, case_.tokens);
    pool_.ParallelFor(
        kKvHeads * parts, 1, [&](int64_t begin, int64_t end, int thread) {
          for (int64_t i = begin; i < end; ++i) {
            const int64_t part = parts - 1 - i / kKvHeads;
            AttendPart(layer, i % kKvHeads, part * case_.tokens / parts,
                       (part + 1) * case_.tokens / parts, thread);
          }
        });
  }

  void Store() {
    pool_.ParallelFor(kKvHeads, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        StoreKv(layout_, Region(i), case_.before, case_.tokens, q_, kStride, q_,
                kStride);
      }
    });
  }

  int64_t layers() const { return layers_; }
  const AlignedArray<uint8_t>& cache() const { return cache_; }
  int64_t layer_bytes() const { return kKvHeads * region_bytes_; }

 private:
  static constexpr int64_t kStride = kKvHeads * kHeads * kHeadDim;

  absl::Span<uint8_t> Region(int64_t i) {
    return cache_.span().subspan(static_cast<size_t>(i * region_bytes_),
                                 static_cast<size_t>(region_bytes_));
  }

  void AttendPart(int64_t layer, int64_t kv_head, int64_t begin, int64_t end,
                  int thread) {
    AttendOptions options;
    options.heads = kHeads;
    options.scale = 0.125f;
    const size_t at =
        static_cast<size_t>(begin * kStride + kv_head * kHeads * kHeadDim);
    AttendTokens part;
    part.first_position = case_.before + begin;
    part.tokens = end - begin;
    part.q = absl::MakeConstSpan(q_).subspan(at);
    part.out = absl::MakeSpan(out_).subspan(at);
    part.q_stride_elems = part.out_stride_elems = kStride;
    qeff::Attend(
        layout_, Region(layer * kKvHeads + kv_head), options, part,
        scratch_.span().subspan(static_cast<size_t>(thread * scratch_bytes_),
                                static_cast<size_t>(scratch_bytes_)));
  }

  const Case case_;
  ThreadPool& pool_;
  const KvLayout layout_;
  const int64_t region_bytes_;
  const int64_t layers_;
  AlignedArray<uint8_t> cache_;
  std::vector<float> q_;
  std::vector<float> out_;
  const int64_t scratch_bytes_;
  AlignedArray<uint8_t> scratch_;
};

void PrintPrefill(const Case& c, double seconds, ThreadPool& pool) {
  Layers layers(c, 0, pool);
  std::vector<double> times, peaks, int8_peaks, stores;
  for (double spent = 0; spent < seconds || times.size() < 5;) {
    times.push_back(SecondsOf(pool, [&] { layers.Attend(0); }));
    stores.push_back(SecondsOf(pool, [&] { layers.Store(); }));
    peaks.push_back(FloatPeak(pool));
    int8_peaks.push_back(Int8Peak(pool));
    spent += times.back();
  }
  const double tokens = static_cast<double>(c.tokens);
  const double pairs =
      tokens * (static_cast<double>(c.before) + (tokens + 1) / 2);
  // Two products of a multiplication and an addition for each pair.
  const double rate = 4 * pairs * kKvHeads * kHeads * kHeadDim / Median(times);
  const double products =
      2 * kLayerWeights * tokens / (kProductsOfPeak * Median(int8_peaks));
  std::printf("%-5s %6d %6d %9.0f %8.1f %6.0f%% %9.1f%% %9.1f%%\n",
              DTypeName(c.dtype).data(), static_cast<int>(c.before),
              static_cast<int>(c.tokens), Median(times) * 1e6, rate / 1e9,
              100 * rate / Median(peaks), 100 * Median(times) / products,
              100 * Median(stores) / products);
}

void PrintDecode(const Case& c, double seconds, ThreadPool& pool) {
  Layers layers(c, kColdBytes, pool);
  std::vector<double> times, bandwidths;
  const double n = static_cast<double>(layers.layers());
  for (double spent = 0; spent < seconds || times.size() < 5;) {
    const double time = SecondsOf(pool, [&] {
      for (int64_t i = 0; i < layers.layers(); ++i) layers.Attend(i);
    });
    times.push_back(time / n);
    bandwidths.push_back(ReadBandwidth(pool, layers.cache().span()));
    spent += time;
  }
  const double rate = static_cast<double>(layers.layer_bytes()) / Median(times);
  std::printf("%-5s %6d %6d %9.1f %8.1f %6.0f%%\n", DTypeName(c.dtype).data(),
              static_cast<int>(c.before), static_cast<int>(c.tokens),
              Median(times) * 1e6, rate / 1e9, 100 * rate / Median(bandwidths));
}

void PrintAll(int threads, double seconds) {
  const std::unique_ptr<ThreadPool> pool = *CreateThreadPool(threads);
  std::vector<double> peaks;
  for (int i = 0; i < 9; ++i) peaks.push_back(FloatPeak(*pool));
  std::printf(
      "peak %.0f GFLOP/s, %d threads, %s\n", Median(peaks) / 1e9, threads,
      hwy::TargetName(hwy::SupportedTargets() & -hwy::SupportedTargets()));
  std::printf("%-5s %6s %6s %9s %8s %7s %10s %10s\n", "cache", "before",
              "tokens", "us/layer", "GFLOP/s", "of peak", "of int8", "storing");
  for (const Case& c : kPrefills) PrintPrefill(c, seconds, *pool);
  std::printf("%-5s %6s %6s %9s %8s %7s\n", "cache", "before", "tokens",
              "us/layer", "GB/s", "of read");
  for (const Case& c : kDecodes) PrintDecode(c, seconds, *pool);
}

}  // namespace
}  // namespace qeff

int main(int argc, char** argv) {
  const int threads =
      argc > 1 ? std::atoi(argv[1]) : qeff::NumAvailableProcessors();
  const double milliseconds = argc > 2 ? std::atof(argv[2]) : 200;
  qeff::PrintAll(std::max(1, threads), milliseconds / 1e3);
  return 0;
}
