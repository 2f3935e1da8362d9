// SPDX-License-Identifier: Apache-2.0
//
// Attention of one layer of llama-1b (32 heads, 4 key-value heads of 64):
// prefill in GFLOP/s, decoding in bytes of cache a second beside a plain read.
// Arguments: threads, positions before the tokens, tokens. A step takes its
// turn over several layers, so that decoding finds nothing in the caches.

#include <cstdint>
#include <memory>
#include <vector>

#include "benchmark/benchmark.h"
#include "qeff/kernels/attention/attend.h"
#include "qeff/kernels/attention/attention_testutil.h"
#include "qeff/kernels/attention/kv_layout.h"
#include "qeff/kernels/attention/store_kv.h"
#include "qeff/kernels/matmul_int/matmul_int_peak.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/aligned.h"

namespace qeff {
namespace {

constexpr int64_t kKvHeads = 4;
constexpr int64_t kHeads = 8;  // a key-value head
constexpr int64_t kHeadDim = 64;
constexpr int64_t kColdBytes = int64_t{256} << 20;

// The caches of several layers, and one layer's queries.
class Layers {
 public:
  Layers(DType dtype, int threads, int64_t before, int64_t tokens,
         int64_t cold_bytes)
      : pool_(*CreateThreadPool(threads)),
        layout_(*KvLayout::Create(dtype, kHeadDim)),
        before_(before),
        tokens_(tokens),
        region_bytes_(
            static_cast<int64_t>(layout_.RegionBytes(before + tokens).value())),
        layers_(1 + cold_bytes / (kKvHeads * region_bytes_)),
        cache_(static_cast<size_t>(layers_ * kKvHeads * region_bytes_)),
        q_(RandomFloats(tokens * kStride, 3)),
        out_(q_.size()),
        scratch_bytes_(AttendScratchBytes(layout_)),
        scratch_(static_cast<size_t>(threads * scratch_bytes_)) {
    const std::vector<float> kv = RandomFloats((before + tokens) * kHeadDim, 1);
    pool_->ParallelFor(layers_ * kKvHeads, 1,
                       [&](int64_t begin, int64_t end, int) {
                         for (int64_t i = begin; i < end; ++i) {
                           StoreKv(layout_, Region(i), 0, before + tokens, kv,
                                   kHeadDim, kv, kHeadDim);
                         }
                       });
  }

  void Run(int64_t layer) {
    // 16 parts a key-value head, the last of which are the longest.
    const int64_t parts = std::min<int64_t>(16, tokens_);
    pool_->ParallelFor(kKvHeads * parts, 1,
                       [&](int64_t begin, int64_t end, int thread) {
                         for (int64_t i = begin; i < end; ++i) {
                           const int64_t part = parts - 1 - i / kKvHeads;
                           RunPart(layer, i % kKvHeads, part * tokens_ / parts,
                                   (part + 1) * tokens_ / parts, thread);
                         }
                       });
  }

  void Store() {
    pool_->ParallelFor(kKvHeads, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        StoreKv(layout_, Region(i), before_, tokens_, q_, kStride, q_, kStride);
      }
    });
  }

  int64_t layers() const { return layers_; }
  ThreadPool& pool() { return *pool_; }
  const AlignedArray<uint8_t>& cache() const { return cache_; }
  int64_t layer_bytes() const { return kKvHeads * region_bytes_; }

 private:
  static constexpr int64_t kStride = kKvHeads * kHeads * kHeadDim;

  absl::Span<uint8_t> Region(int64_t i) {
    return cache_.span().subspan(static_cast<size_t>(i * region_bytes_),
                                 static_cast<size_t>(region_bytes_));
  }

  void RunPart(int64_t layer, int64_t kv_head, int64_t begin, int64_t end,
               int thread) {
    AttendOptions options;
    options.heads = kHeads;
    options.scale = 0.125f;
    const size_t at =
        static_cast<size_t>(begin * kStride + kv_head * kHeads * kHeadDim);
    AttendTokens part;
    part.first_position = before_ + begin;
    part.tokens = end - begin;
    part.q = absl::MakeConstSpan(q_).subspan(at);
    part.out = absl::MakeSpan(out_).subspan(at);
    part.q_stride_elems = part.out_stride_elems = kStride;
    Attend(layout_, Region(layer * kKvHeads + kv_head), options, part,
           scratch_.span().subspan(static_cast<size_t>(thread * scratch_bytes_),
                                   static_cast<size_t>(scratch_bytes_)));
  }

