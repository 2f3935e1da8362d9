// SPDX-License-Identifier: Apache-2.0
//
// MatMulBF16 on the shapes of llama-1b beside the two limits of the machine:
// the peak of 512-bit VDPBF16PS and the bandwidth of plain reads. Limits and
// products take turns, so that other work on the machine slows all of them
// alike; counters are from medians:
//   flops         two operations a weight and token, a second
//   of_peak       share of the peak, from kFewTokens + 1 tokens on
//   weight_bytes  of weights read a second
//   of_bandwidth  share of the bandwidth, up to kFewTokens tokens
//   pack          time to pack the activations, relative to the product
// Weights rotate through 256 MiB of copies, so that they come from memory, as
// those of a model do. One thread is measured in CPU time, which does not count
// what others do.

#include <cstdint>
#include <memory>
#include <vector>

#include "benchmark/benchmark.h"
#include "qeff/kernels/limits/machine_limits.h"
#include "qeff/kernels/matmul_bf16/matmul_bf16.h"
#include "qeff/kernels/matmul_bf16/matmul_bf16_peak.h"
#include "qeff/kernels/matmul_bf16/pack_bf16_activations.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/aligned.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr int64_t kFewTokens = 8;
constexpr int64_t kColdBytes = int64_t{256} << 20;

// Normal numbers of either sign near 1, made once.
const AlignedArray<uint8_t>& ColdWeights() {
  static const auto* weights = [] {
    auto* bytes = new AlignedArray<uint8_t>(static_cast<size_t>(kColdBytes));
    uint64_t* words = reinterpret_cast<uint64_t*>(bytes->data());
    const Random random(1);
    for (size_t i = 0; i < bytes->size() / 8; ++i) {
      words[i] = (random.At(i) & 0x80FF80FF80FF80FF) | 0x3F003F003F003F00;
    }
    return bytes;
  }();
  return *weights;
}

struct Medians {
  double time, packing, limit;
};

void Report(benchmark::State& state, int64_t products, double weight_bytes,
            bool few, const Medians& medians) {
  const double flops = 2.0 * static_cast<double>(products) / medians.time;
  const double read = weight_bytes / medians.time;
  state.counters["flops"] = flops;
  state.counters["weight_bytes"] = read;
  state.counters[few ? "of_bandwidth" : "of_peak"] =
      (few ? read : flops) / medians.limit;
  state.counters["pack"] = medians.packing / medians.time;
}

void BM_MatMulBF16(benchmark::State& state) {
  const int64_t rows = state.range(0), cols = state.range(1);
  const int64_t tokens = state.range(2);
  const auto pool = *CreateThreadPool(static_cast<int>(state.range(3)));
  const PackedBF16Layout layout = *PackedBF16Layout::Create(rows, cols);
  const size_t bytes = static_cast<size_t>(layout.total_bytes());
  const int64_t copies = kColdBytes / layout.total_bytes();
  const BF16ActivationLayout activations(tokens, cols);
  AlignedArray<uint8_t> x(static_cast<size_t>(activations.total_bytes()));
  const std::vector<float> values(static_cast<size_t>(tokens * cols), 1.0f);
  std::vector<float> y(static_cast<size_t>(tokens * rows));
  const auto pack = [&] {
    PackBF16Activations(activations, values, cols, x.span(), *pool);
  };
  const auto multiply = [&](int64_t copy) {
    const uint8_t* w =
        ColdWeights().data() + copy % copies * layout.total_bytes();
    MatMulBF16({layout, absl::MakeConstSpan(w, bytes)}, {activations, x.span()},
               absl::MakeSpan(y), rows, *pool);
  };
  // Few tokens take little time: all copies at once.
  const bool few = tokens <= kFewTokens;
  const int64_t at_once = few ? copies : 1;
  std::vector<double> times, limits, packing;
  pack();
  int64_t next = 0;
  for (auto _ : state) {
    const double seconds = SecondsOf(*pool, [&] {
      for (int64_t i = 0; i < at_once; ++i) multiply(next++);
    });
    times.push_back(seconds / static_cast<double>(at_once));
    packing.push_back(SecondsOf(*pool, pack));
    limits.push_back(few ? ReadBandwidth(*pool, ColdWeights().span())
                         : PeakRate(*pool, RunBF16DotProducts,
                                    OperationsOfBF16DotProducts()));
    state.SetIterationTime(times.back());
  }
  Report(state, rows * cols * tokens, static_cast<double>(bytes), few,
         {Median(times), Median(packing), Median(limits)});
}

void Shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"rows", "cols", "tokens", "threads"});
  for (int threads : {1, 2}) {
    for (int64_t tokens : {1, 4, 8, 32, 128, 256}) {
      b->Args({2048, 2048, tokens, threads});
      b->Args({5632, 2048, tokens, threads});
      b->Args({2048, 5632, tokens, threads});
    }
  }
}
BENCHMARK(BM_MatMulBF16)->Apply(Shapes)->UseManualTime()->Iterations(15);

}  // namespace
}  // namespace qeff