  std::unique_ptr<ThreadPool> pool_;
  KvLayout layout_;
  int64_t before_;
  int64_t tokens_;
  int64_t region_bytes_;
  int64_t layers_;
  AlignedArray<uint8_t> cache_;
  std::vector<float> q_;
  std::vector<float> out_;
  int64_t scratch_bytes_;
  AlignedArray<uint8_t> scratch_;
};

void BM_Prefill(benchmark::State& state, DType dtype) {
  const int64_t before = state.range(1), tokens = state.range(2);
  Layers layers(dtype, static_cast<int>(state.range(0)), before, tokens, 0);
  for (auto _ : state) layers.Run(0);
  // Two products of a multiplication and an addition for each pair.
  const double pairs =
      static_cast<double>(tokens) *
      (static_cast<double>(before) + static_cast<double>(tokens + 1) / 2);
  state.counters["GFLOP/s"] = benchmark::Counter(
      4e-9 * pairs * static_cast<double>(kKvHeads * kHeads * kHeadDim) *
          static_cast<double>(state.iterations()),
      benchmark::Counter::kIsRate);
}

void BM_Decode(benchmark::State& state, DType dtype) {
  Layers layers(dtype, static_cast<int>(state.range(0)), state.range(1), 1,
                kColdBytes);
  int64_t layer = 0;
  for (auto _ : state) layers.Run(layer++ % layers.layers());
  state.SetBytesProcessed(state.iterations() * layers.layer_bytes());
}

void BM_Read(benchmark::State& state) {
  Layers layers(DType::kF32, static_cast<int>(state.range(0)), state.range(1),
                1, kColdBytes);
  const int64_t part = layers.layer_bytes() / kKvHeads;
  int64_t layer = 0;
  for (auto _ : state) {
    const uint8_t* data =
        layers.cache().data() + layer++ % layers.layers() * kKvHeads * part;
    layers.pool().ParallelFor(kKvHeads, 1,
                              [&](int64_t begin, int64_t end, int) {
                                for (int64_t i = begin; i < end; ++i) {
                                  ReadMemory(data + i * part, part, true);
                                }
                              });
  }
  state.SetBytesProcessed(state.iterations() * layers.layer_bytes());
}

void BM_Store(benchmark::State& state, DType dtype) {
  Layers layers(dtype, static_cast<int>(state.range(0)), state.range(1),
                state.range(2), 0);
  for (auto _ : state) layers.Store();
}

void PrefillShapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"threads", "before", "tokens"})->UseRealTime();
  b->Unit(benchmark::kMicrosecond);
  b->Args({1, 0, 256})->Args({2, 0, 256})->Args({2, 7936, 256});
}

void DecodeShapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"threads", "before"})->UseRealTime();
  b->Unit(benchmark::kMicrosecond);
  b->Args({1, 8191})->Args({2, 8191})->Args({2, 255});
}

BENCHMARK_CAPTURE(BM_Prefill, f32, DType::kF32)->Apply(PrefillShapes);
BENCHMARK_CAPTURE(BM_Prefill, f16, DType::kF16)->Apply(PrefillShapes);
BENCHMARK_CAPTURE(BM_Prefill, int8, DType::kI8)->Apply(PrefillShapes);
BENCHMARK_CAPTURE(BM_Store, f32, DType::kF32)->Args({1, 0, 256});
BENCHMARK_CAPTURE(BM_Store, f16, DType::kF16)->Args({1, 0, 256});
BENCHMARK_CAPTURE(BM_Store, int8, DType::kI8)->Args({1, 0, 256});
BENCHMARK_CAPTURE(BM_Decode, f32, DType::kF32)->Apply(DecodeShapes);
BENCHMARK_CAPTURE(BM_Decode, f16, DType::kF16)->Apply(DecodeShapes);
BENCHMARK_CAPTURE(BM_Decode, int8, DType::kI8)->Apply(DecodeShapes);
BENCHMARK(BM_Read)->Apply(DecodeShapes);

}  // namespace
}  // namespace qeff
